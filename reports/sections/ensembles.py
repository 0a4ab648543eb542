"""Members of an ensemble against each other: how much of a map is the luck of its training."""

from __future__ import annotations

import numpy as np
from reportlab.graphics.shapes import Drawing
from reportlab.platypus import Flowable

from auditor.results import AuditResult, Comparison
from reports.blocks import beside, gap, paragraph, subsection, table
from reports.charts import Curve, grid_chart
from reports.formatting import count, estimate_cell, number, percent, short
from reports.sections import members
from reports.series import drawn, estimate, focus, focus_mark, one, sigma_ticks
from reports.style import LOOKS, TEXT_WIDTH

READING = (
    "Members of an ensemble learned the same task anew and differ in what their name says. Where "
    "their maps differ, a map shows the luck of its training besides the picture. The table is "
    "that of S0: how alike the maps of two members are, without smoothing and smoothed, in the "
    "mean over all pairs. The p-values are those of Wilcoxon's test on the same images, with "
    "Holm's correction for all rows and σ."
)
MOST = 2
"""Ensembles with figures; those that differ in the shuffle alone are one."""
FIGURES = (
    "Errors are those of S0 (12) and (13). Bias is the distance of a smoothed map from the "
    "unsmoothed one, spread the root of an image's variance over the members: smoothing trades one "
    "for the other (S0, Figure 16)."
)
_SHADED = {
    False: "The shaded bands are one standard deviation over the images, the whiskers the "
    "interval of the mean.",
    True: "The shaded bands are one standard deviation over the shuffles of the training data.",
}


def build(result: AuditResult, *, most: int = MOST) -> list[Flowable]:
    """S0's table for all ensembles, then for each of ``most`` its errors, bias and spread."""
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
    groups = _groups(names)
    for title, group in list(groups.items())[:most]:
        charts = _charts(result, group)
        parts += [subsection(title, reserve=170), paragraph(_members(result, group))]
        if charts:
            parts += [beside(*charts), paragraph(f"{_SHADED[len(group) > 1]} {FIGURES}", "caption")]
        parts += members.build(result, group[0], names.index(group[0]))
    if len(groups) > most:
        parts.append(
            paragraph(
                f"Figures are printed of the first {most} of {count(len(groups))} ensembles; the "
                "table has all, and what the others would show is in the attached audit.json."
            )
        )
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


def _groups(names: tuple[str, ...]) -> dict[str, list[str]]:
    """Ensembles that differ in the shuffle alone belong to one figure."""
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(name.partition(", seed ")[0], []).append(name)
    return {title if len(group) > 1 else group[0]: group for title, group in groups.items()}


def _members(result: AuditResult, group: list[str]) -> str:
    found = [estimate(result, probe="ensemble", partner=n, metric="agreement") for n in group]
    agree = [percent(known.mean) for known in found if known is not None]
    if not agree:
        return "It is not known how often the members agree."
    return (
        f"Two members put {', '.join(agree)} of the images into the same class. Members that "
        "disagree on the class explain different things."
    )


def _charts(result: AuditResult, group: list[str]) -> list[Drawing]:
    stability = _curve(result, group, "stability", "normalized_stability_error", "stability")
    fidelity = _curve(result, group, "fidelity", "normalized_fidelity_error", "fidelity")
    bias = _curve(result, group, "bias", "fidelity_error", "fidelity")
    spread = _curve(result, group, "spread", "variance", "stability")
    pairs = (
        ("Errors, divided by the mean map norm", drawn(stability, fidelity)),
        ("Bias and spread in map units", drawn(bias, spread)),
    )
    mark, label = focus_mark(result)
    return [
        grid_chart(
            title=title,
            curves=curves,
            ticks=sigma_ticks(result),
            x_title="smoothing σ (pixel units)",
            width=TEXT_WIDTH / 2 - 6,
            height=145,
            mark=mark,
            mark_label=label,
        )
        for title, curves in pairs
        if curves
    ]


def _curve(result: AuditResult, group: list[str], label: str, metric: str, look: str) -> Curve:
    """Means over the images, with a band of one standard deviation.

    It is that over the ensembles of a group, as S0's over three shuffles; of one ensemble, that
    over its images. The root of a variance is taken image by image.
    """
    points, band = [], []
    for position, sigma in enumerate(result.sigmas):
        found = [
            one(result, probe="ensemble", partner=name, metric=metric, sigma=sigma)
            for name in group
        ]
        known = [[v for v in m.values if v is not None] for m in found if m is not None]
        values = [np.sqrt(v) if metric == "variance" else np.array(v) for v in known if v]
        if not values:
            continue
        means = [float(v.mean()) for v in values]
        mean = sum(means) / len(means)
        over = means if len(group) > 1 else values[0]
        deviation = float(np.std(over, ddof=1)) if len(over) > 1 else 0.0
        whisker = found[0].estimate if len(group) == 1 and found[0] else None
        if whisker is None or metric == "variance":
            points.append((float(position), mean, mean, mean))
        else:
            points.append((float(position), mean, whisker.low, whisker.high))
        band.append((max(0.0, mean - deviation), mean + deviation))
    return Curve(label=label, look=LOOKS[look], points=tuple(points), band=tuple(band))
