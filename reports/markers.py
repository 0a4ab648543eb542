"""The markers of the charts' curves."""

from __future__ import annotations

from reportlab.graphics.shapes import Circle, Group, Line, Polygon, Shape
from reportlab.lib.colors import white

from reports.style import Look

_CORNERS = {
    "square": ((-1, -1), (1, -1), (1, 1), (-1, 1)),
    "diamond": ((0, -1.3), (1.3, 0), (0, 1.3), (-1.3, 0)),
    "triangle": ((-1.15, -0.9), (1.15, -0.9), (0, 1.25)),
}


def draw_marker(x: float, y: float, look: Look, *, size: float) -> Shape:
    """The marker of a look, centered at (x, y), about ``2 * size`` points wide."""
    fill = look.color if look.filled else white
    ink = {"fillColor": fill, "strokeColor": look.color, "strokeWidth": 0.9}
    if look.marker == "circle":
        return Circle(x, y, size, **ink)
    if look.marker == "cross":
        pen = {"strokeColor": look.color, "strokeWidth": 1.1}
        return Group(
            Line(x - size, y - size, x + size, y + size, **pen),
            Line(x - size, y + size, x + size, y - size, **pen),
        )
    corners = _CORNERS[look.marker]
    return Polygon([c for dx, dy in corners for c in (x + size * dx, y + size * dy)], **ink)
