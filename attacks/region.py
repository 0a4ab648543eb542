"""The target-region objective: draw the map's mass into a mask."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from attacks.clean import Clean, defined, magnitude, raw, shares


@dataclass(frozen=True, eq=False, kw_only=True)
class TargetRegion:
    """Maximize the share Σ_{i∈mask} mᵢ / Σm of the mass (Ghorbani 2019; math section 3).

    Attributes
    ----------
    mask
        Pixels (B, H, W), bool, of each image, or (1, H, W) for all.
    """

    mask: Tensor

    lowest: ClassVar[float] = -1.0

    def gradient(self, maps: Tensor, clean: Clean) -> Tensor:
        """Derivative (B, C, H, W) of minus the share by the raw map, times Σm.

        Only its direction is used, and without the factor 1/Σm nothing overflows.

        Raises
        ------
        ValueError
            If a mask has another shape than the maps, or holds no pixel or all of them.
        """
        m = shares(magnitude(maps))
        inside = self._inside(clean)
        share = (m * inside).sum(dim=1, keepdim=True)
        return raw(share - inside.to(m.dtype), maps)

    def score(self, maps: Tensor, clean: Clean) -> Tensor:
        """Minus the share (B,) of the mass inside the mask, a ratio in [−1, 0].

        Raises
        ------
        ValueError
            As `gradient`.
        """
        share = (shares(magnitude(maps).double()) * self._inside(clean)).sum(dim=1)
        return defined(-share, maps)

    def _inside(self, clean: Clean) -> Tensor:
        inside = clean.own(self.mask)
        if not inside.any(dim=1).all() or inside.all(dim=1).any():
            raise ValueError("a mask must hold some pixels and leave some out.")
        return inside
