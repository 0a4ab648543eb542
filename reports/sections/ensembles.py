"""Members of an ensemble against each other: how much of a map is the luck of its training."""

from __future__ import annotations

import math

from reportlab.graphics.shapes import Drawing
from reportlab.platypus import Flowable

from auditor.results import AuditResult, Comparison
from reports.blocks import beside, gap, paragraph, subsection, table
from reports.charts import Curve, grid_chart
from reports.formatting import estimate_cell, number, percent, short
from reports.series import drawn, estimate, focus, focus_mark, over_sigma, sigma_ticks
from reports.style import LOOKS, TEXT_WIDTH

READING = (
    "Members of an ensemble learned the same task anew and differ in what their name says. Where "
    "their maps differ, a map shows the luck of its training besides the picture. The table is "
    "that of S0: how alike the maps of two members are, without smoothing and smoothed, in the "
    "mean over all pairs. The p-values are those of Wilcoxon's test on the same images, with "
    "Holm's correction for all rows and σ."
)
SPREAD = (
    "Bias is the distance of a smoothed map from the unsmoothed one, spread the root of the "
    "variance over the members: smoothing trades one for the other (S0, Figure 16)."
)


def build(result: AuditResult) -> list[Flowable]:
    """S0's table for all ensembles, then for each its errors, bias and spread over σ."""
    names = ensembles(result)
    sigma = focus(result) or next((s for s in reversed(result.sigmas) if s), None)
    if not names or sigma is None:
        return []
    parts: list[Flowable] = [
        subsection("Members of ensembles", reserve=160),
        paragraph(READING),
        _similarity(result, names, sigma),
        gap(),
    ]
    for name in names:
        parts += [subsection(name, reserve=225), paragraph(_members(result, name))]
        charts = _charts(result, name)
        parts += [beside(*charts)] if charts else []
    parts.append(paragraph(SPREAD))
    return parts


def ensembles(result: AuditResult) -> tuple[str, ...]:
    """Names of all ensembles, in the order measured."""
    found = result.find(probe="ensemble", metric="stability_error")
    return tuple(dict.fromkeys(m.partner for m in found if m.partner))


def _similarity(result: AuditResult, names: tuple[str, ...], sigma: float) -> Flowable:
    rows = []
    for name in names:
        cells = [name]
        for metric in ("ssim", "topk_iou"):
            at = {"probe": "ensemble", "partner": name, "metric": metric}
            cells += [estimate_cell(estimate(result, sigma=s, **at)) for s in (0.0, sigma)]
            cells.append(_adjusted(result, name, metric, sigma))
        rows.append(cells)
    smoothed = f"σ = {short(sigma)}"
    header = ("Ensemble", "SSIM", smoothed, "p", "Top-k IoU", smoothed, "p")
    return table(header, rows, (3, 1.2, 1.2, 0.9, 1.2, 1.2, 0.9))


def _adjusted(result: AuditResult, name: str, metric: str, sigma: float) -> str:
    for c in result.comparisons:
        if (c.probe, c.partner, c.metric, c.sigma) == ("ensemble", name, metric, sigma):
            return _p(c)
    return number(None)


def _p(comparison: Comparison) -> str:
    if comparison.adjusted is None:
        return number(None)
    return "< 0.001" if comparison.adjusted < 0.001 else number(comparison.adjusted, digits=2)


def _members(result: AuditResult, name: str) -> str:
    agree = estimate(result, probe="ensemble", partner=name, metric="agreement")
    if agree is None:
        return "It is not known how often the members agree."
    return (
        f"Two members put {percent(agree.mean)} of the images into the same class. Members that "
        "disagree on the class explain different things."
    )


def _charts(result: AuditResult, name: str) -> list[Drawing]:
    at = {"probe": "ensemble", "partner": name}
    stability = over_sigma(
        result, "stability", LOOKS["stability"], **at, metric="normalized_stability_error"
    )
    fidelity = over_sigma(
        result, "fidelity", LOOKS["fidelity"], **at, metric="normalized_fidelity_error"
    )
    bias = over_sigma(result, "bias", LOOKS["fidelity"], **at, metric="fidelity_error")
    variance = over_sigma(result, "spread", LOOKS["stability"], **at, metric="variance")
    pairs = (
        ("Errors, divided by the mean map norm", drawn(stability, fidelity)),
        ("Bias and spread in map units", drawn(bias, _root(variance))),
    )
    mark, label = focus_mark(result)
    return [
        grid_chart(
            title=title,
            curves=curves,
            ticks=sigma_ticks(result),
            x_title="smoothing σ (pixel units)",
            width=TEXT_WIDTH / 2 - 6,
            mark=mark,
            mark_label=label,
        )
        for title, curves in pairs
        if curves
    ]


def _root(curve: Curve) -> Curve:
    points = tuple((x, *(math.sqrt(max(0.0, v)) for v in rest)) for x, *rest in curve.points)
    return Curve(
        label=curve.label,
        look=curve.look,
        points=tuple((x, mean, low, high) for x, mean, low, high in points),
    )
