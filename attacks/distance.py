"""The distance objective: move the raw map as far from the clean one as it goes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from attacks.clean import Clean


@dataclass(frozen=True, kw_only=True)
class Distance:
    """Maximize ‖a − a_clean‖₂ / ‖a_clean‖₂ of raw maps, signs included (S4's SENS_MAX).

    Notes
    -----
    At the clean map the distance is zero and has no direction: start elsewhere.
    """

    lowest: ClassVar[float] = -math.inf

    def gradient(self, maps: Tensor, clean: Clean) -> Tensor:
        """Derivative (B, C, H, W) of −‖a − a_clean‖² by the raw map, halved.

        Only its direction is used. It is zero for a map that is zero everywhere, as for all
        objectives, so that a search never follows a map that is not there.
        """
        shown = maps.flatten(1).any(dim=1).reshape(-1, 1, 1, 1)
        return (clean.maps - maps) * shown

    def score(self, maps: Tensor, clean: Clean) -> Tensor:
        """Minus the relative distance (B,), a ratio; a map that vanished is at distance 1.

        Infinite where the clean map is zero everywhere or a value is not finite.
        """
        a, b = maps.double().flatten(1), clean.maps.double().flatten(1)
        score: Tensor = -(a - b).norm(dim=1) / b.norm(dim=1)
        return score.where(score.isfinite(), torch.inf)
