"""What a training recipe is, and the plainest one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Recipe(Protocol):
    """Settings, frozen, and the loss that they define; ``repr`` tells one recipe from another."""

    @property
    def name(self) -> str:
        """Name as in ``--recipe NAME``."""

    def loss(self, model: nn.Module, x: Tensor, y: Tensor, generator: torch.Generator) -> Tensor:
        """Loss to minimize, a scalar that is differentiable by the weights.

        ``model`` takes images ``x`` (B, C, H, W) in [0, 1] to logits, ``y`` (B,) are their classes.
        Random numbers come from ``generator`` alone.
        """


@dataclass(frozen=True, kw_only=True)
class Natural:
    """Cross-entropy of the given images: S2's naturally trained network (N)."""

    name: ClassVar[str] = "natural"

    def loss(self, model: nn.Module, x: Tensor, y: Tensor, generator: torch.Generator) -> Tensor:
        """Loss (a scalar) of images (B, C, H, W) in [0, 1] of classes ``y`` (B,)."""
        return F.cross_entropy(model(x), y)
