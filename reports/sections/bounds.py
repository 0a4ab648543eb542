"""What theory proves beside what attacks found: brackets, the certified curve, all other bounds."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

import numpy as np
from reportlab.platypus import Flowable, Table

from auditor.results import AuditResult, Bound
from reports import text
from reports.blocks import bullets, gap, paragraph, subsection, table, table_style
from reports.charts import Curve, Level, grid_chart
from reports.formatting import NOTHING, aside, count, join, number, plural, short
from reports.maps import map_png, picture, scale_top
from reports.style import LOOKS, TEXT_WIDTH

BRACKETS = {"topk_certificate": "Overlap", "cosine_certificate": "Cosine distance"}
DIRECTIONS = 4
"""Images whose dominant direction is shown."""
_SIDE = 72.0


def build(result: AuditResult) -> list[Flowable]:
    """Brackets image by image, the certified curve, directions, and a table of all bounds."""
    if not result.bounds:
        return [paragraph(text.NOT_RUN["bounds"])]
    return [
        paragraph(text.BOUNDS_READING),
        *_brackets(result),
        *_curve(result),
        *_directions(result),
        *_others(result),
        *_assumptions(result),
    ]


def _brackets(result: AuditResult) -> list[Flowable]:
    known = [b for b in result.bounds if b.name in BRACKETS]
    brackets = [b for b in known if any(value is not None for value in b.measured)]
    parts: list[Flowable] = [subsection("Brackets of the true worst case", reserve=120)]
    if not brackets:
        return [*parts, paragraph("No attack kept the label, so that no bracket has two sides.")]
    crossed = sum(len(b.crossed) for b in brackets)
    vacuous = [b for b in result.bounds if b.name == "cosine_certificate" and all(b.vacuous)]
    seen = {
        image
        for b in brackets
        for image, value in zip(b.images, b.measured, strict=True)
        if value is not None
    }
    images = sorted(seen, key=result.images.names.__getitem__)
    cells = [
        dict(zip(b.images, map(_bracket, b.values, b.measured), strict=True)) for b in brackets
    ]
    header = ("Image", *(f"{BRACKETS[b.name]}, ρ = {short(b.radius)}" for b in brackets))
    rows = [
        (result.images.names[image], *(column.get(image, NOTHING) for column in cells))
        for image in images
    ]
    parts += [
        table(header, rows, (2.2, *[1.3] * len(brackets)), dense=True),
        paragraph("Certified and attacked value; small type: the width between them.", "caption"),
    ]
    if crossed:
        parts.append(
            paragraph(f"{plural(crossed, 'bracket')} crossed: this is a fault of the auditor.")
        )
    if vacuous:
        radii = ", ".join(short(b.radius) for b in vacuous)
        parts.append(
            paragraph(
                "The cosine certificate of the smoothed probability's map is vacuous for every "
                f"image at ρ = {radii}: the map is shorter than what it may move.",
                "caption",
            )
        )
    return parts


def _bracket(certified: float | None, attacked: float | None) -> str:
    if attacked is None:
        return NOTHING
    width = NOTHING if certified is None else number(abs(attacked - certified))
    return join([f"{number(certified)} to {number(attacked)}", aside(width)])


def _curve(result: AuditResult) -> list[Flowable]:
    certificates = [b for b in result.bounds if b.name == "topk_certificate"]
    certified = [_point(i, b.values) for i, b in enumerate(certificates)]
    attacked = [_point(i, b.measured) for i, b in enumerate(certificates)]
    curves = [
        Curve(label=label, look=LOOKS[look], points=tuple(p for p in points if p))
        for label, look, points in (
            ("certified: no attack leaves less", "self_overlap", certified),
            ("attacked: the worst case is not above", "strongest", attacked),
        )
    ]
    notes = dict.fromkeys(f"ρ = {short(b.radius)}: {b.note}" for b in certificates if b.note)
    sigma = certificates[0].sigma if certificates else None
    chart = grid_chart(
        title=f"Top-k overlap of the expected sparsified map, σ = {short(sigma)}",
        curves=[curve for curve in curves if curve.points],
        ticks=[short(b.radius) for b in certificates],
        x_title="ℓ₂ length ρ of the perturbation, pixel units",
        y_range=(0.0, 1.0),
        height=130,
        levels=(Level(value=_chance(result), label=f"chance {short(_chance(result))}"),),
    )
    caption = "Mean over the images looked at; whiskers: the smallest and the largest of them."
    return [chart, paragraph(caption, "caption"), *bullets(notes, "note")]


def _point(place: int, values: Sequence[float | None]) -> tuple[float, float, float, float] | None:
    known = [value for value in values if value is not None]
    if not known:
        return None
    return float(place), statistics.fmean(known), min(known), max(known)


def _chance(result: AuditResult) -> float:
    _, height, width = result.model.input_shape
    return result.k / (height * width)


def _directions(result: AuditResult) -> list[Flowable]:
    gallery = result.gallery
    found = next((b for b in result.bounds if b.name == "logit_curvature"), None)
    if "direction" not in gallery or found is None:
        return []
    maps = np.abs(gallery["direction"]).sum(axis=1)
    places = [
        place
        for place, image in enumerate(gallery["direction_index"][:DIRECTIONS].tolist())
        if int(image) in found.images
    ]
    cells = []
    for place in places:
        image = int(gallery["direction_index"][place])
        where = found.images.index(image)
        cells.append(
            [
                picture(
                    map_png(maps[place], scale_top(maps[place])),
                    side=_SIDE,
                    alternative=f"Dominant direction of {result.images.names[image]}",
                ),
                paragraph(result.images.names[image], "small"),
                paragraph(f"|λ| = {number(found.values[where])}", "small"),
            ]
        )
    look = [("LEFTPADDING", (0, 0), (-1, -1), 0), ("VALIGN", (0, 0), (-1, -1), "TOP")]
    width = TEXT_WIDTH / DIRECTIONS
    return [
        subsection("The direction in which an explanation breaks", reserve=140),
        paragraph(text.DIRECTION_READING),
        Table([cells], colWidths=[width] * len(cells), style=table_style(look), hAlign="LEFT"),
        gap(),
    ]


def _others(result: AuditResult) -> list[Flowable]:
    rows = [_row(bound) for bound in result.bounds if bound.name not in BRACKETS]
    header = ("What is bounded", "Kind", "Bound", "Measured", "Vacuous", "Unit", "Source")
    notes: dict[str, list[str]] = {}
    for bound in result.bounds:
        if bound.note and bound.name not in BRACKETS:
            notes.setdefault(bound.note, []).append(bound.title)
    return [
        subsection("All other bounds", reserve=100),
        paragraph(text.OTHER_BOUNDS_READING),
        table(header, rows, (2.6, 0.8, 1.1, 1.1, 0.8, 0.9, 2.4), dense=True),
        *bullets((f"{'; '.join(titles)}: {note}" for note, titles in notes.items()), "note"),
    ]


def _row(bound: Bound) -> tuple[str, ...]:
    vacuous = [v for v in bound.vacuous if v is not None]
    return (
        bound.title,
        bound.kind,
        _span(bound, bound.values),
        _span(bound, bound.measured),
        NOTHING if not vacuous else "yes" if all(vacuous) else "no",
        bound.unit,
        bound.source,
    )


def _span(bound: Bound, values: Sequence[float | None]) -> str:
    """A single value, or the smallest and largest over images; powers of ten stay powers."""
    known = [value for value in values if value is not None]
    write = _power if bound.log10 else number
    if not known:
        return NOTHING
    if len(known) == 1:
        return write(known[0])
    return f"{write(min(known))} to {write(max(known))}"


def _power(exponent: float) -> str:
    if abs(exponent) < 300:
        return number(10**exponent)
    whole = math.floor(exponent)
    return f"{10 ** (exponent - whole):.2f} × 10^{whole}"


def _assumptions(result: AuditResult) -> list[Flowable]:
    seen: dict[tuple[str, str, str], list[str]] = {}
    for bound in result.bounds:
        for assumption in bound.assumptions:
            key = (assumption.text, assumption.status, assumption.reason)
            seen.setdefault(key, []).append(bound.name.replace("_", " "))
    rows = [
        (said, status, reason or NOTHING, ", ".join(dict.fromkeys(names)))
        for (said, status, reason), names in seen.items()
    ]
    return [
        subsection("What the bounds assume", reserve=100),
        table(("Assumption", "Holds", "Why", "Bounds"), rows, (2.6, 0.7, 2.7, 2.4), dense=True),
        paragraph(
            f"{count(sum(status == 'not met' for _, status, _, _ in rows))} of {count(len(rows))} "
            "assumptions are not met: a bound that rests on one of them is printed for "
            "comparison and proves nothing here.",
            "caption",
        ),
    ]
