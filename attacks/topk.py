"""The top-k objective: push the map's most important pixels out of its top k."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


def magnitude(maps: Tensor) -> Tensor:
    """Sum over channels of |a|: (B, C, H, W) → (B, H·W)."""
    return maps.abs().sum(dim=1).flatten(1)


def top_set(maps: Tensor, k: int) -> Tensor:
    """Membership (B, H·W) of the k pixels of largest magnitude; ties go to the lower index."""
    order = magnitude(maps).argsort(dim=1, descending=True, stable=True)
    return torch.zeros(order.shape, dtype=torch.bool).scatter_(1, order[:, :k], True)


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
    """

    temperature: float = 0.1

    def gradient(self, maps: Tensor, clean: Tensor) -> Tensor:
        """Derivative (B, C, H, W) of the objective by the raw map, times T·t, with t held fixed.

        Only its direction is used, and without 1/(T·t) nothing overflows where t is zero.
        """
        m = magnitude(maps)
        k = int(clean[0].sum())
        t = m.topk(k, dim=1).values[:, -1:].clamp_min(torch.finfo(m.dtype).tiny)
        s = torch.sigmoid((m - t) / (self.temperature * t))
        weight = s * (1 - s) * torch.where(clean, 1.0, -1.0)
        return weight.reshape(len(maps), 1, *maps.shape[2:]) * maps.sign()


@dataclass(frozen=True, kw_only=True)
class Mass:
    """The published objective: Σ_{K} m_i of the map normalized to sum 1 (Ghorbani 2019)."""

    def gradient(self, maps: Tensor, clean: Tensor) -> Tensor:
        """Derivative (B, C, H, W) of the clean top set's share of the mass by the raw map."""
        m = magnitude(maps)
        total = m.sum(dim=1, keepdim=True).clamp_min(torch.finfo(m.dtype).tiny)
        share = (m * clean).sum(dim=1, keepdim=True) / total
        weight = (clean.to(m.dtype) - share) / total
        return weight.reshape(len(maps), 1, *maps.shape[2:]) * maps.sign()
