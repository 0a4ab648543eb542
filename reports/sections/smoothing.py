"""What smoothing by itself does to the maps of untouched images."""

from __future__ import annotations

from reportlab.graphics.shapes import Drawing
from reportlab.platypus import Flowable

from auditor.results import AuditResult
from reports import findings, text
from reports.blocks import beside, lead, paragraph, subsection, table
from reports.charts import grid_chart
from reports.formatting import aside, estimate_cell, short
from reports.series import (
    DRIFT_METRICS,
    Condition,
    counted,
    drawn,
    estimate,
    exclusions,
    focus_mark,
    one,
    over_sigma,
    sigma_ticks,
)
from reports.style import LOOKS, TEXT_WIDTH

_ABREAST = 5
_OVERVIEW = {
    "self_overlap": "Self-overlap (floor)",
    "label_kept": "Label kept under the noise",
    "map_error": "Map error",
    "norm_ratio": "Norm ratio to unsmoothed",
    "fidelity_error": "Fidelity error (map units)",
    "normalized_fidelity_error": "Fidelity error, normalized",
}


def build(result: AuditResult) -> list[Flowable]:
    """Table of the map's own quality over σ, small charts and table of the nine drifts."""
    if not result.find(probe="smoothing"):
        return [paragraph(text.NOT_RUN["smoothing"])]
    parts: list[Flowable] = [
        *lead(findings.smoothed(result)),
        paragraph(text.SMOOTHING_READING.format(samples=result.samples)),
        table(
            ("σ", "σ (0–255)", *_OVERVIEW.values(), "n", "Excluded"),
            [_overview_row(result, sigma) for sigma in result.sigmas],
            (0.8, 0.8, *[1.25] * len(_OVERVIEW), 0.6, 1.5),
            dense=True,
        ),
        subsection("Drift of the smoothed from the unsmoothed map", reserve=120),
    ]
    charts = [c for c in (_small_chart(result, m) for m in DRIFT_METRICS) if c is not None]
    parts += [
        beside(*charts[start : start + _ABREAST], columns=_ABREAST)
        for start in range(0, len(charts), _ABREAST)
    ]
    parts += [
        table(
            ("σ", *(text.METRICS[metric] for metric in DRIFT_METRICS)),
            [
                (
                    short(sigma),
                    *(
                        estimate_cell(
                            estimate(result, probe="smoothing", metric=metric, sigma=sigma)
                        )
                        for metric in DRIFT_METRICS
                    ),
                )
                for sigma in result.sigmas
            ],
            (1.0, *[1.25] * len(DRIFT_METRICS)),
            dense=True,
        ),
        paragraph("Small type and whiskers: confidence interval over images.", "caption"),
    ]
    return parts


def _overview_row(result: AuditResult, sigma: float) -> tuple[str, ...]:
    at: dict[str, Condition] = {"probe": "smoothing", "sigma": sigma}
    first = one(result, metric="self_overlap", **at) or one(result, **at)
    return (
        short(sigma),
        short(255 * sigma),
        *(estimate_cell(estimate(result, metric=metric, **at)) for metric in _OVERVIEW),
        counted(first),
        aside(exclusions(first) if first else "not run"),
    )


def _small_chart(result: AuditResult, metric: str) -> Drawing | None:
    curve = over_sigma(
        result, text.METRICS[metric], LOOKS["plain"], probe="smoothing", metric=metric
    )
    if not drawn(curve):
        return None
    mark, _ = focus_mark(result)
    return grid_chart(
        title=text.METRICS[metric],
        curves=[curve],
        ticks=sigma_ticks(result),
        x_title="σ",
        width=TEXT_WIDTH / _ABREAST - 4,
        height=88,
        mark=mark,
        mark_label="",
        legend_rows=0,
    )
