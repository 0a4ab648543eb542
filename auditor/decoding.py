"""One hostile image file → pixels of the model's size; or an exception, never a surprise."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

EXTENSIONS = frozenset(
    ".png .jpg .jpeg .bmp .gif .webp .tif .tiff .ppm .pgm .npy".split()  # noqa: SIM905  # shorter
)
# Formats behind those extensions; Pillow knows others that start interpreters or read other files.
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF", "PPM")
MAX_FILE_BYTES = 256 * 2**20
_BITS, _PHOTOMETRIC, _SAMPLES, _PLANAR = 258, 262, 277, 284  # tags of TIFF 6.0
CROP = 0.875
CROP_FROM = 128


Shape = tuple[int, int, int]
Prepare = Callable[[Image.Image, Shape], npt.NDArray[np.float32]]
"""Pixels, float32 (C, H, W) in [0, 1] of the shape asked for, from a picture."""


class UnusableImageError(Exception):
    """An image that cannot be used; the message says why, for the list of unreadable files."""


def decode(content: bytes, shape: Shape, prepare: Prepare | None = None) -> npt.NDArray[np.float32]:
    """Decode an image file (PNG, JPEG, BMP, PPM, first picture of a GIF, WebP or TIFF).

    EXIF orientation is applied; transparency is laid on white; CMYK becomes RGB by subtraction,
    without a color profile; color becomes gray (ITU-R 601) for a model of one channel and gray is
    repeated for one of three. 16-bit gray keeps its precision, 16-bit color is read with 8 bits.
    Sizes are adapted as :func:`fit` says, or by ``prepare``.

    Parameters
    ----------
    shape
        (C, H, W) of the model.
    prepare
        Makes the pixels of a picture of mode L (model of one channel), RGB or F (in [0, 1]).

    Returns
    -------
    array
        float32 of that shape in [0, 1].

    Raises
    ------
    UnusableImageError
        If the content is no image, is damaged, too large, has no agreed range of values, or the
        model takes neither 1 nor 3 channels.
    """
    channels, height, width = shape
    if channels not in (1, 3) and prepare is None:
        raise UnusableImageError(
            f"image files have 1 or 3 channels, the model takes {channels}; save .npy files"
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # remarks about damaged metadata
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(content), formats=FORMATS) as opened:
                _refuse_misread(opened)
                image = ImageOps.exif_transpose(opened)
                plane = _flatten(image, channels)
                if prepare is None:
                    plane = fit(plane, height, width)
                else:
                    _resized(plane.size, height, width)  # it probably does about the same
    except UnusableImageError:
        raise
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise UnusableImageError("more pixels than are safe to decode") from error
    except UnidentifiedImageError as error:
        raise UnusableImageError("not an image of a known format") from error
    except Exception as error:  # decoders raise many things on hostile bytes
        text = " ".join(f"{type(error).__name__}: {error}".split())
        raise UnusableImageError(f"damaged ({text[:100]})") from error
    if prepare is not None:
        return prepare(plane, shape)
    pixels = np.asarray(plane, dtype=np.float32)
    if plane.mode != "F":
        pixels = pixels / np.float32(255)
    pixels = pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)
    return np.ascontiguousarray(np.broadcast_to(pixels.clip(0, 1), (channels, height, width)))


def fit(image: Image.Image, height: int, width: int) -> Image.Image:
    """Resize (bicubic, antialiased) and crop centrally, unless the size already agrees.

    From 128 pixels on, the crop is 0.875 of the shorter side, the ImageNet convention; below, all
    of it. Long sides round down, as in torchvision's ``Resize``.
    """
    w, h = image.size
    if (h, w) == (height, width):
        return image
    new_h, new_w = _resized(image.size, height, width)
    top, left = round((new_h - height) / 2), round((new_w - width) / 2)
    resized = image.resize((new_w, new_h), Image.Resampling.BICUBIC)
    return resized.crop((left, top, left + width, top + height))


def _resized(size: tuple[int, int], height: int, width: int) -> tuple[int, int]:
    """Height and width before the crop; also where a user's function resizes in our place."""
    w, h = size
    share = CROP if min(height, width) >= CROP_FROM else 1.0
    if h * width <= w * height:
        new_h = round(height / share)
        new_w = new_h * w // h
    else:
        new_w = round(width / share)
        new_h = new_w * h // w
    if new_h * new_w > (Image.MAX_IMAGE_PIXELS or new_h * new_w):
        raise UnusableImageError(f"too elongated ({h}×{w} pixels) to resize")
    return new_h, new_w


def _flatten(image: Image.Image, channels: int) -> Image.Image:
    """To mode L, RGB or F (in [0, 1])."""
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        values = np.asarray(image, dtype=np.float32)
        top = 1.0 if image.mode == "F" else 65535.0
        if not (values.min() >= 0 and values.max() <= top):  # also true for NaN
            raise UnusableImageError(f"mode {image.mode} values outside [0, {top:g}]")
        return Image.fromarray(values / np.float32(top))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    return image.convert("L" if channels == 1 else "RGB")


def _refuse_misread(image: Image.Image) -> None:
    """Refuse two kinds of TIFF that Pillow opens, but whose values it gets wrong (13.0)."""
    tags = getattr(image, "tag_v2", None)
    if tags is None or max(_numbers(tags.get(_BITS, 8))) <= 8:
        return
    if tags.get(_PLANAR) == 2 and max(_numbers(tags.get(_SAMPLES, 1))) > 1:
        raise UnusableImageError("TIFF of 16 bits with separate color planes; save it interleaved")
    if tags.get(_PHOTOMETRIC) == 0:
        raise UnusableImageError("TIFF of 16 bits in which white is zero; save it inverted")


def _numbers(value: object) -> tuple[int, ...]:
    return value if isinstance(value, tuple) else (value,)
