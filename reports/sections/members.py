"""Pictures of an ensemble: two members' maps of the images on which members differ most."""

from __future__ import annotations

from reportlab.platypus import Flowable

from auditor.results import AuditResult
from reports.blocks import paragraph, picture_table, together
from reports.formatting import Markup, markup, number, short
from reports.maps import image_png, legend, map_png, picture, scale_top
from reports.series import one
from reports.style import TEXT_WIDTH

_SIDE = 66.0
_NOTE = TEXT_WIDTH - 5 * (_SIDE + 6)
READING = (
    "Two members on the images where the members' unsmoothed maps differ most. The four maps of a "
    "row share one color scale, in map units: where smoothing shrinks a map, it is paler."
)


def build(result: AuditResult, name: str, place: int) -> list[Flowable]:
    """A row of pictures for each image of an ensemble, which is the ``place``-th measured."""
    gallery = result.gallery
    if "member_maps" not in gallery:
        return []
    # Pictures are kept in single precision, σ of the figures is not.
    sigma = min(result.sigmas, key=lambda s: abs(s - float(gallery["member_sigma"])))
    models = (result.model, *result.twins)
    members = [models[int(at)].name for at in gallery["member_place"][place]]
    smoothed = f"σ = {short(sigma)}"
    head = ("", "image", *members, *(f"{member}, {smoothed}" for member in members))
    rows: list[list[object]] = [[paragraph(word, "small") for word in head]]
    for row, index in enumerate(gallery["member_index"][place].astype(int).tolist()):
        image = result.images.names[index]
        maps = [member for at in gallery["member_maps"][place][row] for member in at]
        top = scale_top(*maps)
        told = [f"{member}, {how}" for how in ("unsmoothed", smoothed) for member in members]
        note = [
            paragraph(Markup(f"<b>{markup(image)}</b>"), "cell"),
            *(
                paragraph(f"top-k IoU {how}{_overlap(result, name, level, index)}", "cell")
                for how, level in (("", 0.0), ("smoothed ", sigma))
            ),
            legend(top, width=_NOTE - 52),
        ]
        rows.append(
            [
                note,
                picture(
                    image_png(gallery["member_image"][place][row]),
                    side=_SIDE,
                    alternative=f"Image {image}",
                ),
                *(
                    picture(
                        map_png(shown, top), side=_SIDE, alternative=f"Map of {image} by {words}"
                    )
                    for shown, words in zip(maps, told, strict=True)
                ),
            ]
        )
    pictures = picture_table(rows, [_NOTE, *[_SIDE + 6] * 5])
    return [together(paragraph(f"{READING} Shown: {name}."), pictures)]


def _overlap(result: AuditResult, name: str, sigma: float, image: int) -> str:
    found = one(result, probe="ensemble", partner=name, metric="topk_iou", sigma=sigma)
    return number(found.values[image] if found else None)
