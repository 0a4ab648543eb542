"""Alternative text: what a reader who cannot see a picture is told in its place."""

from __future__ import annotations

from reportlab.graphics.shapes import Drawing
from reportlab.pdfgen.canvas import Canvas
from reportlab.platypus import Image

from reports.formatting import visible


class Chart(Drawing):  # type: ignore[misc]  # reportlab is untyped
    """A drawing with an alternative text."""

    alternative = ""

    def draw(self) -> None:
        """Draw it within marked content."""
        _open(self.canv, self.alternative)
        super().draw()
        _close(self.canv)

    def described(self, words: str) -> Chart:
        """The same drawing, told in words."""
        # reportlab refuses new attributes of a shape that it does not know
        self.__dict__["alternative"] = words
        return self


class Picture(Image):  # type: ignore[misc]  # reportlab is untyped
    """A picture with an alternative text."""

    alternative = ""

    def draw(self) -> None:
        """Draw it within marked content."""
        _open(self.canv, self.alternative)
        super().draw()
        _close(self.canv)


def _open(canvas: Canvas, words: str) -> None:
    # PDF 32000-1, 14.9.3: a Span of marked content may carry Alt, as UTF-16 with its byte order.
    text = ("\ufeff" + visible(words)).encode("utf-16-be").hex().upper()
    canvas.addLiteral(f"/Span <</Alt <{text}>>> BDC")


def _close(canvas: Canvas) -> None:
    canvas.addLiteral("EMC")
