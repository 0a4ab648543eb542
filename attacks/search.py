"""Projected search for the perturbation that makes a map drift most, label kept."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import torch
from torch import Tensor

from attacks.clean import Objective
from attacks.oracles import Aim, Difference, Oracle, Step, wide
from attacks.pool import Found, Pool, choice_cost
from attacks.problem import Fees, Problem
from attacks.rules import Annealed, Apgd, FixedSign
from attacks.topk import Boundary

MEMORY = 0.75
"""Weight of the past in the mean map that is aimed at, for maps with noise."""


@dataclass(frozen=True, kw_only=True)
class Search:
    """Steps along an oracle's direction, for any objective; an iterate that lost its label turns.

    Such an iterate steps along its margin until the label is back. A row is done early when its
    score can't get lower.

    Attributes
    ----------
    steps
        Iterations; ``cost`` says what they take.
    objective
        What to move.
    rule
        How long the steps are.
    oracle
        Which way they go.
    restart
        Number of the random start; searches with different ones are restarts of each other.
    """

    steps: int = 75
    objective: Objective = Boundary()
    rule: Annealed | Apgd | FixedSign = Annealed()
    oracle: Oracle = Difference()
    restart: int = 0

    def run(self, problem: Problem, *, start: Tensor | None = None) -> Found:
        """Search from ``start`` (B, C, H, W), or a random start; the best feasible iterate wins.

        Start and last iterate compete too.
        """
        pool = Pool(problem, self.objective)
        delta = problem.start(self.restart) if start is None else start
        walk = _Walk(
            live=torch.arange(len(problem)),
            problem=problem,
            delta=problem.ball.project(problem.x, delta, problem.epsilon),
            velocity=torch.zeros_like(problem.x),
            aim=Aim(self.objective, problem.clean, MEMORY if problem.fees.noisy else 0.0),
            scores=torch.empty((0, len(problem)), dtype=torch.float64),
        )
        for number in range(self.steps):
            walk = self._step(walk, number, pool)
            if pool.exact:
                walk = walk.take((walk.scores.amin(dim=0) > self.objective.lowest).nonzero()[:, 0])
            if not len(walk.live):
                break
        return pool.best(walk.live, walk.delta)

    def cost(self, fees: Fees) -> float:
        """Gradients of the true model for each row, without those that bring a lost label back."""
        return self.steps * self.oracle.cost(fees) + self._once(fees)

    def within(self, budget: float, fees: Fees) -> Search:
        """The same search with as many steps as the budget (gradients for each row) allows.

        Raises
        ------
        ValueError
            If it does not allow one.
        """
        steps = int((budget - self._once(fees)) / self.oracle.cost(fees))
        if steps < 1:
            least = dataclasses.replace(self, steps=1).cost(fees)
            raise ValueError(
                f"a budget of {budget:g} gradients is too small for one step: at least {least:g}."
            )
        return dataclasses.replace(self, steps=steps)

    def _once(self, fees: Fees) -> int:
        """The choice, and for maps with noise the one that the first step aims by."""
        return choice_cost(fees) + (fees.samples if fees.noisy else 0)

    def _step(self, walk: _Walk, number: int, pool: Pool) -> _Walk:
        problem, delta = walk.problem, walk.delta
        step = Step(number=number, progress=number / max(1, self.steps - 1))
        maps, kept, direction = self.oracle(problem, delta, walk.aim, step)
        score = self.objective.score(maps, problem.clean).where(kept, torch.inf)
        pool.offer(walk.live, delta, score)
        lost = (~kept).nonzero()[:, 0]
        if len(lost):
            away = problem.take(lost)
            direction[lost] = -_unit(away.margin(away.x + delta[lost], rows=away.rows))
        scores = torch.cat([walk.scores, score[None]])
        length, back = self.rule.pace(scores, self.steps)
        if back.any():
            direction[back] = 0.0
            delta = delta.where(~wide(back), pool.first(walk.live, delta))
        velocity = self.rule.momentum * walk.velocity.where(~wide(back), 0.0) + _unit(direction)
        unit = problem.ball.unit(velocity)
        moved = delta - wide(length * problem.epsilon).to(delta.dtype) * unit
        moved = problem.ball.project(problem.x, moved, problem.epsilon)
        return dataclasses.replace(walk, delta=moved, velocity=velocity, scores=scores)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Walk:
    """State of the rows that are still searched; ``live`` says which rows of the problem."""

    live: Tensor
    problem: Problem
    delta: Tensor
    velocity: Tensor
    aim: Aim
    scores: Tensor

    def take(self, index: Tensor) -> _Walk:
        if len(index) == len(self.live):
            return self
        return _Walk(
            live=self.live[index],
            problem=self.problem.take(index),
            delta=self.delta[index],
            velocity=self.velocity[index],
            aim=self.aim.take(index),
            scores=self.scores[:, index],
        )


def _unit(direction: Tensor) -> Tensor:
    """Divide each image's direction by its mean absolute value."""
    size = direction.abs().flatten(1).mean(dim=1)
    return direction / wide(size.clamp_min(torch.finfo(direction.dtype).tiny))
