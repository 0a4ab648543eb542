"""The cosine objective: turn the raw map away from the clean one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from attacks.clean import Clean, defined


@dataclass(frozen=True, kw_only=True)
class Cosine:
    """Minimize ⟨a, a_clean⟩ / ‖a‖‖a_clean‖ of raw maps, signs included (math section 3).

    Notes
    -----
    At the clean map the cosine is at its maximum and the gradient vanishes: start elsewhere.
    """

    lowest: ClassVar[float] = -1.0

    def gradient(self, maps: Tensor, clean: Clean) -> Tensor:
        """Derivative (B, C, H, W) of the cosine by the raw map, times ‖a‖.

        Only its direction is used, and without the factor 1/‖a‖ nothing overflows.
        """
        a, b = _unit(maps), _unit(clean.maps)
        b = b * a.any(dim=1, keepdim=True)  # ‖a‖ = 0 leaves nothing
        return (b - (a * b).sum(dim=1, keepdim=True) * a).reshape(maps.shape)

    def score(self, maps: Tensor, clean: Clean) -> Tensor:
        """Cosine (B,), a ratio in [−1, 1]."""
        a, b = _unit(maps.double()), _unit(clean.maps.double())
        return defined((a * b).sum(dim=1), maps, clean.maps)


def _unit(maps: Tensor) -> Tensor:
    """Flat maps (B, C·H·W) of length 1; a zero map stays zero."""
    flat = maps.flatten(1)
    # By the largest value first: squares of tiny or huge values leave the floating-point range.
    largest = flat.abs().amax(dim=1, keepdim=True)
    flat = flat / torch.where(largest > 0, largest, 1)
    size: Tensor = flat.norm(dim=1, keepdim=True)
    return flat / size.clamp_min(1)  # at least 1, unless zero
