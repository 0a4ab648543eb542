"""Train on images with Gaussian noise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from auditor.errors import InputError


@dataclass(frozen=True, kw_only=True)
class GaussianNoise:
    """Cross-entropy of images with fresh noise: E_z ℓ(x + σz), z standard normal.

    Attributes
    ----------
    sigma
        In pixel units, positive; nothing is clipped.

    References
    ----------
    S2 3.2; Bishop 1995, *Training with Noise is Equivalent to Tikhonov Regularization*.
    """

    name: ClassVar[str] = "gaussian_noise"

    sigma: float = 0.1

    def __post_init__(self) -> None:
        if not 0 < self.sigma < torch.inf:
            raise InputError(f"sigma {self.sigma:g}: out of range. Give a positive number.")

    def loss(self, model: nn.Module, x: Tensor, y: Tensor, generator: torch.Generator) -> Tensor:
        """Loss (a scalar) of images (B, C, H, W) in [0, 1] of classes ``y`` (B,)."""
        z = torch.randn(x.shape, generator=generator, dtype=x.dtype).to(x.device)
        return F.cross_entropy(model(x + self.sigma * z), y)
