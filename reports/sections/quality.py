"""Whether the maps are good explanations at all: sparse, faithful, stable without an attacker."""

from __future__ import annotations

from reportlab.graphics.shapes import Drawing
from reportlab.platypus import Flowable

from auditor.results import AuditResult
from reports import findings, text
from reports.blocks import beside, bullets, lead, paragraph, subsection, table
from reports.charts import grid_chart
from reports.definitions import QUALITY
from reports.formatting import aside, count, estimate_inline, short
from reports.series import (
    counted,
    drawn,
    estimate,
    exclusions,
    focus,
    focus_mark,
    one,
    over_sigma,
    sigma_ticks,
)
from reports.style import LOOKS, TEXT_WIDTH

CHARTS = {
    "infd_scaled_squares": "Infidelity (low is good)",
    "road_morf": "ROAD (high is good)",
    "gini": "Gini index (high is good)",
}
"""Metrics that are drawn over σ, and the titles of their charts."""


def build(result: AuditResult) -> list[Flowable]:
    """A table of all metrics at σ = 0 and at the σ in question, three of them over σ."""
    if not result.find(probe="quality"):
        return [paragraph(text.NOT_RUN["quality"])]
    parts: list[Flowable] = [*lead(findings.explained(result)), paragraph(text.QUALITY_READING)]
    charts = [chart for chart in (_chart(result, metric) for metric in CHARTS) if chart]
    parts += [beside(*charts)] if charts else []
    at = focus(result)
    sigmas = (0.0,) if not at else (0.0, at)
    rows = [row for row in (_row(result, metric, sigmas) for metric in QUALITY) if row]
    header = ("Metric", "Better", *(f"σ = {short(sigma)}" for sigma in sigmas), "n", "Excluded")
    parts.append(table(header, rows, (3.0, 0.7, *[1.7] * len(sigmas), 0.5, 2.0), dense=True))
    skipped = [
        f"{m.partner}: {count(int(sum(v for v in m.values if v)))} perturbed images at "
        f"σ = {short(m.sigma or 0.0)} did not count."
        for m in result.find(probe="quality", metric="skipped")
        if m.sigma in sigmas
    ]
    missing = [
        f"Not applicable, {name}: {why}"
        for name, why in result.not_applicable.items()
        if name in text.QUALITY_GROUPS
    ]
    if skipped or missing:
        parts += [subsection("Left out", reserve=40), *bullets((*missing, *skipped))]
    return parts


def _row(result: AuditResult, metric: str, sigmas: tuple[float, ...]) -> tuple[str, ...] | None:
    found = [one(result, probe="quality", metric=metric, sigma=sigma) for sigma in sigmas]
    first = next((m for m in found if m is not None), None)
    if first is None:
        return None
    title, better = QUALITY[metric]
    unit = "" if first.unit in ("ratio", "log10") else f" ({first.unit})"
    return (
        title + unit,
        better,
        *(
            estimate_inline(estimate(result, probe="quality", metric=metric, sigma=sigma))
            for sigma in sigmas
        ),
        counted(first),
        aside(exclusions(first)),
    )


def _chart(result: AuditResult, metric: str) -> Drawing | None:
    title = CHARTS[metric]
    curve = over_sigma(result, title, LOOKS["plain"], probe="quality", metric=metric)
    if not drawn(curve):
        return None
    mark, _ = focus_mark(result)
    return grid_chart(
        title=title,
        curves=[curve],
        ticks=sigma_ticks(result),
        x_title="σ",
        width=TEXT_WIDTH / 3 - 6,
        height=98,
        mark=mark,
        mark_label="",
        legend_rows=0,
    )
