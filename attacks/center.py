"""The mass-center objective: move the map's center of mass."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from attacks.clean import Clean, center, defined, raw


@dataclass(frozen=True, kw_only=True)
class MassCenter:
    """Maximize ‖C(m) − C(m_clean)‖², C = Σ (row, column)·mᵢ / Σm (Ghorbani 2019; math section 3).

    Notes
    -----
    At the clean map the gradient is exactly zero, so an attack that starts at δ = 0 never moves.
    The original escapes only because it truncates the center to integers; ours is not truncated,
    and an attack starts at a random point instead.
    """

    lowest: ClassVar[float] = -math.inf

    def gradient(self, maps: Tensor, clean: Clean) -> Tensor:
        """Derivative (B, C, H, W) of −‖C(m) − C(m_clean)‖² by the raw map, times Σm.

        Only its direction is used, and without the factor 1/Σm nothing overflows.
        """
        here = center(maps)
        away = here - clean.center
        rows, columns = (torch.arange(n, dtype=torch.float64) for n in maps.shape[2:])
        offset = torch.cartesian_prod(rows, columns) - here[:, None]
        return raw(-2 * (offset * away[:, None]).sum(dim=2).to(maps.dtype), maps)

    def score(self, maps: Tensor, clean: Clean) -> Tensor:
        """Minus the shift (B,) in pixels."""
        return defined(-(center(maps) - clean.center).norm(dim=1), maps, clean.maps)
