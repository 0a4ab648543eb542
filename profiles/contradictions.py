"""Criteria that no σ can meet together."""

from __future__ import annotations

from collections.abc import Sequence

from profiles.records import Criterion
from profiles.schema import AT_ZERO, METRICS


def contradiction(criteria: Sequence[Criterion]) -> str | None:
    """Why some of the criteria contradict each other, in a line that names them; else ``None``.

    Two limits on one quantity are refused too: only one of them can matter.
    """
    for index, criterion in enumerate(criteria):
        for other in criteria[:index]:
            if _quantity(criterion) == _quantity(other):
                return (
                    f"{other.name!r} and {criterion.name!r} limit the same quantity "
                    f"({other.bound:g} and {criterion.bound:g}).\nKeep the stricter one."
                )
    for criterion in criteria:
        if _at_best_unsmoothed(criterion) and _asks_for_gain(criterion):
            return (
                f"{criterion.name!r} asks {criterion.metric} to be better than without smoothing, "
                "but it is at its best there.\nLeave out compared_to, or choose a bound of 0."
            )
    gains = [c for c in criteria if _asks_for_gain(c)]
    exact = [c for c in criteria if _allows_only_zero(c)]
    for gain in gains:
        for limit in exact:
            if None in (gain.method, limit.method) or gain.method == limit.method:
                return (
                    f"{limit.name!r} allows no smoothing at all (bound {limit.bound:g}), while "
                    f"{gain.name!r} asks for a gain by smoothing.\nRelax one of the two bounds."
                )
    return None


def _quantity(criterion: Criterion) -> tuple[object, ...]:
    c = criterion
    size = (c.epsilon, c.epsilon_large)
    return (c.probe, c.metric, c.attack, size, c.compared_to, c.method)


def _asks_for_gain(criterion: Criterion) -> bool:
    if criterion.compared_to != "unsmoothed":
        return False
    return criterion.bound > 0 if METRICS[criterion.metric][2] == ">=" else criterion.bound < 0


def _allows_only_zero(criterion: Criterion) -> bool:
    if not _at_best_unsmoothed(criterion) or criterion.metric == "label_kept":
        return False
    return criterion.bound == (0.0 if criterion.compared_to else AT_ZERO[criterion.metric])


def _at_best_unsmoothed(criterion: Criterion) -> bool:
    return criterion.probe == "smoothing" and criterion.metric in AT_ZERO
