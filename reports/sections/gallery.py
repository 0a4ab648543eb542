"""Pictures of the most-moved images: before and after, unsmoothed and smoothed."""

from __future__ import annotations

from reportlab.platypus import Flowable, Table

from auditor.results import AuditResult
from reports import text
from reports.blocks import paragraph, table_style, together
from reports.formatting import Markup, join, markup, number, short
from reports.maps import image_png, legend, map_png, picture, scale_top
from reports.style import TEXT_WIDTH

MOST = 8
_SIDE = 88.0
_NOTE = TEXT_WIDTH - 4 * (_SIDE + 6)


def build(result: AuditResult) -> list[Flowable]:
    """A block of two rows of pictures for each image."""
    gallery = result.gallery
    if "index" not in gallery or len(gallery["index"]) == 0:
        return [paragraph(text.NOT_RUN["gallery"])]
    total = len(gallery["index"])
    parts: list[Flowable] = [paragraph(text.GALLERY_READING)]
    parts += [_block(result, place) for place in range(min(total, MOST))]
    if total > MOST:
        parts.append(
            paragraph(
                f"Only the first {MOST} of {total} pictures are printed; all are in maps.npz."
            )
        )
    return parts


def _block(result: AuditResult, place: int) -> Flowable:
    gallery = result.gallery
    index = int(gallery["index"][place])
    sigma = float(gallery["sigma"])
    title = join(
        [
            Markup("<b>" + markup(result.images.names[index]) + "</b>"),
            f"predicted: {class_name(result, index)}",
        ],
        " · ",
    )
    head = ("", "image", "perturbed image", "map before", "map after")
    rows = [
        [paragraph(word, "small") for word in head],
        _row(result, place, "plain", "Unsmoothed"),
        _row(result, place, "smooth", f"Smoothed, σ = {short(sigma)}"),
    ]
    look = [
        ("LEFTPADDING", (0, 0), (-1, -1), 0),
        ("RIGHTPADDING", (0, 0), (-1, -1), 6),
        ("TOPPADDING", (0, 0), (-1, -1), 0),
        ("BOTTOMPADDING", (0, 0), (-1, -1), 4),
        ("VALIGN", (0, 0), (-1, -1), "TOP"),
    ]
    pictures = Table(
        rows,
        colWidths=[_NOTE, *[_SIDE + 6] * 4],
        style=table_style(look),
        hAlign="LEFT",
        spaceAfter=8,
    )
    return together(paragraph(title), pictures)


def _row(result: AuditResult, place: int, kind: str, name: str) -> list[object]:
    gallery = result.gallery
    before, after = gallery[f"{kind}_before"][place], gallery[f"{kind}_after"][place]
    top = scale_top(before, after)
    note = [
        paragraph(Markup(f"<b>{markup(name)}</b>"), "cell"),
        paragraph(f"ε = {short(float(gallery[f'epsilon_{kind}']))}/255", "cell"),
        paragraph(f"top-k overlap {number(float(gallery[f'{kind}_overlap'][place]))}", "cell"),
        legend(top, width=_NOTE - 52),
        paragraph("map units, both maps", "small"),
    ]
    pngs = (
        image_png(gallery["image"][place]),
        image_png(gallery[f"perturbed_{kind}"][place]),
        map_png(before, top),
        map_png(after, top),
    )
    return [note, *(picture(png, side=_SIDE) for png in pngs)]


def class_name(result: AuditResult, index: int) -> str:
    """Name of the class predicted for an image; its number where it has no name."""
    images = result.images
    if index >= len(images.predicted):
        return "unknown"
    number_of_class = images.predicted[index]
    if 0 <= number_of_class < len(images.class_names):
        return images.class_names[number_of_class]
    return f"class {number_of_class}"
