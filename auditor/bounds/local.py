"""A lower bound on how fast a smoothed map really moves: the other side of its Lipschitz bound."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from auditor.attributions import SEARCH, Noise
from auditor.bounds.lanczos import random_start
from auditor.evaluation import Evaluator

FRESH_DRAWS = 6
"""Noise stream of the estimate, which the search for the direction never saw."""


@dataclass(frozen=True, kw_only=True)
class LocalLipschitz:
    """‖∇f_σ(x + hv) − ∇f_σ(x − hv)‖/2h for a direction v: searched for, then estimated anew.

    v comes from power iteration with differences of smoothed maps, and with it the direction w in
    which the map moves. The mean over independent draws of ⟨w, difference⟩/2h has no bias, and no
    Lipschitz constant of ∇f_σ can be below its expectation. Four standard errors are taken off, so
    that sampling alone hardly ever lifts it above.

    Attributes
    ----------
    steps
        Power iterations.
    search_draws, draws
        Noise draws of each map in the search, and of the estimate.
    length
        h as a share of σ.
    """

    steps: int = 6
    search_draws: int = 16
    draws: int = 64
    length: float = 0.5

    @property
    def cost(self) -> int:
        """Gradients for each image."""
        return 2 * (self.steps * self.search_draws + self.draws)

    def __call__(
        self,
        evaluator: Evaluator,
        x: Tensor,
        target: Tensor,
        *,
        images: Sequence[int],
        sigma: float,
        seed: int,
        generators: list[torch.Generator],
    ) -> Tensor:
        """Lower bounds (B,) on the local constant, float64, ≥ 0, in map units per pixel unit.

        Parameters
        ----------
        evaluator
            Of the score f: logits, or probabilities.
        x, target, images
            Images (B, C, H, W), explained classes (B,), and what identifies their noise.
        """
        h = self.length * sigma

        def difference(v: Tensor, *, first: int, draws: int, stream: int) -> Tensor:
            """Differences (B, draws, d) of maps at x ± hv under common noise."""
            noise = Noise(seed=seed, stream=stream, sampler="iid")
            z = noise.draw(images, tuple(x.shape[1:]), first=first, count=draws)
            noisy = x[:, None] + sigma * z
            ends = torch.stack([noisy + h * v[:, None], noisy - h * v[:, None]])
            classes = target.repeat_interleave(draws).repeat(2)
            maps, _ = evaluator.gradients(ends.flatten(0, 2), classes)
            ahead, behind = maps.double().reshape(2, len(x), draws, -1).unbind()
            slope: Tensor = (ahead - behind) / (2 * h)
            return slope

        v = _unit(random_start(x, generators))
        w = v
        for step in range(self.steps):
            start = step * self.search_draws
            seen = difference(v, first=start, draws=self.search_draws, stream=SEARCH)
            w = _unit(seen.mean(dim=1).reshape(x.shape).to(x.dtype))
            if step + 1 < self.steps:
                still = ~w.flatten(1).any(dim=1)
                v = torch.where(still[:, None, None, None], v, w)
        fresh = difference(v, first=0, draws=self.draws, stream=FRESH_DRAWS)
        along = torch.einsum("bnd,bd->bn", fresh, w.double().flatten(1))
        error = along.std(dim=1) / self.draws**0.5
        bound: Tensor = along.mean(dim=1) - 4 * error
        return bound.clamp_min(0)


def _unit(v: Tensor) -> Tensor:
    size = v.flatten(1).norm(dim=1).reshape(-1, 1, 1, 1)
    unit: Tensor = torch.where(size > 0, v / size.clamp_min(torch.finfo(v.dtype).tiny), 0.0)
    return unit
