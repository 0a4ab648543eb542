"""Measure where the decision is still open: coarse in σ and images first, then finer.

Successive elimination. All values of σ in play are measured on the same first images of the
screening half; those that a gate, a criterion or the objective has already decided against are
dropped, those next to the best so far are added from a finer grid, and the images are doubled. The
confirmation half is measured at the chosen σ alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

from auditor import gates as gating
from auditor.evidence import Evidence, Values, array, take
from profiles import Profile

FIRST = 8
"""Images of the first look."""

COARSE = 4
"""Every so many of the fine grid's σ are looked at first."""

Floats = npt.NDArray[np.float64]
Look = Callable[[str, float, tuple[int, ...]], Evidence]
"""Measures ``maps`` or ``attack`` at a σ for some images, and returns all that is known so far."""


@dataclass(frozen=True, kw_only=True)
class Race:
    """How a race ended.

    Attributes
    ----------
    finalists
        σ measured on the whole screening half, ascending: those a decision is made of.
    dropped
        σ → why nothing more was spent on it.
    error_rate
        Probability at most that a σ was dropped which the whole screening half would have kept.
    """

    finalists: tuple[float, ...]
    dropped: dict[float, str]
    error_rate: float


def race(
    look: Look,
    *,
    grid: Sequence[float],
    screen: Sequence[int],
    profile: Profile,
    error_rate: float = 0.05,
) -> Race:
    """Drop the σ that cannot be the answer, with few measurements.

    Each limit is Student's, one-sided, at ``error_rate`` divided by the number of tests that a race
    can make at most (Bonferroni over σ, looks and conditions), so that all hold together. A σ is
    dropped for its objective only if it is shown to be worse than one that has passed everything.

    Parameters
    ----------
    look
        Measures.
    grid
        The fine grid, ascending.
    screen
        Images of the screening half, in random order.
    profile
        Gates, criteria and objective.
    error_rate
        In (0, 1).

    References
    ----------
    Maron and Moore 1994 (Hoeffding races); Even-Dar, Mannor and Mansour 2006 (action elimination).
    """
    sizes = _sizes(len(screen))
    conditions = 5 + len(profile.criteria)
    judge = _Judge(profile=profile, level=error_rate / (len(grid) * (len(sizes) + 3) * conditions))
    alive = list(grid[::COARSE])
    if grid[-1] not in alive:
        alive.append(grid[-1])
    dropped: dict[float, str] = {}
    step = COARSE
    for size in sizes:
        rows = tuple(screen[:size])
        while True:
            for stage in ("maps", "attack"):
                for sigma in [s for s in alive if s not in dropped]:
                    evidence = look(stage, sigma, rows)
                    reason = judge.against(evidence, sigma, rows, stage)
                    if reason:
                        dropped[sigma] = reason
            left = [s for s in alive if s not in dropped]
            if left:
                evidence = look("attack", left[0], rows)
                dropped |= judge.worse(evidence, left, rows)
            if step == 1:
                break
            step //= 2
            center = judge.best(look("attack", left[0], rows), left, rows) if left else None
            near = _neighbors(grid, left if center is None else [center], step)
            alive = sorted({*alive, *near})
    return Race(
        finalists=tuple(s for s in alive if s not in dropped),
        dropped=dropped,
        error_rate=error_rate,
    )


def _sizes(count: int) -> list[int]:
    """Numbers of images of the looks: doubled each time."""
    sizes = [min(FIRST, count)]
    while sizes[-1] < count:
        sizes.append(min(2 * sizes[-1], count))
    return sizes


def _neighbors(grid: Sequence[float], centers: Sequence[float], step: int) -> set[float]:
    """σ of the grid ``step`` places from one of the centers."""
    at = [grid.index(sigma) for sigma in centers]
    return {grid[i + d] for i in at for d in (-step, step) if 0 <= i + d < len(grid)}


