"""Random search: for maps that nothing can be differentiated through."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from attacks.clean import Objective
from attacks.pool import Found, Pool, choice_cost
from attacks.problem import Fees, Problem
from attacks.topk import Boundary


@dataclass(frozen=True, kw_only=True)
class RandomSearch:
    """Redraw the signs of a window of δ; keep what moves the map more and keeps the label.

    It needs maps alone. Windows shrink as the search goes on. In every other one all values of a
    channel share their sign, which moves coarse maps; in the others each value has its own.
    Weaker than a search along a direction: what it leaves of a map says little about what a better
    attack would leave. Source: Andriushchenko et al. 2020 (arXiv 1912.00049), there for labels.

    Attributes
    ----------
    steps
        Maps that are tried.
    objective
        What to move.
    first
        Share of the image that the first windows cover.
    restart
        Number of the random start, and of the random windows.
    """

    steps: int = 150
    objective: Objective = Boundary()
    first: float = 0.5
    restart: int = 0

    def run(self, problem: Problem, *, start: Tensor | None = None) -> Found:
        """Search from ``start`` (B, C, H, W), or a random start; the best feasible point wins."""
        pool = Pool(problem, self.objective)
        # A stream of its own: windows must not repeat the numbers of the random start.
        generators = problem.generators(problem.rows, _WINDOWS + self.restart)
        delta = problem.start(self.restart) if start is None else start
        delta = problem.ball.project(problem.x, delta, problem.epsilon)
        everyone = torch.arange(len(problem))
        best = torch.full((len(problem),), torch.inf, dtype=torch.float64)
        for number in range(self.steps):
            tried = delta if number == 0 else self._redrawn(problem, delta, generators, number)
            maps, kept = problem.look(tried, draw=number)
            score = self.objective.score(maps, problem.clean).where(kept, torch.inf)
            pool.offer(everyone, tried, score)
            better = (score <= best) if number else torch.ones_like(kept)
            best = torch.where(better, score, best)
            delta = tried.where(better.reshape(-1, 1, 1, 1), delta)
        return pool.best(everyone, delta)

    def cost(self, fees: Fees) -> float:
        """Gradients of the true model for each row."""
        return self.steps * self._step(fees) + choice_cost(fees)

    def within(self, budget: float, fees: Fees) -> RandomSearch:
        """The same search with as many steps as the budget (gradients for each row) allows.

        Raises
        ------
        ValueError
            If it does not allow one.
        """
        steps = int((budget - choice_cost(fees)) / self._step(fees))
        if steps < 1:
            least = dataclasses.replace(self, steps=1).cost(fees)
            raise ValueError(
                f"a budget of {budget:g} gradients is too small for one step: at least {least:g}."
            )
        return dataclasses.replace(self, steps=steps)

    def _step(self, fees: Fees) -> int:
        return fees.samples + (1 if fees.noisy else 0)

    def _redrawn(
        self, problem: Problem, delta: Tensor, generators: list[torch.Generator], number: int
    ) -> Tensor:
        channels, height, width = delta.shape[1:]
        share = self.first * (0.02 / self.first) ** (number / max(1, self.steps - 1))
        tall, wide = (max(1, round(math.sqrt(share) * size)) for size in (height, width))
        moved = delta.clone()
        # Of each value if all are alike: ε in the ℓ∞ ball, ε/√d in the ℓ₂ ball.
        change = problem.ball.reach(problem.x, problem.epsilon) / math.sqrt(problem.x[0].numel())
        for row, generator in enumerate(generators):
            top = int(torch.randint(height - tall + 1, (), generator=generator))
            left = int(torch.randint(width - wide + 1, (), generator=generator))
            size = (channels, 1, 1) if number % 2 else (channels, tall, wide)
            signs = 2 * torch.randint(2, size, generator=generator) - 1
            window = moved[row, :, top : top + tall, left : left + wide]
            window[:] = signs * change[row]
        return problem.ball.project(problem.x, moved, problem.epsilon)


_WINDOWS = 1 << 16
"""Keeps the generators of windows apart from those of random starts."""
