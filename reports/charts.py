"""Vector charts: curves over a grid, scatter, bars; every mark is told apart without color too."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from reportlab.graphics.shapes import Circle, Group, Line, Polygon, PolyLine, Rect, String
from reportlab.lib.colors import Color

from reports.alternative import Chart
from reports.markers import draw_marker
from reports.style import BAND, BOLD, INK, QUIET, RULE, SANS, TEXT_WIDTH, Look, text_width

LABEL = 6.6
_LEFT, _RIGHT, _TOP = 30.0, 6.0, 20.0


@dataclass(frozen=True, kw_only=True)
class Curve:
    """A quantity over the positions of a grid: (position, mean, low, high) for each point.

    ``band`` holds for each of them the limits of a shaded region, or nothing.
    """

    label: str
    look: Look
    points: tuple[tuple[float, float, float, float], ...]
    band: tuple[tuple[float, float], ...] = ()


@dataclass(frozen=True, kw_only=True)
class Level:
    """A horizontal reference, e.g. the chance level."""

    value: float
    label: str


@dataclass(frozen=True, kw_only=True)
class Frame:
    """The rectangle that data is drawn in, with the ranges of its axes."""

    left: float
    bottom: float
    width: float
    height: float
    x: tuple[float, float]
    y: tuple[float, float]

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Point of the page for a point of the data."""
        across = (x - self.x[0]) / (self.x[1] - self.x[0])
        up = (y - self.y[0]) / (self.y[1] - self.y[0])
        return self.left + across * self.width, self.bottom + up * self.height


def nice_ticks(low: float, high: float, *, most: int = 6) -> tuple[float, ...]:
    """Round numbers that cover ``[low, high]``, at most ``most`` + 1 of them."""
    span = high - low if high > low else max(abs(high), 1.0)
    power = 10.0 ** math.floor(math.log10(span / most))
    step = next(power * m for m in (1, 2, 2.5, 5, 10, 20) if span / (power * m) <= most)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    places = max(12, 2 - math.floor(math.log10(step)))
    return tuple(round(i * step, places) for i in range(first, max(last, first + 1) + 1))


def grid_chart(
    *,
    title: str,
    curves: Sequence[Curve],
    ticks: Sequence[str],
    x_title: str,
    width: float = TEXT_WIDTH,
    height: float = 170,
    y_range: tuple[float, float] | None = None,
    levels: Sequence[Level] = (),
    mark: int | None = None,
    mark_label: str = "recommended",
    legend_rows: int = 1,
) -> Chart:
    """Curves over evenly spaced positions, labeled by ``ticks``; whiskers are the intervals.

    The positions are categories, so that σ = 0 and a log-spaced or quadratic grid both read well.
    ``mark`` is the position to emphasize. ``legend_rows`` is the least number of lines kept for the
    legend, so that charts side by side align; 0 leaves the legend out.
    """
    keys = _legend_rows([*curves, *levels], width) if legend_rows else []
    bottom = 26 + 10 * max(len(keys), legend_rows)
    if y_range is None:
        values = [v for c in curves for _, *rest in c.points for v in rest]
        values += [v for c in curves for limits in c.band for v in limits]
        values += [level.value for level in levels]
        steps = nice_ticks(min(0.0, *values), max(values) or 1.0)
    else:
        steps = nice_ticks(*y_range)
    frame = Frame(
        left=_LEFT,
        bottom=bottom,
        width=width - _LEFT - _RIGHT,
        height=height - bottom - _TOP,
        x=(-0.5, len(ticks) - 0.5),
        y=(steps[0], steps[-1]),
    )
    drawing = Chart(width, height)
    drawing.add(_text(0, height - 9, title, size=7.6, font=BOLD))
    if mark is not None:
        drawing.add(_band(frame, mark, mark_label))
    drawing.add(_y_axis(frame, steps, _plain))
    drawing.add(_category_axis(frame, ticks, x_title))
    for level in levels:
        drawing.add(_dotted(frame.at(frame.x[0], level.value), frame.width))
    for curve in curves:
        if curve.band:
            drawing.add(_shade(frame, curve))
    for index, curve in enumerate(curves):
        # a small shift keeps the whiskers of curves at one position apart
        drawing.add(_curve(frame, curve, shift=0.07 * (index - (len(curves) - 1) / 2)))
    drawing.add(_legend(keys, bottom - 34))
    told = "; ".join(_told(curve, ticks) for curve in curves)
    return drawing.described(f"Chart: {title}, over {x_title}. {told}.")


