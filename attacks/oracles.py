"""Direction oracles: which way δ moves a map as the objective wants.

With v the derivative of the objective by the map, that way is a Hessian-vector product. There are
several ways to get one; none of them looks at anything but maps.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from attacks.clean import Clean, Objective
from attacks.explain import Twin
from attacks.problem import Fees, Problem

SHORTEST = 1e-6
"""The ℓ₂ length that a ball is taken to have at least, so that none divides by zero."""


class Aim:
    """What the objective wants of the map, by the mean of the maps seen lately.

    A map smoothed with few draws is mostly noise, and near the rank boundary v is decided by it.
    The iterates of successive steps are close, so the mean of their maps tells better.
    ``memory`` is the weight of the past; 0 looks at the last map alone.
    """

    def __init__(self, objective: Objective, clean: Clean, memory: float) -> None:
        self.objective, self.clean, self.memory = objective, clean, memory
        self.mean: Tensor | None = None

    def see(self, maps: Tensor) -> None:
        """Take note of the maps (B, C, H, W) at an iterate."""
        self.mean = maps if self.mean is None else self.mean.lerp(maps, 1 - self.memory)

    def v(self) -> Tensor:
        """The objective's gradient (B, C, H, W) by the map, at unit ℓ₂ norm or zero."""
        assert self.mean is not None
        v = self.objective.gradient(self.mean, self.clean)
        return v / wide(v.flatten(1).norm(dim=1).clamp_min(torch.finfo(v.dtype).tiny))

    def take(self, index: Tensor) -> Aim:
        """The same for some of the rows."""
        aim = Aim(self.objective, self.clean.rows(index), self.memory)
        aim.mean = None if self.mean is None else self.mean[index]
        return aim


@dataclass(frozen=True, kw_only=True)
class Step:
    """Where a search is: iterate number ``number``, ``progress`` from 0 to 1."""

    number: int
    progress: float


