"""The explanations that foretell best what a perturbation does to the logit."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from auditor.attributions.noise import Noise, mix
from auditor.attributions.traced import NotDifferentiable
from auditor.evaluation import Evaluator
from auditor.perturbations import NoisyBaseline, Perturbation, SquareRemoval, square_sizes

FINEST = 28
"""Most cells along a side."""

RIDGE = 1e-6
"""Added to the diagonal, as a share of its mean."""


@dataclass(frozen=True, kw_only=True)
class Optimal(NotDifferentiable):
    """Φ = argmin E_I (IᵀΦ − (f(x) − f(x − I)))², the map of least infidelity. Source: S4 B.1.

    By least squares with a small ridge, Φ = (E IIᵀ + λ)⁻¹ E I(f(x) − f(x − I)) (Yeh et al. 2019,
    proposition 2.1). **Choice**: Φ is constant in cells, at most 28 along each side, so that the
    matrix stays small; S4 takes cells of 2×2 at 224×224.

    Attributes
    ----------
    perturbation
        What I is: ``noisy_baseline`` or ``squares``.
    draws
        Perturbations for each image.
    noise
        Where they come from.
    """

    perturbation: Literal["noisy_baseline", "squares"]
    draws: int = 20_000
    noise: Noise

    @property
    def name(self) -> str:
        """As S4 calls it."""
        return "square_removal" if self.perturbation == "squares" else "noisy_baseline"

    @property
    def identity(self) -> str:
        """The number of draws."""
        return f"draws={self.draws}"

    @property
    def price(self) -> int:
        """Gradients of the model that one map takes; a forward pass is a third."""
        return -(-self.draws // 3)

    def seeded(self, noise: Noise) -> Optimal:
        """The same with perturbations from elsewhere."""
        return dataclasses.replace(self, noise=noise)

    def __call__(
        self, evaluator: Evaluator, x: Tensor, target: Tensor, *, images: Sequence[int], draw: int
    ) -> tuple[Tensor, Tensor]:
        """Maps (B, C, H, W) and logits (B, classes)."""
        logits = evaluator.logits(x)
        maps = []
        for row, image in enumerate(images):
            one = slice(row, row + 1)
            maps.append(self._solve(evaluator, x[one], target[one], logits[one], image, draw))
        return torch.cat(maps), logits

    def _solve(
        self,
        evaluator: Evaluator,
        x: Tensor,
        target: Tensor,
        logits: Tensor,
        image: int,
        draw: int,
    ) -> Tensor:
        size, row, column = x.shape[1], _cells(x.shape[2]), _cells(x.shape[3])
        columns = int(column.max()) + 1
        place = (row[:, None] * columns + column).flatten()
        cells = (int(row.max()) + 1) * columns
        matrix = torch.zeros((size * cells,) * 2, dtype=torch.float64)
        right = torch.zeros(len(matrix), dtype=torch.float64)
        perturbation = self._perturbation(x)
        at_once = max(evaluator.batch, 256)
        for first in range(0, self.draws, at_once):
            count = min(at_once, self.draws - first)
            y = perturbation.draw(x, [image], first=draw * self.draws + first, count=count)[0]
            change = (x - y).double().flatten(2)
            told = torch.zeros((count, size, cells), dtype=torch.float64)
            told.index_add_(2, place, change)
            fallen = (logits[:, target] - evaluator.logits(y)[:, target])[:, 0].double()
            flat = told.flatten(1)
            matrix.addmm_(flat.T, flat, alpha=1 / self.draws)
            right.addmv_(flat.T, fallen, alpha=1 / self.draws)
        mean = matrix.diagonal().mean().clamp_min(torch.finfo(matrix.dtype).tiny)
        matrix.diagonal().add_(RIDGE * mean)
        found: Tensor = torch.linalg.solve(matrix, right).reshape(size, -1)[:, place]
        return found.reshape(x.shape).to(x.dtype)

    def _perturbation(self, x: Tensor) -> Perturbation:
        seed = mix(self.noise.seed, self.noise.stream)
        if self.perturbation == "noisy_baseline":
            return NoisyBaseline(seed=seed)
        smallest, largest = square_sizes(*x.shape[2:])
        return SquareRemoval(seed=seed, smallest=smallest, largest=largest)


def _cells(side: int) -> Tensor:
    """The cell of each row, or of each column, (side,)."""
    return torch.arange(side) * min(side, FINEST) // side
