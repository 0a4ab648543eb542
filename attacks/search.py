"""Projected search for the perturbation that makes a map drift most, label kept."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from attacks.ball import L2, Linf
from attacks.clean import Clean, Objective
from attacks.explain import Explain, Margin
from attacks.topk import Boundary


@dataclass(frozen=True, kw_only=True)
class Found:
    """What a search found for each image.

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


@dataclass(frozen=True, kw_only=True)
class Search:
    """Sign steps with momentum along the map's curvature, for any objective.

    The step direction is a Hessian-vector product by central difference of the true model's
    maps, (a(x + hv) − a(x − hv))/2h: it sees the kinks that a ReLU network really has, where
    double backward returns zero. An image whose label is lost steps along its margin instead.

    Attributes
    ----------
    steps
        Iterations; each costs three maps (the iterate and the two ends of the difference).
    objective
        What to move.
    ball
        Norm of the perturbation.
    momentum
        Share of the previous direction that is kept.
    first_step, last_step
        Step length as a share of ε; geometric in between.
    longest, shortest
        First and last h, the ℓ₂ length of the difference, geometric in between, for 784 pixel
        values (a 28×28 image); it scales with √(number of values). A long difference sees the
        coarse shape of the map, a short one the kinks near by: going from one to the other beat
        every fixed or random length that was tried.

    Notes
    -----
    The objective's gradient is Jᵀv, J the Jacobian of the map; the difference gives Jv. Both are
    the same only where J is symmetric, that is for maps that are gradient fields: the gradient of
    a score and its smoothed form. For any other map the direction is a heuristic.
    """

    steps: int = 50
    objective: Objective = Boundary()
    ball: Linf | L2 = Linf()
    momentum: float = 0.75
    first_step: float = 1 / 6
    last_step: float = 1 / 40
    longest: float = 1.0
    shortest: float = 0.02

    def run(
        self,
        explain: Explain,
        margin: Margin,
        x: Tensor,
        *,
        target: Tensor,
        clean: Clean,
        epsilon: Tensor,
        generators: list[torch.Generator],
        select: Explain | None = None,
        candidates: tuple[Tensor, ...] = (),
    ) -> Found:
        """Search from a random start; ``candidates`` compete with what is found.

        Parameters
        ----------
        x
            Images (B, C, H, W) in [0, 1].
        target
            Class (B,) that must stay the predicted one.
        clean
            Clean maps that the objective compares with, fixed during the search.
        epsilon
            Radius (B,) of the ball, in [0, 1] units.
        generators
            One per image: the random start depends on the image alone.
        select
            Explains with noise that the search never saw; ``None`` when maps have no noise, then
            every iterate is scored as it is met.
        candidates
            Perturbations (B, C, H, W) found elsewhere, e.g. for a smaller ε or another map,
            projected first; an image that is ``nan`` in one has no such candidate.
        """
        rows = torch.arange(len(x))
        pool = _Pool(x, self.objective, target=target, keep=1 if select is None else 3)
        delta = self.ball.start(x, epsilon, generators)
        velocity = torch.zeros_like(x)
        for step in range(self.steps + 1):
            maps, logits = explain(x + delta, rows=rows, draw=step)
            kept = logits.argmax(dim=1) == target
            pool.offer(delta, self.objective.score(maps, clean), kept)
            if step == self.steps:
                break
            direction = self._direction(explain, x + delta, maps, clean, step)
            lost = (~kept).nonzero()[:, 0]
            if len(lost):
                direction[lost] = -_unit(margin((x + delta)[lost], rows=lost))
            velocity = self.momentum * velocity + _unit(direction)
            length = self._between(self.first_step, self.last_step, step) * _wide(epsilon)
            delta = self.ball.project(x, delta - length * self.ball.unit(velocity), epsilon)
        known = (self.ball.project(x, candidate, epsilon) for candidate in candidates)
        return pool.best(explain if select is None else select, clean, (*known, delta))

    def _direction(
        self, explain: Explain, x: Tensor, maps: Tensor, clean: Clean, step: int
    ) -> Tensor:
        v = self.objective.gradient(maps, clean)
        v = v / _wide(v.flatten(1).norm(dim=1).clamp_min(torch.finfo(v.dtype).tiny))
        h = math.sqrt(x[0].numel() / 784) * self._between(self.longest, self.shortest, step)
        rows = torch.arange(len(x))
        both, _ = explain(
            torch.cat([x + h * v, x - h * v]), rows=torch.cat([rows, rows]), draw=step
        )
        ahead, behind = torch.split(both, len(x))
        return ahead - behind

    def _between(self, first: float, last: float, step: int) -> float:
        """Geometric from ``first`` at step 0 to ``last`` at the last step."""
        return first * math.pow(last / first, step / max(1, self.steps - 1))


class _Pool:
    """The best label-kept iterates so far; ``nan`` where there are fewer than it can keep."""

    def __init__(self, x: Tensor, objective: Objective, *, target: Tensor, keep: int) -> None:
        self.x = x
        self.objective = objective
        self.target = target
        self.deltas = torch.full((keep, *x.shape), torch.nan, dtype=x.dtype)
        self.scores = torch.full((keep, len(x)), torch.inf, dtype=torch.float64)

    def offer(self, delta: Tensor, scores: Tensor, kept: Tensor) -> None:
        worst, slot = self.scores.max(dim=0)
        better = (kept & (scores < worst)).nonzero()[:, 0]
        self.deltas[slot[better], better] = delta[better]
        self.scores[slot[better], better] = scores[better]

    def best(self, explain: Explain, clean: Clean, others: tuple[Tensor, ...]) -> Found:
        """Score the pool and ``others`` with one and the same noise; the lowest score wins."""
        best = torch.full((len(self.x),), torch.inf, dtype=torch.float64)
        delta = torch.zeros_like(self.x)
        for candidate in (*self.deltas, *others):
            rows = (~candidate.flatten(1).isnan().any(dim=1)).nonzero()[:, 0]
            if not len(rows):
                continue
            maps, logits = explain(self.x[rows] + candidate[rows], rows=rows, draw=0)
            score = self.objective.score(maps, clean.rows(rows))
            better = (logits.argmax(dim=1) == self.target[rows]) & (score < best[rows])
            best[rows[better]] = score[better]
            delta[rows[better]] = candidate[rows[better]]
        feasible = best.isfinite()
        return Found(
            delta=delta,
            score=torch.where(feasible, best, torch.nan),
            feasible=feasible,
        )


def _unit(direction: Tensor) -> Tensor:
    """Divide each image's direction by its mean absolute value."""
    size = direction.abs().flatten(1).mean(dim=1)
    return direction / _wide(size.clamp_min(torch.finfo(direction.dtype).tiny))


def _wide(values: Tensor) -> Tensor:
    return values.reshape(-1, 1, 1, 1)
