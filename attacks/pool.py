"""The best label-kept iterates of a search, judged with noise that the search never saw."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from attacks.clean import Objective
from attacks.problem import Fees, Problem

KEEP = 3
"""Iterates that a search over noisy maps remembers: its own scores are too noisy to keep one."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Found:
    """What an attack found for each row of a problem.

    Attributes
    ----------
    delta
        Perturbation (B, C, H, W) in pixel space; zero where nothing feasible was found.
    score
        The objective's score (B,) by which the winner was chosen; ``nan`` where nothing was found.
    feasible
        Whether (B,) a perturbation that keeps the label was found.
    """

    delta: Tensor
    score: Tensor
    feasible: Tensor

    @property
    def candidate(self) -> Tensor:
        """The perturbation (B, C, H, W), ``nan`` where nothing was found."""
        return self.delta.masked_fill(~self.feasible.reshape(-1, 1, 1, 1), torch.nan)


class Pool:
    """The best iterates so far, for each row of a problem.

    ``exact`` tells whether maps have no noise, so that scores met during the search are final.
    """

    def __init__(self, problem: Problem, objective: Objective) -> None:
        self.problem, self.objective = problem, objective
        self.exact = problem.select is None
        keep = 1 if self.exact else KEEP
        x = problem.x
        self.deltas = torch.full((keep, *x.shape), torch.nan, dtype=x.dtype)
        self.scores = torch.full((keep, len(x)), torch.inf, dtype=torch.float64)

    def offer(self, live: Tensor, delta: Tensor, score: Tensor) -> None:
        """Compare iterates (N, C, H, W) of some rows; ``score`` (N,) is infinite if infeasible."""
        worst, slot = self.scores[:, live].max(dim=0)
        better = (score < worst).nonzero()[:, 0]
        self.deltas[slot[better], live[better]] = delta[better]
        self.scores[slot[better], live[better]] = score[better]

    def first(self, live: Tensor, otherwise: Tensor) -> Tensor:
        """The best iterate of some rows, or what is given where there is none yet."""
        best = self.deltas[self.scores[:, live].argmin(dim=0), live]
        return best.where(~best.isnan(), otherwise)

    def best(self, live: Tensor, last: Tensor) -> Found:
        """The winner of each row; the last iterates (N, C, H, W) of the live rows compete."""
        if not self.exact:
            end = torch.full_like(self.problem.x, torch.nan)
            end[live] = last
            return choose(self.problem, self.objective, (*self.deltas, end))
        if len(live):
            here = self.problem.take(live)
            maps, kept = here.look(last, draw=0)
            score = self.objective.score(maps, here.clean).where(kept, torch.inf)
            self.offer(live, last, score)
        return _found(self.deltas[0], self.scores[0])


def choice_cost(fees: Fees) -> int:
    """Gradients of the true model that the final choice takes for each row."""
    return (KEEP + 1) * fees.select_samples if fees.noisy else 1


def choose(problem: Problem, objective: Objective, candidates: tuple[Tensor, ...]) -> Found:
    """The best of some perturbations (B, C, H, W), all scored with one and the same noise.

    Each is projected first; an image that is ``nan`` in one has no such candidate. Where two are
    equally good the earlier one wins.
    """
    explain = problem.explain if problem.select is None else problem.select
    best = torch.full((len(problem),), torch.inf, dtype=torch.float64)
    delta = torch.zeros_like(problem.x)
    for candidate in candidates:
        rows = (~candidate.flatten(1).isnan().any(dim=1)).nonzero()[:, 0]
        if not len(rows):
            continue
        here = problem.take(rows)
        tried = here.ball.project(here.x, candidate[rows], here.epsilon)
        maps, logits = explain(here.x + tried, rows=here.rows, draw=0)
        score = objective.score(maps, here.clean)
        better = (logits.argmax(dim=1) == here.target) & (score < best[rows])
        best[rows[better]] = score[better]
        delta[rows[better]] = tried[better]
    return _found(delta, best)


def merge(founds: tuple[Found, ...]) -> Found:
    """The best of several results for each row; they must have been scored alike."""
    scores = torch.stack([found.score.nan_to_num(torch.inf) for found in founds])
    best, index = scores.min(dim=0)
    delta = torch.stack([found.delta for found in founds])[index, torch.arange(len(index))]
    return _found(delta, best)


def _found(delta: Tensor, score: Tensor) -> Found:
    feasible = score.isfinite()
    return Found(
        delta=delta.where(feasible.reshape(-1, 1, 1, 1), 0.0),
        score=score.where(feasible, torch.nan),
        feasible=feasible,
    )
