"""The top-k objective: push the map's most important pixels out of its top k."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from attacks.clean import Clean, magnitude, raw, top_set, total


def overlap(maps: Tensor, clean: Tensor) -> Tensor:
    """Share (B,) of the clean top set ``clean`` (B, H·W) that is still in the maps' top k.

    A map that is zero everywhere ranks nothing and keeps no pixel: 0.
    """
    k = int(clean[0].sum())
    shown = maps.flatten(1).any(dim=1, keepdim=True)
    return (top_set(maps, k) & clean & shown).sum(dim=1).double() / k


@dataclass(frozen=True, kw_only=True)
class Boundary:
    """Aim at the rank boundary: Σ_{K} s(mᵢ) − Σ_{∉K} s(mᵢ), s = sigmoid((m − t)/(T·t)).

    t is the current k-th largest magnitude; only pixels near it can change the top-k overlap,
    and they alone get weight s(1 − s). Lower is a stronger drift. Source: math section 3.

    Each of the two sums is weighted by one over its total weight. Outside the top k there are many
    more pixels: 49 times as many at 224×224, and as they stand they would drown the top k. On
    EfficientNet-Lite0, ε = .5/255, balancing takes the overlap left by 30 steps from .06 to .003.
    """

    temperature: float = 0.1

    lowest: ClassVar[float] = 0.0

    def gradient(self, maps: Tensor, clean: Clean) -> Tensor:
        """Derivative (B, C, H, W) of the objective by the raw map, times T·t, with t held fixed.

        Only its direction is used, and without 1/(T·t) nothing overflows where t is zero.
        """
        m = magnitude(maps)
        t = m.topk(clean.k, dim=1).values[:, -1:].clamp_min(torch.finfo(m.dtype).tiny)
        s = torch.sigmoid((m - t) / (self.temperature * t))
        weight = s * (1 - s)
        inside, outside = weight * clean.top, weight * ~clean.top
        return raw(_share(inside) - _share(outside), maps)

    def score(self, maps: Tensor, clean: Clean) -> Tensor:
        """Top-k overlap (B,) with the clean map, in [0, 1]."""
        return overlap(maps, clean.top)


@dataclass(frozen=True, kw_only=True)
class Mass:
    """The published objective: Σ_{K} m_i of the map normalized to sum 1 (Ghorbani 2019)."""

    lowest: ClassVar[float] = 0.0

    def gradient(self, maps: Tensor, clean: Clean) -> Tensor:
        """Derivative (B, C, H, W) of the clean top set's share of the mass by the raw map."""
        m = magnitude(maps)
        share = (m * clean.top).sum(dim=1, keepdim=True) / total(m)
        return raw((clean.top.to(m.dtype) - share) / total(m), maps)

    def score(self, maps: Tensor, clean: Clean) -> Tensor:
        """Top-k overlap (B,) with the clean map, in [0, 1]."""
        return overlap(maps, clean.top)


def _share(weight: Tensor) -> Tensor:
    """Weights (B, N) divided by their sum; zeros stay zero."""
    return weight / weight.sum(dim=1, keepdim=True).clamp_min(torch.finfo(weight.dtype).tiny)