class Oracle(Protocol):
    """Looks at an iterate and says which way the objective grows."""

    def __call__(
        self, problem: Problem, delta: Tensor, aim: Aim, step: Step
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Maps (B, C, H, W), whether (B,) the label is kept, and a direction (B, C, H, W)."""

    def cost(self, fees: Fees) -> float:
        """Gradients of the true model that one step of one image takes."""


@dataclass(frozen=True, kw_only=True)
class Difference:
    """H·v by a difference of maps of the *true* model, (a(x ± hv) − a(x))/h.

    It sees the kinks that a ReLU network really has, where double backward returns zero, and it
    needs nothing but maps: it serves any artefact. The end lies ahead and behind in turn, which is
    as good as both ends at once with one and a half times as many steps. Maps that are smoothed
    by noise take both ends, and their mean stands for the map in the middle.

    Attributes
    ----------
    longest, shortest
        First and last h, the ℓ₂ length of the difference, geometric in between, as a share of the
        largest ℓ₂ length in the ball. A long difference sees the coarse shape of the map, a short
        one the kinks near by; beyond the ball nothing is worth seeing. A map smoothed by σ has no
        structure much below σ: there h is at least 20σ at first and 2σ at last for 784 pixel
        values (a 28×28 image), and scales with √(number of values).

    Notes
    -----
    The objective's gradient is Jᵀv, J the Jacobian of the map; the difference gives Jv. Both are
    the same only where J is symmetric, that is for maps that are gradient fields: the gradient of
    a score and its smoothed form. For any other map the direction is a heuristic.
    """

    longest: float = 1.0
    shortest: float = 0.02

    def __call__(
        self, problem: Problem, delta: Tensor, aim: Aim, step: Step
    ) -> tuple[Tensor, Tensor, Tensor]:
        """See :class:`Oracle`."""
        h = wide(_length(problem, step, self.longest, self.shortest)).to(delta.dtype)
        if problem.fees.noisy:
            if aim.mean is None:
                aim.see(problem.look(delta, draw=step.number)[0])
            return self._both_ends(problem, delta, aim, step, h)
        maps, kept = problem.look(delta, draw=step.number)
        aim.see(maps)
        h = h if step.number % 2 == 0 else -h
        end, _ = problem.look(delta + h * aim.v(), draw=step.number)
        return maps, kept, (end - maps) / h

    def cost(self, fees: Fees) -> float:
        """Two maps; with noise also a look at the label, booked as one gradient."""
        return 2 * fees.samples + (1 if fees.noisy else 0)

    def _both_ends(
        self, problem: Problem, delta: Tensor, aim: Aim, step: Step, h: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        v = h * aim.v()
        twice = problem.take(torch.arange(len(problem)).repeat(2))
        both, _ = twice.look(torch.cat([delta + v, delta - v]), draw=step.number)
        ahead, behind = torch.split(both, len(problem))
        middle = (ahead + behind) / 2
        aim.see(middle)
        kept = problem.kept(delta)
        return middle, kept, (ahead - behind) / (2 * h)


@dataclass(frozen=True, kw_only=True)
class DifferencePullback:
    """Jᵀv of a map that is made of gradients, with H·u by a difference of true gradients.

    For gradient × input, integrated gradients and the like, whose Jacobian is not symmetric: the
    product rule is exact, and second derivatives see the kinks of the true model, as in
    :class:`Difference`. On 32 digits and the map of integrated gradients (8 points, ε = 4 and 8,
    one search) a top-k overlap of .88 and .82 is left, .92 and .87 with double backward through a
    surrogate at the same price.

    Attributes
    ----------
    longest, shortest
        See :class:`Difference`; the difference goes as far to each side.
    """

    longest: float = 1.0
    shortest: float = 0.02

    def __call__(
        self, problem: Problem, delta: Tensor, aim: Aim, step: Step
    ) -> tuple[Tensor, Tensor, Tensor]:
        """See :class:`Oracle`."""
        if problem.pullback is None:
            raise ValueError("this oracle needs maps that are made of gradients.")
        maps, kept = problem.look(delta, draw=step.number)
        aim.see(maps)
        length = _length(problem, step, self.longest, self.shortest)
        x = problem.x + delta
        found = problem.pullback(x, aim.v(), rows=problem.rows, draw=step.number, length=length)
        return maps, kept, found

    def cost(self, fees: Fees) -> float:
        """One map, and for each of its gradients one more and the two ends of a difference."""
        return 4 * fees.samples


@dataclass(frozen=True, kw_only=True)
class SurrogateDifference:
    """H·v by a difference of maps of a surrogate; iterates are still judged on the true model.

    Attributes
    ----------
    first_beta, last_beta
        Sharpness β of the surrogate, geometric in between: it tends to the model as β grows.
    longest, shortest
        See :class:`Difference`.
    """

    first_beta: float = 10.0
    last_beta: float = 100.0
    longest: float = 0.5
    shortest: float = 0.02

    def __call__(
        self, problem: Problem, delta: Tensor, aim: Aim, step: Step
    ) -> tuple[Tensor, Tensor, Tensor]:
        """See :class:`Oracle`."""
        maps, kept = problem.look(delta, draw=step.number)
        aim.see(maps)
        explain = _twin(problem, self.first_beta, self.last_beta, step).explain
        reach = problem.ball.reach(problem.x, problem.epsilon).clamp_min(SHORTEST)
        share = geometric(self.longest, self.shortest, step.progress)
        h = wide(share * reach).to(delta.dtype)
        v, x = h * aim.v(), problem.x + delta
        ends = torch.cat([x + v, x - v])
        both, _ = explain(ends, rows=problem.rows.repeat(2), draw=step.number)
        ahead, behind = torch.split(both, len(problem))
        return maps, kept, (ahead - behind) / (2 * h)

    def cost(self, fees: Fees) -> float:
        """Three maps."""
        return 3 * fees.samples


@dataclass(frozen=True, kw_only=True)
class DoubleBackward:
    """Jᵀv exactly, by differentiating a surrogate twice; judged on the true model.

    Attributes
    ----------
    first_beta, last_beta
        See :class:`SurrogateDifference`; Dombrowski 2019 lets β grow from 10 to 100.
    """

    first_beta: float = 10.0
    last_beta: float = 100.0

    def __call__(
        self, problem: Problem, delta: Tensor, aim: Aim, step: Step
    ) -> tuple[Tensor, Tensor, Tensor]:
        """See :class:`Oracle`."""
        maps, kept = problem.look(delta, draw=step.number)
        aim.see(maps)
        pullback = _twin(problem, self.first_beta, self.last_beta, step).pullback
        x = problem.x + delta
        return maps, kept, pullback(x, aim.v(), rows=problem.rows, draw=step.number)

    def cost(self, fees: Fees) -> float:
        """One map, and a double backward: booked as three gradients, measured at 2 to 9."""
        return 4 * fees.samples


def fastest(
    problem: Problem, objective: Objective, oracles: Sequence[Oracle], *, repeats: int = 2
) -> tuple[Oracle, dict[str, float]]:
    """The oracle whose first steps take the least time, and seconds a step by name.

    A later one wins only if it is faster by more than a fifth, for timings vary.
    """
    delta = problem.start(0)
    seconds = [math.inf for _ in oracles]
    for number in range(repeats + 1):
        for index, oracle in enumerate(oracles):  # in turn, so that what slows one slows all
            aim = Aim(objective, problem.clean, 0.0)
            begin = time.perf_counter()
            oracle(problem, delta, aim, Step(number=number, progress=0.0))
            if number:  # the first time warms up
                seconds[index] = min(seconds[index], time.perf_counter() - begin)
    best = 0
    for index, time_of_it in enumerate(seconds):
        if time_of_it < 0.8 * seconds[best]:
            best = index
    names = [type(oracle).__name__ for oracle in oracles]
    return oracles[best], dict(zip(names, seconds, strict=True))


def _length(problem: Problem, step: Step, longest: float, shortest: float) -> Tensor:
    """ℓ₂ length (B,) of a difference; see :class:`Difference`."""
    least = math.sqrt(problem.x[0].numel() / 784) * problem.sigma
    reach = problem.ball.reach(problem.x, problem.epsilon).clamp_min(SHORTEST)
    first = (longest * reach).clamp_min(20 * least)
    last = (shortest * reach).clamp_min(2 * least)
    return first * (last / first) ** step.progress


def geometric(first: float, last: float, progress: float) -> float:
    """From ``first`` at progress 0 to ``last`` at progress 1, by equal ratios."""
    return first * math.pow(last / first, progress)


def wide(values: Tensor) -> Tensor:
    """(B,) → (B, 1, 1, 1)."""
    return values.reshape(-1, 1, 1, 1)


def _twin(problem: Problem, first: float, last: float, step: Step) -> Twin:
    if problem.twin is None:
        raise ValueError("this oracle needs a surrogate, and the problem has none.")
    return problem.twin(geometric(first, last, step.progress))
