"""The strongest of several attacks for each image, within one stated budget of gradients."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import torch
from torch import Tensor

from attacks.clean import Objective
from attacks.oracles import Difference
from attacks.pool import Found, choose, merge
from attacks.problem import Fees, Problem
from attacks.random_search import RandomSearch
from attacks.rules import Annealed
from attacks.search import Search
from attacks.topk import Boundary

POLISH = Search(
    objective=Boundary(temperature=0.05),
    rule=Annealed(first=1 / 8, last=1 / 80),
    oracle=Difference(longest=0.2),
)
"""Goes on from the best point found: short steps, short differences, close to the rank boundary."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Best:
    """What an ensemble found.

    Attributes
    ----------
    found
        The winner of each row, by the ensemble's metric.
    by
        Which member (B,) found it: 0 … for ``members``, then the polish, then the candidates;
        −1 where nothing was found. A row that inherits from a smaller ε names that row's member.
    members
        The result of each member alone, candidates not included, under the same noise.
    """

    found: Found
    by: Tensor
    members: tuple[Found, ...]


@dataclass(frozen=True, kw_only=True)
class Strongest:
    """Members from random starts, then a polish from the best point of all; the worst case counts.

    Rows of the same image with a smaller ε count as well: what is allowed in a small ball is
    allowed in a larger one, so that a larger one can never come out weaker.

    Attributes
    ----------
    members
        Searches over objectives, rules, oracles and restarts.
    polish
        Starts from the best point found so far, smaller balls included; ``None`` to leave it out.
    metric
        Decides among them: lower is worse for the map.
    """

    members: tuple[Search | RandomSearch, ...] = (Search(),)
    polish: Search | RandomSearch | None = POLISH
    metric: Objective = Boundary()

    def run(self, problem: Problem, *, budget: float, candidates: tuple[Tensor, ...] = ()) -> Best:
        """Spend at most ``budget`` gradients on each row; every search gets an equal share.

        Scoring the candidates (B, C, H, W) comes on top, one map each, and so do the gradients
        that bring a lost label back.

        Raises
        ------
        ValueError
            If the budget does not allow one step of each member.
        """
        searches = self.split(problem.fees, budget=budget)
        known = tuple(choose(problem, self.metric, (candidate,)) for candidate in candidates)
        founds: list[Found] = []
        for search in searches[: len(self.members)]:
            founds.append(self._judged(problem, search, search.run(problem)))
        for search in searches[len(self.members) :]:
            best, _ = inherit(problem, merge((*founds, *known)))
            start = best.delta.where(best.feasible.reshape(-1, 1, 1, 1), problem.start(0))
            founds.append(self._judged(problem, search, search.run(problem, start=start)))
        everything = (*founds, *known)
        scores = torch.stack([found.score.nan_to_num(torch.inf) for found in everything])
        winner, source = inherit(problem, merge(everything))
        by = scores.argmin(dim=0)[source].masked_fill(~winner.feasible, -1)
        return Best(found=winner, by=by, members=tuple(founds))

    def split(self, fees: Fees, *, budget: float) -> tuple[Search | RandomSearch, ...]:
        """Every search with the steps that its share of the budget allows.

        Raises
        ------
        ValueError
            If a share does not allow one step.
        """
        least = self.least(fees)
        if budget < least:
            raise ValueError(
                f"a budget of {budget:g} gradients is too small for one step of every search: "
                f"at least {least:g}."
            )
        searches = (*self.members, *(() if self.polish is None else (self.polish,)))
        again = sum(self._again(search) for search in searches) * fees.select_samples
        share = (budget - again) / len(searches)
        return tuple(search.within(share, fees) for search in searches)

    def cost(self, fees: Fees, *, budget: float) -> float:
        """Gradients for each row that the searches take within a budget."""
        searches = self.split(fees, budget=budget)
        again = sum(self._again(search) for search in searches) * fees.select_samples
        return sum(search.cost(fees) for search in searches) + again

    def least(self, fees: Fees) -> float:
        """The smallest budget that allows one step of every search."""
        searches = (*self.members, *(() if self.polish is None else (self.polish,)))
        one = max(dataclasses.replace(search, steps=1).cost(fees) for search in searches)
        again = sum(self._again(search) for search in searches) * fees.select_samples
        return float(len(searches) * one + again)

    def _again(self, search: Search | RandomSearch) -> bool:
        """Whether the search's score is another one: another formula, or another target."""
        own, metric = search.objective, self.metric
        if type(own).score is not type(metric).score:
            return True
        return any(
            value is not vars(metric).get(name)
            for name, value in vars(own).items()
            if isinstance(value, Tensor)
        )

    def _judged(self, problem: Problem, search: Search | RandomSearch, found: Found) -> Found:
        """The same perturbation by the ensemble's metric."""
        if not self._again(search):
            return found
        return choose(problem, self.metric, (found.candidate,))


def inherit(problem: Problem, found: Found) -> tuple[Found, Tensor]:
    """For each row the best among the rows of its image with the same or a smaller ε.

    Returns it and the row (B,) it came from.
    """
    same = problem.rows[:, None] == problem.rows[None, :]
    within = problem.epsilon[None, :] <= problem.epsilon[:, None]
    score = found.score.nan_to_num(torch.inf)
    least, source = score.expand(len(problem), -1).where(same & within, torch.inf).min(dim=1)
    source = torch.where(least < score, source, torch.arange(len(problem)))
    return (
        Found(
            delta=found.delta[source], score=found.score[source], feasible=found.feasible[source]
        ),
        source,
    )
