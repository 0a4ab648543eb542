"""Results image by image, the worst first."""

from __future__ import annotations

from reportlab.platypus import Flowable

from auditor.results import AuditResult, Measurement
from reports.blocks import paragraph, table
from reports.formatting import count, number, short
from reports.pictures import class_name
from reports.sections.attack import worst_case
from reports.series import focus, headline_epsilon, one

MOST = 200


def build(result: AuditResult) -> list[Flowable]:
    """The images on which an attack leaves least of the smoothed map."""
    header, rows = image_table(result)
    total, epsilon = len(result.images.names), headline_epsilon(result)
    lead = f"Attacked: adaptive top-k, ε = {short(epsilon)}/255. " if epsilon is not None else ""
    if total > MOST:
        lead += f"The {MOST} worst of {count(total)} images; all are in the attached audit.json. "
    lead += "“–” stands for an image that is excluded from a figure or was not measured."
    widths = (2.6, 1.4, 1.3, *[1.1] * (len(header) - 3))
    return [paragraph(lead), table(header, rows, widths, dense=True)]


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
            _half(result, i),
            *(number(m.values[i] if m else None) for m in columns.values()),
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


def _half(result: AuditResult, i: int) -> str:
    if i in result.images.screen:
        return "screen"
    return "confirm" if i in result.images.confirm else "misclassified"
