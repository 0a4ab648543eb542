"""Images and attribution maps as pictures; maps of one row share one color scale."""

from __future__ import annotations

import io

import numpy as np
import numpy.typing as npt
from PIL import Image
from reportlab.graphics.shapes import Drawing, Rect, String
from reportlab.lib.colors import Color
from reportlab.lib.utils import ImageReader

from reports.alternative import Picture
from reports.formatting import number
from reports.style import INK, RULE, SANS

Array = npt.NDArray[np.floating]

# White to dark blue, lightness falling all the way: reads in grey and saves toner.
_ANCHORS = np.array(
    [[255, 255, 255], [214, 230, 244], [147, 196, 222], [66, 135, 190], [8, 72, 142], [4, 22, 58]]
)
CLIP_PERCENTILE = 99.0


def colors(share: Array) -> npt.NDArray[np.uint8]:
    """Colors (..., 3) for values in [0, 1]; values outside are clipped."""
    where = np.clip(np.nan_to_num(np.asarray(share, dtype=np.float64)), 0, 1) * (len(_ANCHORS) - 1)
    grid = np.arange(len(_ANCHORS))
    channels = [np.interp(where, grid, _ANCHORS[:, c]) for c in range(3)]
    rounded: npt.NDArray[np.uint8] = np.rint(np.stack(channels, axis=-1)).astype(np.uint8)
    return rounded


def scale_top(*maps: Array) -> float:
    """Top of the color scale that the maps share: the 99th percentile over all of them.

    Where that percentile is zero (a few pixels hold everything) the maximum is taken instead.
    """
    pooled = np.concatenate([np.asarray(m, dtype=np.float64).ravel() for m in maps])
    top = float(np.percentile(pooled, CLIP_PERCENTILE))
    return top if top > 0 else float(pooled.max())


def map_png(magnitude: Array, top: float) -> bytes:
    """PNG of a map (H, W) at its own resolution, white at 0 and darkest at ``top``."""
    return _png(colors(np.asarray(magnitude) / (top if top > 0 else 1.0)))


def image_png(image: Array) -> bytes:
    """PNG of an image (C, H, W) in [0, 1]: gray for one channel, else its first three."""
    pixels = np.rint(np.clip(np.nan_to_num(np.asarray(image)), 0, 1) * 255).astype(np.uint8)
    return _png(pixels[0] if pixels.shape[0] < 3 else np.moveaxis(pixels[:3], 0, -1))


class _Framed(Picture):
    """A picture with a thin frame, without which a pale map has no edge."""

    def draw(self) -> None:
        """Draw the picture, then its frame."""
        super().draw()
        self.canv.setStrokeColor(RULE)
        self.canv.setLineWidth(0.4)
        self.canv.rect(0, 0, self.drawWidth, self.drawHeight)


def picture(png: bytes, *, side: float, alternative: str) -> Picture:
    """A picture that fits a square of ``side`` points, its proportions kept."""
    width, height = ImageReader(io.BytesIO(png)).getSize()
    scale = side / max(width, height)
    framed = _Framed(io.BytesIO(png), width=width * scale, height=height * scale)
    framed.alternative = alternative
    return framed


def legend(top: float, *, width: float = 90) -> Drawing:
    """The color scale from 0 to ``top``."""
    steps = 45
    drawing = Drawing(width + 60, 14)
    for step in range(steps):
        red, green, blue = (colors(np.array((step + 0.5) / steps)) / 255).tolist()
        drawing.add(
            Rect(
                10 + step * width / steps,
                4,
                width / steps + 0.2,
                8,
                fillColor=Color(red, green, blue),
                strokeColor=None,
            )
        )
    drawing.add(Rect(10, 4, width, 8, fillColor=None, strokeColor=RULE, strokeWidth=0.5))
    write = {"fontName": SANS, "fontSize": 6.3, "fillColor": INK}
    drawing.add(String(7, 5.5, "0", textAnchor="end", **write))
    drawing.add(String(13 + width, 5.5, number(top), **write))
    return drawing


def _png(pixels: npt.NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    return buffer.getvalue()
