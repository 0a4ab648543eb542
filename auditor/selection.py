"""Which of the σ is best, and how firmly: Pareto front, choice, and its bootstrap."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from auditor.criteria import Judged
from auditor.evidence import Evidence, Values, array, take
from auditor.gates import COMPARE, Requirement
from auditor.results import Gate
from auditor.statistics import paired_difference

INTERVAL_CONFIDENCE = 0.9
RESAMPLES = 1000
_DECIMALS = 9  # a tie or a limit met exactly stays so whatever the order of summation

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class Contender:
    """What the choice looks at for one σ.

    `axes` are the coordinates of the Pareto front, smaller is better, ``None`` where not measured;
    `objective` is oriented so that smaller is better as well. `gates` are `requirements` evaluated
    on the screening half.
    """

    sigma: float
    requirements: tuple[Requirement, ...]
    gates: tuple[Gate, ...]
    criteria: tuple[Judged, ...]
    objective: Values | None
    axes: tuple[Values | None, ...]

    @property
    def status(self) -> str:
        """On the screening half: ``admissible``, ``rejected`` or ``inconclusive``."""
        found = [judged.screen.status for judged in self.criteria]
        lost = any(judged.screen.lost for judged in self.criteria)
        if lost or any(gate.passed is False for gate in self.gates):
            return "rejected"
        settled = self.objective is not None and set(found) == {"pass"}
        return "admissible" if settled else "inconclusive"


@dataclass(frozen=True, kw_only=True)
class Stability:
    """How the choice varies over bootstrap samples of the screening images.

    `wins` is the share of resamples won by each σ, `none_share` the share without a winner,
    `interval` the central 90% of the winners, ``None`` if at least half have none.
    """

    wins: tuple[float, ...]
    none_share: float
    interval: tuple[float, float] | None


def front(points: Floats) -> Flags:
    """Which points no other point dominates: at least as good in all, better in one coordinate.

    Parameters
    ----------
    points
        Shape (..., S, A), smaller is better; infinite where not measured.

    Returns
    -------
    Flags of shape (..., S).
    """
    other, own = points[..., :, None, :], points[..., None, :, :]
    dominates = np.all(other <= own, axis=-1) & np.any(other < own, axis=-1)
    undominated: Flags = np.logical_not(np.any(dominates, axis=-2))
    return undominated


def on_front(contenders: Sequence[Contender], evidence: Evidence) -> Flags:
    """Which σ lie on the front of the screening means; shape (S,)."""
    flags: Flags = front(_points(contenders, evidence, _all_once(evidence)))[0]
    return flags


def choose(contenders: Sequence[Contender], evidence: Evidence) -> int | None:
    """Position of the admissible σ on the front with the best objective; ties to the smaller σ."""
    admissible = np.array([[contender.status == "admissible" for contender in contenders]])
    winner = _winners(contenders, evidence, _all_once(evidence), admissible)[0]
    return None if winner < 0 else int(winner)


def equivalent(
    contenders: Sequence[Contender], evidence: Evidence, *, indifference: float, confidence: float
) -> tuple[float, ...]:
    """σ that the screening images cannot tell from the chosen one, which is among them; ascending.

    Eligible σ whose objective is not shown to be worse by more than ``indifference``: the paired
    one-sided limits hold together (Bonferroni over the σ that are compared).
    """
    best = choose(contenders, evidence)
    if best is None:
        return ()
    flags = on_front(contenders, evidence)
    rivals = [
        c for c, flag in zip(contenders, flags, strict=True) if flag and c.status == "admissible"
    ]
    level = 1 - 2 * (1 - confidence) / max(1, len(rivals) - 1)
    found = []
    for rival in rivals:
        worse = paired_difference(
            take(rival.objective or (), evidence.screen),
            take(contenders[best].objective or (), evidence.screen),
            confidence=level,
            seed=evidence.seed,
        )
        if worse is None or worse.low <= indifference:
            found.append(rival.sigma)
    return tuple(found)


def bootstrap_choice(
    contenders: Sequence[Contender], evidence: Evidence, *, resamples: int = RESAMPLES
) -> Stability:
    """Repeat the choice on resamples of the screening images.

    Each resample recomputes every mean, gate, front and objective. A criterion's limit moves with
    its mean and keeps its distance to it, and whether an attack counts is taken from the original
    images: a bootstrap within the bootstrap would cost a thousand times as much.
    """
    n = len(evidence.screen)
    if n == 0 or not evidence.enough:
        return Stability(wins=(0.0,) * len(contenders), none_share=1.0, interval=None)
    draws = np.random.default_rng(evidence.seed).multinomial(n, np.full(n, 1 / n), size=resamples)
    weights = draws.astype(np.float64)
    admissible = np.stack([_admissible(c, evidence, weights) for c in contenders], axis=-1)
    winners = _winners(contenders, evidence, weights, admissible)
    wins = tuple(float(np.mean(winners == i)) for i in range(len(contenders)))
    none_share = float(np.mean(winners < 0))
    interval = None
    if none_share < 0.5:
        tail = (1 - INTERVAL_CONFIDENCE) / 2
        chosen = np.array([c.sigma for c in contenders])[winners[winners >= 0]]
        low, high = np.quantile(chosen, [tail, 1 - tail], method="inverted_cdf")
        interval = (float(low), float(high))
    return Stability(wins=wins, none_share=none_share, interval=interval)


def _winners(
    contenders: Sequence[Contender], evidence: Evidence, weights: Floats, admissible: Flags
) -> npt.NDArray[np.intp]:
    eligible = admissible & front(_points(contenders, evidence, weights))
    objective = np.stack([_means(c.objective, evidence, weights) for c in contenders], axis=-1)
    ranked = np.where(eligible, objective, np.inf)
    return np.where(np.isfinite(ranked).any(axis=-1), ranked.argmin(axis=-1), -1)


def _admissible(contender: Contender, evidence: Evidence, weights: Floats) -> Flags:
    passes = np.full(len(weights), contender.objective is not None)
    for requirement, gate in zip(contender.requirements, contender.gates, strict=True):
        if gate.passed is None:
            continue
        limit = requirement.limit
        level = limit if isinstance(limit, float) else _means(limit, evidence, weights)
        compare = COMPARE[requirement.comparison]
        passes &= compare(_means(requirement.values, evidence, weights), level)
    for judged in contender.criteria:
        finding, criterion = judged.screen, judged.criterion
        if finding.estimate is None or finding.cause not in ("", "limit", "undecided"):
            return np.zeros(len(weights), dtype=bool)
        mean = _means(judged.values, evidence, weights)
        estimate, at_least = finding.estimate, criterion.comparison == ">="
        offset = (estimate.low if at_least else estimate.high) - estimate.mean
        near = (mean + offset).round(_DECIMALS)
        passes &= near >= criterion.bound if at_least else near <= criterion.bound
    return passes


def _points(contenders: Sequence[Contender], evidence: Evidence, weights: Floats) -> Floats:
    axes = [
        np.stack([_means(values, evidence, weights) for values in contender.axes], axis=-1)
        for contender in contenders
    ]
    return np.stack(axes, axis=-2)


def _all_once(evidence: Evidence) -> Floats:
    return np.ones((1, len(evidence.screen)))


def _means(values: Values | None, evidence: Evidence, weights: Floats) -> Floats:
    """Weighted means over the screening images that count, shape (R,); infinite if none does."""
    if values is None:
        return np.full(len(weights), np.inf)
    column = array(take(values, evidence.screen))
    counts = weights @ np.isfinite(column).astype(np.float64)
    sums = weights @ np.nan_to_num(column)
    means: Floats = np.divide(sums, counts, out=np.full(len(weights), np.inf), where=counts > 0)
    return means.round(_DECIMALS)
