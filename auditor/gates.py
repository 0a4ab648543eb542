"""Gates: what a σ must meet before any criterion is looked at.

They keep a σ from winning because its map vanishes, is sampling noise, explains another decision,
or does not depend on the network's weights. Gates compare means; the other half of the images is
the guard against luck.
"""

from __future__ import annotations

import operator
from dataclasses import dataclass

import numpy as np

from auditor.evidence import Evidence, Values, array
from auditor.results import Gate
from profiles import Gates, Quantity

COMPARE = {">=": operator.ge, "<": operator.lt}

VANISHED = 1e-6
"""Ratio of norms, smoothed to plain map, at which a map counts as vanished."""


@dataclass(frozen=True, kw_only=True)
class Requirement:
    """A gate before it is evaluated: the mean of `values` against the mean of `limit`.

    `values` is ``None`` where the gate cannot be evaluated; `note` then says why.
    """

    name: str
    title: str
    values: Values | None
    comparison: str
    limit: float | Values
    note: str


def requirements(evidence: Evidence, gates: Gates, *, sigma: float) -> tuple[Requirement, ...]:
    """The gates at one σ, in the order in which they are reported."""

    def measured(probe: str, metric: str, worst: str) -> Values | None:
        quantity = Quantity(probe=probe, metric=metric)
        return evidence.find(quantity, sigma=sigma, worst=worst)

    ratio = measured("smoothing", "norm_ratio", "smallest")
    present = None if ratio is None else tuple(float((r or 0.0) > VANISHED) for r in ratio)
    twin = measured("twin", "topk_intersection", "smallest")
    limit = evidence.chance + gates.reinitialized_margin if twin is None else twin
    impossible = evidence.not_applicable.get("control")
    return (
        Requirement(
            name="map_present",
            title="Images whose smoothed map has not vanished",
            values=present,
            comparison=">=",
            limit=gates.map_present,
            note="" if ratio is None else _norms(evidence, ratio),
        ),
        Requirement(
            name="self_overlap",
            title="Top-k overlap of two smoothed maps made with different noise",
            values=measured("smoothing", "self_overlap", "smallest"),
            comparison=">=",
            limit=gates.self_overlap,
            note="",
        ),
        Requirement(
            name="label_kept",
            title="Noise draws that keep the explained class",
            values=measured("smoothing", "label_kept", "smallest"),
            comparison=">=",
            limit=gates.label_kept,
            note="",
        ),
        Requirement(
            name="reinitialized",
            title="Top-k overlap with the map of a re-initialized network",
            values=measured("control", "topk_intersection", "largest"),
            comparison="<",
            limit=limit,
            note=f"Not applicable: {impossible}"
            if impossible
            else "The limit is the overlap with the twin's map."
            if twin is not None
            else f"The limit is {gates.reinitialized_margin:g} above chance.",
        ),
    )


def evaluate(requirement: Requirement, evidence: Evidence, *, half: str) -> Gate:
    """Gate on one half of the images (``screening`` or ``confirmation``)."""
    value = None if requirement.values is None else _mean(requirement.values, evidence, half)
    limit = requirement.limit
    level = limit if isinstance(limit, float) else _mean(limit, evidence, half)
    passed = (
        None
        if value is None or level is None
        else bool(COMPARE[requirement.comparison](value, level))
    )
    if requirement.values is None:
        impossible = requirement.note.startswith("Not applicable")
        reason = requirement.note if impossible else "Not measured."
    elif passed is None:
        reason = f"No image of the {half} half has such a value."
    else:
        words = {True: "Met", False: "Not met"}[passed]
        reason = f"{words} on the {half} half. {requirement.note}".strip()
    return Gate(
        name=requirement.name,
        title=requirement.title,
        value=value,
        comparison=requirement.comparison,
        limit=evidence.chance if level is None else level,
        passed=passed,
        reason=reason,
    )


def shortfall(gate: Gate) -> float:
    """By how much a gate is missed, not negative; 0 where it is met or not measured."""
    if gate.value is None or gate.passed is not False:
        return 0.0
    return abs(gate.limit - gate.value)


def worse(first: Gate, second: Gate) -> Gate:
    """Of the same gate on two halves the one to show: failed before unmeasured before met."""
    order = {False: 0, None: 1, True: 2}
    return min(first, second, key=lambda gate: (order[gate.passed], -shortfall(gate)))


def _mean(values: Values, evidence: Evidence, half: str) -> float | None:
    counted = evidence.column(values, half)
    return float(np.mean(counted)) if counted else None


def _norms(evidence: Evidence, ratio: Values) -> str:
    counted = array(tuple(evidence.column(ratio)))
    if not len(counted):
        return "The unsmoothed maps vanish as well."
    return f"Mean norm ratio of the smoothed to the plain map: {counted.mean():.3f}."
