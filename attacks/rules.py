"""Step rules: how long a step is, and when to go back to the best iterate."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Annealed:
    """Momentum, with a step length that shrinks geometrically whatever happens.

    Attributes
    ----------
    first, last
        Step length at the first and at the last step, as a share of ε.
    momentum
        Share of the previous direction that is kept.
    """

    first: float = 1 / 3
    last: float = 1 / 40
    momentum: float = 0.75

    def pace(self, scores: Tensor, steps: int) -> tuple[Tensor, Tensor]:
        """Step length (B,) and whether (B,) to go back first, after ``scores`` (steps so far, B).

        ``scores`` are the true metric at the iterates, lower is better, infinite where the label
        is lost.
        """
        share = (len(scores) - 1) / max(1, steps - 1)
        length = self.first * math.pow(self.last / self.first, share)
        rows = scores.shape[1]
        return torch.full((rows,), length), torch.zeros(rows, dtype=torch.bool)


@dataclass(frozen=True, kw_only=True)
class FixedSign:
    """The published rule: every step as long as the first, without momentum.

    ``length`` is a share of ε (Ghorbani 2019 and S3 as audits run them: ε/10).
    """

    length: float = 0.1
    momentum: float = 0.0

    def pace(self, scores: Tensor, steps: int) -> tuple[Tensor, Tensor]:
        """See :meth:`Annealed.pace`; never goes back."""
        rows = scores.shape[1]
        return torch.full((rows,), self.length), torch.zeros(rows, dtype=torch.bool)


@dataclass(frozen=True, kw_only=True)
class Apgd:
    """Auto-PGD: halve the step and go back to the best iterate where progress has stalled.

    At each checkpoint an image stalls if the metric improved in fewer than ``rho`` of the steps
    since the last one, or if neither its step length nor its best value changed since then.
    Source: Croce and Hein 2020 (arXiv 2003.01690), with the true metric in the place of the loss
    and label-lost iterates as the worst.

    Attributes
    ----------
    first
        Step length until the first checkpoint, as a share of ε.
    rho
        Share of steps that must improve.
    momentum
        Share of the previous direction that is kept.
    """

    first: float = 1 / 3
    rho: float = 0.75
    momentum: float = 0.75

    def pace(self, scores: Tensor, steps: int) -> tuple[Tensor, Tensor]:
        """See :meth:`Annealed.pace`: a function of the scores so far alone."""
        now = len(scores) - 1
        best = scores.cummin(dim=0).values
        better = scores[1:] < scores[:-1]
        length = torch.full(scores.shape[1:], self.first)
        changed = torch.zeros(scores.shape[1:], dtype=torch.bool)
        stalled = torch.zeros(scores.shape[1:], dtype=torch.bool)
        for before, here in pairwise(checkpoints(steps)):
            if here > now:
                break
            few = better[before:here].sum(dim=0) < self.rho * (here - before)
            stalled = few | (~changed & (best[here] == best[before]))
            length = torch.where(stalled, length / 2, length)
            changed = stalled
            if here < now:
                stalled = torch.zeros_like(stalled)
        return length, stalled


def checkpoints(steps: int) -> list[int]:
    """Steps 0 = w₀ < w₁ < … at which Auto-PGD looks back, each interval shorter than the last.

    Croce and Hein 2020, section 3: shares 0, .22, then each interval .03 shorter, at least .06.
    """
    # In hundredths: the ceiling of a rounded product would be one step late.
    shares = [0, 22]
    while shares[-1] < 100:
        shares.append(shares[-1] + max(shares[-1] - shares[-2] - 3, 6))
    return sorted({-(-share * steps // 100) for share in shares})