@dataclass(frozen=True, kw_only=True)
class _Judge:
    profile: Profile
    level: float

    def against(
        self, evidence: Evidence, sigma: float, rows: tuple[int, ...], stage: str
    ) -> str | None:
        """What is shown to be missed at a σ, ``None`` if nothing is."""
        for requirement in gating.requirements(evidence, self.profile.gates, sigma=sigma):
            limit = requirement.limit
            level = limit if isinstance(limit, float) else _mean(limit, rows)
            low, high = self._limits(requirement.values, rows)
            missed = high < level if requirement.comparison == ">=" else low >= level
            if missed:
                return f"gate {requirement.name}"
        for criterion in self.profile.criteria:
            if criterion.probe == "attack" and stage == "maps":
                continue
            worst = "smallest" if criterion.comparison == ">=" else "largest"
            values = evidence.find(
                criterion, sigma=sigma, worst=worst, compared_to=criterion.compared_to
            )
            low, high = self._limits(values, rows)
            if high < criterion.bound if criterion.comparison == ">=" else low > criterion.bound:
                return f"criterion {criterion.name}"
        return None

    def worse(
        self, evidence: Evidence, left: Sequence[float], rows: tuple[int, ...]
    ) -> dict[float, str]:
        """σ whose objective is shown to be worse than that of one that has passed everything."""
        columns = self._objectives(evidence, left, rows)
        passed = [s for s in columns if self._passes(evidence, s, rows, certain=True)]
        if not passed:
            return {}
        best = min(passed, key=lambda s: float(np.nanmean(columns[s])))
        worse = {}
        for sigma, column in columns.items():
            low, _ = _student(column - columns[best], self.level)
            if sigma != best and low > 0:
                worse[sigma] = f"objective worse than at σ = {best:g}"
        return worse

    def best(
        self, evidence: Evidence, left: Sequence[float], rows: tuple[int, ...]
    ) -> float | None:
        """σ with the best mean objective of those whose means clear every limit, if any does."""
        columns = self._objectives(evidence, left, rows)
        passed = [s for s in columns if self._passes(evidence, s, rows, certain=False)]
        return min(passed, key=lambda s: float(np.nanmean(columns[s])), default=None)

    def _objectives(
        self, evidence: Evidence, left: Sequence[float], rows: tuple[int, ...]
    ) -> dict[float, Floats]:
        """Objective by σ, oriented so that smaller is better."""
        objective = self.profile.objective
        sign = 1.0 if objective.direction == "minimize" else -1.0
        worst = "largest" if sign > 0 else "smallest"
        found = {s: evidence.find(objective, sigma=s, worst=worst) for s in left}
        return {s: sign * array(take(v, rows)) for s, v in found.items() if v is not None}

    def _passes(
        self, evidence: Evidence, sigma: float, rows: tuple[int, ...], *, certain: bool
    ) -> bool:
        """Whether means clear every limit; if ``certain``, those of criteria by their limits."""
        for requirement in gating.requirements(evidence, self.profile.gates, sigma=sigma):
            limit = requirement.limit
            level = limit if isinstance(limit, float) else _mean(limit, rows)
            if requirement.values is not None and not gating.COMPARE[requirement.comparison](
                _mean(requirement.values, rows), level
            ):
                return False
        for criterion in self.profile.criteria:
            worst = "smallest" if criterion.comparison == ">=" else "largest"
            values = evidence.find(
                criterion, sigma=sigma, worst=worst, compared_to=criterion.compared_to
            )
            if values is None:
                return False
            column = array(take(values, rows))
            low, high = _student(column, (1 - self.profile.confidence) / 2 if certain else 0.5)
            if low < criterion.bound if criterion.comparison == ">=" else high > criterion.bound:
                return False
        return True

    def _limits(self, values: Values | None, rows: tuple[int, ...]) -> tuple[float, float]:
        if values is None:
            return -math.inf, math.inf
        return _student(array(take(values, rows)), self.level)


def _mean(values: Values, rows: tuple[int, ...]) -> float:
    return float(np.nanmean(array(take(values, rows))))


def _student(column: Floats, level: float) -> tuple[float, float]:
    """One-sided limits of the mean, each at this level; infinite with fewer than three values."""
    counted = column[np.isfinite(column)]
    if len(counted) < 3:
        return -math.inf, math.inf
    half = float(stats.t.isf(level, len(counted) - 1) * counted.std(ddof=1)) / len(counted) ** 0.5
    mean = float(counted.mean())
    return mean - half, mean + half