def bar_chart(
    *,
    title: str,
    bars: Sequence[tuple[str, float]],
    x_title: str,
    width: float = TEXT_WIDTH,
    height: float = 120,
    mark: int | None = None,
) -> Chart:
    """Shares between 0 and 1, one bar for each category, its percentage on top."""
    frame = Frame(
        left=_LEFT,
        bottom=26,
        width=width - _LEFT - _RIGHT,
        height=height - 26 - _TOP,
        x=(-0.5, len(bars) - 0.5),
        y=(0.0, 1.0),
    )
    drawing = Chart(width, height)
    drawing.add(_text(0, height - 9, title, size=7.6, font=BOLD))
    if mark is not None:
        drawing.add(_band(frame, mark, ""))
    drawing.add(_y_axis(frame, (0.0, 0.5, 1.0), lambda v: f"{100 * v:.0f}%"))
    drawing.add(_category_axis(frame, [label for label, _ in bars], x_title))
    for position, (_, share) in enumerate(bars):
        left, top = frame.at(position - 0.3, share)
        right, _ = frame.at(position + 0.3, share)
        drawing.add(
            Rect(
                left,
                frame.bottom,
                right - left,
                top - frame.bottom,
                fillColor=QUIET,
                strokeColor=None,
            )
        )
        drawing.add(_text((left + right) / 2, top + 2, f"{100 * share:.0f}%", anchor="middle"))
    told = ", ".join(f"{label}: {100 * share:.0f}%" for label, share in bars)
    return drawing.described(f"Bars: {title}, over {x_title}. {told}.")


