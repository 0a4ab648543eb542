"""Train with noise on the weights: the smooth loss of S0's theory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from auditor.errors import InputError


@dataclass(frozen=True, kw_only=True)
class NoisySgd:
    """Cross-entropy at noisy weights: E_V ℓ(W + V, x, y), V ~ N(0, κ²I), one draw for each batch.

    Its gradient by W is an unbiased estimate of that of S0's noisy loss, which is L/κ-smooth where
    the loss itself is L-Lipschitz in the weights (S0 Proposition 1).

    Attributes
    ----------
    kappa
        κ in units of the weights, positive.

    References
    ----------
    S0 (3).
    """

    name: ClassVar[str] = "noisy_sgd"

    kappa: float = 0.01

    def __post_init__(self) -> None:
        if not 0 < self.kappa < torch.inf:
            raise InputError(f"kappa {self.kappa:g}: out of range. Give a positive number.")

    def loss(self, model: nn.Module, x: Tensor, y: Tensor, generator: torch.Generator) -> Tensor:
        """Loss (a scalar) of images (B, C, H, W) in [0, 1] of classes ``y`` (B,)."""
        noisy = {
            name: weight + self.kappa * _like(weight, generator)
            for name, weight in model.named_parameters()
        }
        return F.cross_entropy(torch.func.functional_call(model, noisy, (x,)), y)


def _like(weight: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randn(weight.shape, generator=generator, dtype=weight.dtype).to(weight.device)
