"""The rank objective: scramble the order of the map's pixels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from attacks.clean import Clean, defined, magnitude, ranks, raw, total


@dataclass(frozen=True, kw_only=True)
class Rank:
    """Minimize the correlation of log(m + o) with the clean ranks, a smooth stand-in for Spearman.

    The logarithm gives small pixels, which are most of the ranks, more weight than m itself does;
    the offset o = ``offset`` · mean(m) keeps those next to zero from taking all of it.

    Attributes
    ----------
    offset
        Offset in units of the map's mean magnitude, above zero.
    """

    offset: float = 2.0

    lowest: ClassVar[float] = -1.0

    def gradient(self, maps: Tensor, clean: Clean) -> Tensor:
        """Derivative (B, C, H, W) of the correlation by the raw map, o held fixed, times o‖z‖.

        z is the centered log(m + o). Only the direction is used, and without the factor 1/o‖z‖
        nothing overflows.
        """
        m = magnitude(maps)
        relative = m / (self.offset / m.shape[1] * total(m))
        z = _unit(relative.log1p())
        known = _unit(clean.ranks.to(m.dtype))
        correlation = (z * known).sum(dim=1, keepdim=True)
        return raw((known - correlation * z) / (1 + relative), maps)

    def score(self, maps: Tensor, clean: Clean) -> Tensor:
        """Spearman's rank correlation (B,) of the magnitudes, ties averaged, in [−1, 1].

        Undefined, that is infinite, also where all pixels of a map are equal.
        """
        moved = ranks(magnitude(maps))
        found = (_unit(moved) * _unit(clean.ranks)).sum(dim=1)
        return defined(found, maps, clean.maps, moved, clean.ranks)


def _unit(values: Tensor) -> Tensor:
    """Values (B, N) minus their mean, of length 1; zero where all are equal."""
    centered = values - values.mean(dim=1, keepdim=True)
    size = centered.norm(dim=1, keepdim=True)
    return centered / torch.where(size > 0, size, 1)