def scatter_chart(
    *,
    title: str,
    points: Sequence[tuple[float, float]],
    x_title: str,
    y_title: str,
    look: Look,
    width: float = TEXT_WIDTH,
    height: float = 205,
) -> Chart:
    """Positive points on two logarithmic axes of one range, with the line of equality."""
    logs = [(math.log10(x), math.log10(y)) for x, y in points]
    low = math.floor(min(min(p) for p in logs))
    high = max(math.ceil(max(max(p) for p in logs)), low + 1)
    frame = Frame(
        left=_LEFT + 14,
        bottom=28,
        width=width - _LEFT - 14 - _RIGHT,
        height=height - 28 - _TOP - 10,
        x=(low, high),
        y=(low, high),
    )
    step = max(1, math.ceil((high - low) / 7))
    powers = tuple(float(p) for p in range(low, high + 1, step))
    drawing = Chart(width, height)
    drawing.add(_text(0, height - 9, title, size=7.6, font=BOLD))
    drawing.add(_text(0, height - 20, f"vertical: {y_title}"))
    drawing.add(_y_axis(frame, powers, _power))
    for power in powers:
        x, _ = frame.at(power, low)
        drawing.add(Line(x, frame.bottom, x, frame.bottom + frame.height, strokeColor=RULE))
        drawing.add(_text(x, frame.bottom - 9, _power(power), anchor="middle"))
    drawing.add(_text(frame.left + frame.width / 2, frame.bottom - 21, x_title, anchor="middle"))
    start, end = frame.at(low, low), frame.at(high, high)
    drawing.add(Line(*start, *end, strokeColor=INK, strokeDashArray=[4, 3], strokeWidth=0.8))
    for x, y in logs:
        drawing.add(draw_marker(*frame.at(x, y), look, size=2.0))
    return drawing.described(f"Scatter of {len(points)} images: {title}. {x_title} by {y_title}.")


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A point of the trade-off: its label, its two values, and how it is drawn."""

    label: str
    x: float
    y: float
    on_front: bool
    chosen: bool


def front_chart(
    *,
    title: str,
    candidates: Sequence[Candidate],
    x_title: str,
    y_title: str,
    look: Look,
    width: float = TEXT_WIDTH,
    height: float = 180,
) -> Chart:
    """Candidates by two quantities; those on the Pareto front filled, the chosen one circled."""
    x_steps = nice_ticks(min(c.x for c in candidates), max(c.x for c in candidates))
    y_steps = nice_ticks(min(c.y for c in candidates), max(c.y for c in candidates))
    frame = Frame(
        left=_LEFT,
        bottom=28,
        width=width - _LEFT - 30,
        height=height - 28 - _TOP - 10,
        x=(x_steps[0], x_steps[-1]),
        y=(y_steps[0], y_steps[-1]),
    )
    drawing = Chart(width, height)
    drawing.add(_text(0, height - 9, title, size=7.6, font=BOLD))
    drawing.add(_text(0, height - 20, f"vertical: {y_title}"))
    drawing.add(_y_axis(frame, y_steps, _plain))
    for step in x_steps:
        x, _ = frame.at(step, frame.y[0])
        drawing.add(_text(x, frame.bottom - 9, _plain(step), anchor="middle"))
    drawing.add(_text(frame.left + frame.width / 2, frame.bottom - 21, x_title, anchor="middle"))
    for c in candidates:
        x, y = frame.at(c.x, c.y)
        if c.chosen:
            drawing.add(Circle(x, y, 6, fillColor=None, strokeColor=INK, strokeWidth=0.8))
        mark = dataclasses.replace(look, filled=c.on_front)
        drawing.add(draw_marker(x, y, mark, size=2.6))
        font = BOLD if c.chosen else SANS
        drawing.add(_text(x + 8, y - 2.3, c.label, font=font))
    told = "; ".join(
        f"{c.label}: {c.x:.3g} and {c.y:.3g}{', on the front' if c.on_front else ''}"
        for c in candidates
    )
    return drawing.described(f"Trade-off: {title}. {x_title} and {y_title}. {told}.")


def _told(curve: Curve, ticks: Sequence[str]) -> str:
    values = ", ".join(f"{mean:.3g} at {ticks[int(x)]}" for x, mean, _, _ in curve.points)
    return f"{curve.label}: {values}"


def _text(
    x: float,
    y: float,
    text: str,
    *,
    size: float = LABEL,
    font: str = SANS,
    anchor: str = "start",
    color: Color = INK,
) -> String:
    return String(x, y, text, fontName=font, fontSize=size, textAnchor=anchor, fillColor=color)


def _plain(value: float) -> str:
    return f"{value:.10g}" if abs(value) < 1e5 else f"{value:.1e}"


def _power(value: float) -> str:
    return "10" + f"{value:.0f}".translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))


def _y_axis(frame: Frame, steps: Sequence[float], write: Callable[[float], str]) -> Group:
    group = Group()
    for value in steps:
        x, y = frame.at(frame.x[0], value)
        group.add(Line(x, y, x + frame.width, y, strokeColor=RULE, strokeWidth=0.4))
        group.add(_text(x - 4, y - 2.3, write(value), anchor="end"))
    return group


def _category_axis(frame: Frame, ticks: Sequence[str], x_title: str) -> Group:
    group = Group()
    left, right = frame.left, frame.left + frame.width
    group.add(Line(left, frame.bottom, right, frame.bottom, strokeColor=INK, strokeWidth=0.6))
    widest = max(text_width(tick, LABEL) for tick in ticks) + 3
    every = max(1, math.ceil(widest / (frame.width / len(ticks))))
    for position in range(0, len(ticks), every):
        x, y = frame.at(position, frame.y[0])
        group.add(Line(x, y, x, y - 2.5, strokeColor=INK, strokeWidth=0.6))
        group.add(_text(x, y - 10, ticks[position], anchor="middle"))
    group.add(_text((left + right) / 2, frame.bottom - 20, x_title, anchor="middle", color=QUIET))
    return group


def _band(frame: Frame, position: int, label: str) -> Group:
    left, top = frame.at(position - 0.42, frame.y[1])
    right, _ = frame.at(position + 0.42, frame.y[1])
    half = text_width(label, LABEL, BOLD) / 2
    center = min(max((left + right) / 2, frame.left + half), frame.left + frame.width - half)
    return Group(
        Rect(left, frame.bottom, right - left, frame.height, fillColor=BAND, strokeColor=None),
        _text(center, top + 2.5, label, font=BOLD, anchor="middle"),
    )


def _dotted(start: tuple[float, float], length: float) -> Line:
    x, y = start
    return Line(x, y, x + length, y, strokeColor=INK, strokeWidth=0.7, strokeDashArray=[1, 1.5])


def _shade(frame: Frame, curve: Curve) -> Polygon:
    """The band of a curve, pale enough for the grid and another band to be seen through it."""
    places = [x for x, *_ in curve.points]
    lower = [
        frame.at(x, max(low, frame.y[0])) for x, (low, _) in zip(places, curve.band, strict=True)
    ]
    upper = [
        frame.at(x, min(high, frame.y[1])) for x, (_, high) in zip(places, curve.band, strict=True)
    ]
    around = [coordinate for place in (*lower, *reversed(upper)) for coordinate in place]
    color = curve.look.color
    pale = Color(color.red, color.green, color.blue, alpha=0.16)
    return Polygon(around, fillColor=pale, strokeColor=None)


def _curve(frame: Frame, curve: Curve, *, shift: float) -> Group:
    look = curve.look
    group = Group()
    places = [frame.at(x + shift, mean) for x, mean, _, _ in curve.points]
    if len(places) > 1:
        flat = [coordinate for place in places for coordinate in place]
        line = PolyLine(flat, strokeColor=look.color, strokeWidth=1.1)
        line.strokeDashArray = list(look.dash) or None
        group.add(line)
    for position, mean, low, high in curve.points:
        x, y = frame.at(position + shift, mean)
        _, bottom = frame.at(position, max(low, frame.y[0]))
        _, top = frame.at(position, min(high, frame.y[1]))
        group.add(Line(x, bottom, x, top, strokeColor=look.color, strokeWidth=0.7))
        group.add(draw_marker(x, y, look, size=2.4))
    return group


_Keys = list[list[tuple[float, Curve | Level]]]


def _legend_rows(keys: Sequence[Curve | Level], width: float) -> _Keys:
    rows: _Keys = [[]]
    x = 0.0
    for key in keys:
        needed = 26 + text_width(key.label, LABEL) + 10
        if rows[-1] and x + needed > width:
            rows.append([])
            x = 0.0
        rows[-1].append((x, key))
        x += needed
    return rows


def _legend(rows: _Keys, top: float) -> Group:
    group = Group()
    for number, row in enumerate(rows):
        y = top - 10 * number
        for x, key in row:
            group.add(_text(x + 26, y, key.label))
            if isinstance(key, Level):
                group.add(_dotted((x, y + 2.2), 22))
                continue
            line = Line(x, y + 2.2, x + 22, y + 2.2, strokeColor=key.look.color, strokeWidth=1.1)
            line.strokeDashArray = list(key.look.dash) or None
            group.add(line)
            group.add(draw_marker(x + 11, y + 2.2, key.look, size=2.4))
    return group
