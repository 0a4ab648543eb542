"""The model's maps against those of its twins, and against a network that learned nothing."""

from __future__ import annotations

from reportlab.graphics.shapes import Drawing
from reportlab.platypus import Flowable

from auditor.results import AuditResult
from reports import findings, text
from reports.blocks import beside, lead, paragraph, subsection, table
from reports.charts import Curve, grid_chart
from reports.formatting import aside, count, estimate_cell, estimate_line, short
from reports.sections import ensembles
from reports.series import (
    Condition,
    chance_level,
    counted,
    drawn,
    estimate,
    exclusions,
    focus_mark,
    one,
    over_sigma,
    partners,
    sigma_ticks,
)
from reports.style import LOOKS, TEXT_WIDTH

MOST = 3
"""Twins that get a table of their own."""
_TWIN_LOOKS = ("stability", "plain", "transfer")
_TWIN = {
    "stability_error": "Stability error (map units)",
    "normalized_stability_error": "Stability error, normalized",
    "fidelity_error": "Fidelity error (map units)",
    "normalized_fidelity_error": "Fidelity error, normalized",
    "ssim": "SSIM",
    "topk_iou": "Top-k IoU",
    "topk_intersection": "Top-k overlap",
}
_CONTROL = {
    "topk_intersection": "Top-k overlap",
    "ssim": "SSIM",
    "spearman": "Spearman correlation",
}


def build(result: AuditResult, *, most: int = MOST) -> list[Flowable]:
    """Charts, a table for each of the first ``most`` twins, ensembles, the control."""
    parts = lead(findings.retrained(result))
    twins = partners(result, "twin")
    parts.append(paragraph(text.TWIN_READING if twins else text.NOT_RUN["twin"]))
    charts = [
        chart
        for chart in (
            _errors(result, twins, "normalized_", "Errors, divided by the mean map norm"),
            _errors(result, twins, "", "Errors in map units"),
        )
        if chart is not None
    ]
    parts += [beside(*charts)] if charts else []
    for index, twin in enumerate(twins[:most], start=1):
        parts += _twin(result, twin, f"Twin {index}")
    if len(twins) > most:
        parts.append(
            paragraph(
                f"Tables are printed of the first {most} of {count(len(twins))} twins; the others "
                "are in the attached audit.json."
            )
        )
    parts += ensembles.build(result, most=min(most, ensembles.MOST))
    parts.append(
        subsection("Re-initialized control", reserve=150 if partners(result, "control") else 30)
    )
    controls = partners(result, "control")
    impossible = result.not_applicable.get("control")
    missing = f"Not applicable: {impossible}" if impossible else text.NOT_RUN["control"]
    if not controls:
        return [*parts, paragraph(missing)]
    chart, reading = _control_chart(result), paragraph(text.CONTROL_READING)
    parts.append(beside(chart, reading) if chart else reading)
    parts += [_table(result, "control", control, _CONTROL) for control in controls]
    return parts


def _twin(result: AuditResult, twin: str, title: str) -> list[Flowable]:
    words = twin
    agreement = estimate(result, probe="twin", partner=twin, metric="agreement")
    if agreement is not None:
        words += (
            ". Share of images that the model and this twin put into the same class: "
            f"{estimate_line(agreement)}."
        )
    return [subsection(title), paragraph(words), _table(result, "twin", twin, _TWIN)]


def _table(result: AuditResult, probe: str, partner: str, metrics: dict[str, str]) -> Flowable:
    rows = []
    for sigma in result.sigmas:
        at: dict[str, Condition] = {"probe": probe, "partner": partner, "sigma": sigma}
        found = [one(result, metric=metric, **at) for metric in metrics]
        first = next((m for m in found if m is not None), None)
        rows.append(
            (
                short(sigma),
                *(estimate_cell(m.estimate if m else None) for m in found),
                counted(first),
                aside(exclusions(first) if first else "not run"),
            )
        )
    return table(
        ("σ", *metrics.values(), "n", "Excluded"),
        rows,
        (0.8, *[1.2] * len(metrics), 0.6, 1.6),
        dense=True,
    )


def _errors(result: AuditResult, twins: tuple[str, ...], prefix: str, title: str) -> Drawing | None:
    """Stability against the first three twins, fidelity with the first of them."""
    curves = [
        over_sigma(
            result,
            "stability" if len(twins) == 1 else f"stability, twin {index}",
            LOOKS[look],
            probe="twin",
            partner=twin,
            metric=f"{prefix}stability_error",
        )
        for index, (twin, look) in enumerate(zip(twins, _TWIN_LOOKS, strict=False), start=1)
    ]
    for twin in twins[:1]:
        label = "fidelity" if len(twins) == 1 else "fidelity, twin 1"
        at = {"probe": "twin", "partner": twin, "metric": f"{prefix}fidelity_error"}
        curves.append(over_sigma(result, label, LOOKS["fidelity"], **at))
    return _chart(result, title, drawn(*curves))


def _control_chart(result: AuditResult) -> Drawing | None:
    curves = [
        over_sigma(
            result,
            "twin" if index == 0 else f"twin {index + 1}",
            LOOKS["stability"] if index == 0 else LOOKS["plain"],
            probe="twin",
            partner=twin,
            metric="topk_intersection",
        )
        for index, twin in enumerate(partners(result, "twin")[:2])
    ]
    curves += [
        over_sigma(
            result,
            "re-initialized network",
            LOOKS["control"],
            probe="control",
            partner=control,
            metric="topk_intersection",
        )
        for control in partners(result, "control")
    ]
    return _chart(
        result, "Top-k overlap of the model's maps with those of", drawn(*curves), overlap=True
    )


def _chart(
    result: AuditResult, title: str, curves: tuple[Curve, ...], *, overlap: bool = False
) -> Drawing | None:
    if not curves:
        return None
    mark, label = focus_mark(result)
    return grid_chart(
        title=title,
        curves=curves,
        ticks=sigma_ticks(result),
        x_title="smoothing σ (pixel units)",
        width=TEXT_WIDTH / 2 - 6,
        height=145,
        y_range=(0, 1) if overlap else None,
        levels=chance_level(result) if overlap else (),
        mark=mark,
        mark_label=label,
    )
