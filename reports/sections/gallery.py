"""Pictures of the worst and of middling images: before and after, unsmoothed and smoothed."""

from __future__ import annotations

from reportlab.platypus import Flowable

from auditor.results import AuditResult
from reports import text
from reports.blocks import paragraph, picture_table, together
from reports.formatting import Markup, join, markup, number, short
from reports.maps import image_png, legend, map_png, picture, scale_top
from reports.pictures import Place, class_name, places, shown
from reports.series import focus
from reports.style import TEXT_WIDTH

_SIDE = 84.0
_NOTE = TEXT_WIDTH - 4 * (_SIDE + 6)


def build(result: AuditResult) -> list[Flowable]:
    """A block of two rows of pictures for each image."""
    parts = [_block(result, place) for place in places(result)]
    if not parts:
        return [paragraph(text.NOT_RUN["gallery"])]
    return [paragraph(text.GALLERY_READING), *parts]


def _block(result: AuditResult, place: Place) -> Flowable:
    name = result.images.names[place.index]
    title = join(
        [
            Markup(f"<b>{markup(name)}</b>"),
            f"predicted: {class_name(result, place.index)}",
            "moved most" if place.worst else "in the middle",
        ],
        " · ",
    )
    head = ("", "image", "perturbed image", "map before", "map after")
    rows = [[paragraph(word, "small") for word in head], _row(result, place, 0.0)]
    if sigma := focus(result):
        rows.append(_row(result, place, sigma))
    pictures = picture_table(rows, [_NOTE, *[_SIDE + 6] * 4])
    return together(paragraph(title), pictures)


def _row(result: AuditResult, place: Place, sigma: float) -> list[object]:
    seen = shown(result, place, sigma)
    name = f"Smoothed, σ = {short(sigma)}" if sigma else "Unsmoothed"
    top = scale_top(seen.before, seen.after)
    note = [
        paragraph(Markup(f"<b>{markup(name)}</b>"), "cell"),
        paragraph(f"ε = {short(seen.epsilon)}/255", "cell"),
        paragraph(f"top-k overlap {number(seen.overlap)}", "cell"),
        legend(top, width=_NOTE - 52),
        paragraph("map units, both maps", "small"),
    ]
    of = f"{result.images.names[place.index]}, {name.lower()}"
    pngs = (
        (image_png(seen.image), f"Image {of}"),
        (image_png(seen.perturbed), f"Perturbed image {of}"),
        (map_png(seen.before, top), f"Map before the attack, {of}"),
        (map_png(seen.after, top), f"Map after the attack, {of}: overlap {number(seen.overlap)}"),
    )
    return [note, *(picture(png, side=_SIDE, alternative=words) for png, words in pngs)]
