"""The headline measurements for each subgroup of the images, where there are any."""

from __future__ import annotations

from reportlab.platypus import Flowable

from auditor.results import AuditResult, SubgroupEstimate
from reports import text
from reports.blocks import capped, paragraph, subsection, table
from reports.formatting import Markup, count, estimate_cell, short

MOST_SUBGROUPS = 40


def build(result: AuditResult) -> list[Flowable]:
    """A row for each subgroup, a column for each measurement; nothing without subgroups."""
    found = result.subgroups
    if not found:
        return []
    columns = tuple(dict.fromkeys(_title(e) for e in found))
    sizes = {e.subgroup: e.images for e in found}
    cells = {(e.subgroup, _title(e)): _cell(e) for e in found}
    every = [
        (name, count(size), *(cells.get((name, title), Markup("")) for title in columns))
        for name, size in sizes.items()
    ]
    rows, left = capped(every, MOST_SUBGROUPS, "subgroups")
    parts: list[Flowable] = [
        subsection("By subgroup"),
        paragraph(text.SUBGROUPS),
        table(("Subgroup", "Images", *columns), rows, (1.6, 0.7, *[1.4] * len(columns))),
    ]
    if left:
        parts.append(paragraph(left, "caption"))
    return parts


def _title(e: SubgroupEstimate) -> str:
    at = f"σ = {short(e.sigma)}"
    if e.probe == "attack":
        return f"Attacked overlap, {at}, ε = {short(e.epsilon)}/255"
    if e.metric == "topk_intersection":
        return f"Overlap with the unsmoothed map, {at}"
    return f"{text.METRICS.get(e.metric, e.metric)}, {at}"


def _cell(e: SubgroupEstimate) -> Markup:
    cell = estimate_cell(e.estimate)
    if e.estimate is None:
        return cell
    return Markup(f'{cell}<font size="5.3" color="#555555">; n = {count(e.estimate.n)}</font>')
