"""Pictures of the worst and of middling images: before and after, unsmoothed and smoothed."""

from __future__ import annotations

from reportlab.platypus import Flowable

from auditor.results import AuditResult
from reports import text
from reports.blocks import paragraph, picture_table, together
from reports.formatting import Markup, join, markup, number, short
from reports.maps import image_png, legend, map_png, picture, scale_top
from reports.pictures import Place, Shown, class_name, places, shown
from reports.series import focus
from reports.style import TEXT_WIDTH

_GAP = 6.0
_SIDE = TEXT_WIDTH / 7 - _GAP
_HEAD = ("perturbed", "map before", "map after")


def build(result: AuditResult) -> list[Flowable]:
    """A row of pictures for each image."""
    parts = [_block(result, place) for place in places(result)]
    if not parts:
        return [paragraph(text.NOT_RUN["gallery"])]
    return [paragraph(text.GALLERY_READING), *parts]


def _block(result: AuditResult, place: Place) -> Flowable:
    """The image, then three pictures at each σ with their color scale below."""
    name = result.images.names[place.index]
    title = join(
        [
            Markup(f"<b>{markup(name)}</b>"),
            f"predicted: {class_name(result, place.index)}",
            "moved most" if place.worst else "in the middle",
        ],
        " · ",
    )
    plain = shown(result, place, 0.0)
    head: list[object] = [paragraph("image", "small")]
    pictures: list[object] = [_picture(image_png(plain.image), f"Image {name}")]
    scales: list[object] = [""]
    spans = []
    for sigma in dict.fromkeys((0.0, focus(result) or 0.0)):
        spans.append(((len(scales), 2), (len(scales) + 2, 2)))
        head += [paragraph(word, "small") for word in _HEAD]
        pictures += _pictures(shown(result, place, sigma), name, sigma)
        scales += [_scale(shown(result, place, sigma), sigma), "", ""]
    row = picture_table([head, pictures, scales], [_SIDE + _GAP] * len(head), *spans)
    return together(paragraph(title), row)


def _pictures(seen: Shown, name: str, sigma: float) -> list[Flowable]:
    top = scale_top(seen.before, seen.after)
    of = f"{name}, {_kind(sigma).lower()}"
    after = f"Map after the attack, {of}: overlap {number(seen.overlap)}"
    return [
        _picture(image_png(seen.perturbed), f"Perturbed image {of}"),
        _picture(map_png(seen.before, top), f"Map before the attack, {of}"),
        _picture(map_png(seen.after, top), after),
    ]


def _scale(seen: Shown, sigma: float) -> list[Flowable]:
    top = scale_top(seen.before, seen.after)
    words = join(
        [
            Markup(f"<b>{markup(_kind(sigma))}</b>"),
            f"· ε = {short(seen.epsilon)}/255 · top-k overlap {number(seen.overlap)}",
        ]
    )
    return [paragraph(words, "tight"), legend(top, width=100)]


def _kind(sigma: float) -> str:
    return f"Smoothed, σ = {short(sigma)}" if sigma else "Unsmoothed"


def _picture(png: bytes, words: str) -> Flowable:
    return picture(png, side=_SIDE, alternative=words)
