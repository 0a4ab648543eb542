"""Adversarial training: learn from images that the network gets wrong."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from auditor.training.pgd import Pgd


@dataclass(frozen=True, kw_only=True)
class Adversarial(Pgd):
    """Cross-entropy of adversarial images in place of the given ones; settings as :class:`Pgd`.

    With ``norm="l2"`` and ``epsilon=0.25`` it is S3's. To first order the loss that it lowers is
    the loss plus ε times the gradient's dual norm, so that it bounds the change of the map too.

    References
    ----------
    Madry et al. 2018; S2 A.1; S3 B2; S4 A.3.
    """

    name: ClassVar[str] = "adversarial"

    def loss(self, model: nn.Module, x: Tensor, y: Tensor, generator: torch.Generator) -> Tensor:
        """Loss (a scalar) of images (B, C, H, W) in [0, 1] of classes ``y`` (B,)."""
        return F.cross_entropy(model(self(model, x, y, generator=generator)), y)
