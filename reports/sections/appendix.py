"""Results image by image, the worst first."""

from __future__ import annotations

import string

from reportlab.platypus import Flowable

from auditor.results import AuditResult, Measurement
from reports import text
from reports.blocks import listing, paragraph
from reports.formatting import NOTHING, count, number, short
from reports.pictures import class_name
from reports.sections.attack import worst_case
from reports.series import focus, headline_epsilon, one

MOST = 200
_HALVES = {"screen": "S", "confirm": "C"}


def build(result: AuditResult, *, most: int = MOST) -> list[Flowable]:
    """The images on which an attack leaves least of the smoothed map, at most ``most`` of them."""
    header, rows = image_table(result)
    letters = dict(zip(string.ascii_lowercase, header[3:], strict=False))
    total, epsilon = len(result.images.names), headline_epsilon(result)
    lead = f"Attacked: adaptive top-k, ε = {short(epsilon)}/255. " if epsilon is not None else ""
    if total > most:
        lead += f"The {most} worst of {count(total)} images; all are in the attached images.csv. "
    lead += text.APPENDIX_READING.format(
        letters="; ".join(f"{letter}, {name}" for letter, name in letters.items())
    )
    brief = [
        (name, of, _HALVES.get(which, NOTHING), *rest) for name, of, which, *rest in rows[:most]
    ]
    widths = (4.2, 1.4, 0.5, *[1.1] * (len(letters) - 1), 1.8)
    return [paragraph(lead), listing(("Image", "Class", "H", *letters), brief, widths)]


def image_table(result: AuditResult) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Header and at most :data:`MOST` rows, one for each image, the worst first."""
    sigma = focus(result)
    columns: dict[str, Measurement | None] = {
        "Attacked overlap, unsmoothed": worst_case(result, 0.0)
    }
    if sigma:
        columns[f"Attacked overlap, σ = {short(sigma)}"] = worst_case(result, sigma)
        columns[f"Self-overlap, σ = {short(sigma)}"] = one(
            result, probe="smoothing", metric="self_overlap", sigma=sigma
        )
        columns["Label kept under the noise"] = one(
            result, probe="smoothing", metric="label_kept", sigma=sigma
        )
    columns["Hessian eigenvalue"] = one(result, probe="curvature", metric="hessian_eigenvalue")
    rows = [
        (
            result.images.names[i],
            class_name(result, i),
            half(result, i),
            *(number(m.values[i] if m else None, digits=2) for m in columns.values()),
        )
        for i in _worst_first(result, sigma)[:MOST]
    ]
    return ("Image", "Predicted", "Half", *columns), rows


def _worst_first(result: AuditResult, sigma: float | None) -> list[int]:
    """Ascending overlap of the smoothed map, then of the unsmoothed; excluded images last."""
    keys = [worst_case(result, s) for s in (sigma, 0.0)]

    def rank(i: int) -> tuple[float, ...]:
        values = (m.values[i] if m else None for m in keys)
        return *(float("inf") if v is None else v for v in values), float(i)

    return sorted(range(len(result.images.names)), key=rank)


def half(result: AuditResult, i: int) -> str:
    """The half of the images that one belongs to, or why to neither."""
    if i in result.images.screen:
        return "screen"
    return "confirm" if i in result.images.confirm else "misclassified"
