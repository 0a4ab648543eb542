"""What objectives compare a moved map with: the clean maps, and the contract of an objective."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Protocol

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False, kw_only=True)
class Clean:
    """The maps of the unperturbed images, fixed during an attack.

    Attributes
    ----------
    maps
        Raw maps (B, C, H, W).
    k
        Number of pixels of the top set, from 1 to H·W.
    index
        Which of the attacked images (B,) each row is, so that an objective with a target or a mask
        for each image finds the one of this row; ``None`` for images 0 … B − 1.

    Raises
    ------
    ValueError
        If k does not lie between 1 and the number of pixels.
    """

    maps: Tensor
    k: int
    index: Tensor | None = None

    def __post_init__(self) -> None:
        size = self.maps.shape[2] * self.maps.shape[3]
        if not 1 <= self.k <= size:
            raise ValueError(f"k = {self.k}: must lie between 1 and the {size} pixels of a map.")

    @cached_property
    def magnitude(self) -> Tensor:
        """Sum over channels of |a|, (B, H·W)."""
        return magnitude(self.maps)

    @cached_property
    def shares(self) -> Tensor:
        """Magnitude normalized to sum 1, (B, H·W); a zero map stays zero."""
        return shares(self.magnitude)

    @cached_property
    def top(self) -> Tensor:
        """Membership (B, H·W) of the k largest pixels; ties go to the lower index."""
        return top_set(self.maps, self.k)

    @cached_property
    def center(self) -> Tensor:
        """Center of mass (B, 2): row and column in pixels, in float64."""
        return center(self.maps)

    @cached_property
    def ranks(self) -> Tensor:
        """Centered ranks (B, H·W) of the magnitude, float64; ties share their mean rank."""
        return ranks(self.magnitude)

    def rows(self, index: Tensor) -> Clean:
        """The images (N,) of this batch, in that order and with repetition."""
        known = torch.arange(len(self.maps)) if self.index is None else self.index
        return Clean(maps=self.maps[index], k=self.k, index=known[index])

    def own(self, values: Tensor) -> Tensor:
        """Flat values (B, H·W) of each row, given one (1, H, W) for all or (N, H, W) for each.

        Raises
        ------
        ValueError
            If the shape is another one, or an image has no values.
        """
        height, width = self.maps.shape[2:]
        index = torch.arange(len(self.maps)) if self.index is None else self.index
        if values.dim() != 3 or values.shape[1:] != (height, width):
            raise ValueError(f"shape {tuple(values.shape)} does not fit maps of {height}×{width}.")
        if len(values) == 1:
            return values.flatten(1).expand(len(index), -1)
        if len(values) <= int(index.max()):
            raise ValueError(f"{len(values)} given for {int(index.max()) + 1} images.")
        return values.flatten(1)[index]


class Objective(Protocol):
    """What an attack minimizes: a smooth proxy to step along, a true metric to choose by.

    ``lowest`` is the score that nothing can undercut, so that a search may stop there.
    """

    lowest: ClassVar[float]

    def gradient(self, maps: Tensor, clean: Clean) -> Tensor:
        """Derivative (B, C, H, W) of the proxy by the raw map ``maps``.

        Only its direction counts: factors that are common to one map may be left out. It is zero
        and finite for a map that is zero everywhere.
        """

    def score(self, maps: Tensor, clean: Clean) -> Tensor:
        """True metric (B,) in float64; lower is a stronger attack.

        Infinite where it is undefined, for a map that is zero everywhere or holds a value that is
        not finite: such a map is never the best, for its drift can't be reported. Defined
        for a zero map are the top-k overlap, which keeps nothing, and the relative distance of 1.
        """


def magnitude(maps: Tensor) -> Tensor:
    """Sum over channels of |a|: (B, C, H, W) → (B, H·W)."""
    return maps.abs().sum(dim=1).flatten(1)


def top_set(maps: Tensor, k: int) -> Tensor:
    """Membership (B, H·W) of the k pixels of largest magnitude; ties go to the lower index."""
    order = magnitude(maps).argsort(dim=1, descending=True, stable=True)
    return torch.zeros(order.shape, dtype=torch.bool).scatter_(1, order[:, :k], True)


def shares(m: Tensor) -> Tensor:
    """Magnitude (B, H·W) divided by its sum; a zero map stays zero."""
    return m / total(m)


def total(m: Tensor) -> Tensor:
    """Sum (B, 1) of a magnitude, kept above zero so that one can divide by it."""
    return m.sum(dim=1, keepdim=True).clamp_min(torch.finfo(m.dtype).tiny)


def center(maps: Tensor) -> Tensor:
    """Center of mass (B, 2) of the magnitude: row and column in pixels, float64, not truncated."""
    share = shares(magnitude(maps).double()).reshape(len(maps), *maps.shape[2:])
    rows, columns = (torch.arange(n, dtype=torch.float64) for n in maps.shape[2:])
    down, across = (share.sum(dim=2) * rows).sum(dim=1), (share.sum(dim=1) * columns).sum(dim=1)
    return torch.stack([down, across], dim=1)


def ranks(m: Tensor) -> Tensor:
    """Ranks (B, H·W) minus their mean, in float64; equal values share their mean rank."""
    ordered, values = m.sort(dim=1).values, m.contiguous()
    below = torch.searchsorted(ordered, values)
    upto = torch.searchsorted(ordered, values, right=True)
    return (below + upto - m.shape[1]).double() / 2


def raw(weight: Tensor, maps: Tensor) -> Tensor:
    """Derivative (B, C, H, W) by the raw map from one (B, H·W) by its magnitude."""
    return weight.reshape(len(maps), 1, *maps.shape[2:]) * maps.sign()


def defined(score: Tensor, *views: Tensor) -> Tensor:
    """Scores (B,), infinite where one of the views (B, …) is zero everywhere or not finite."""
    for view in views:
        flat = view.flatten(1)
        score = score.where(flat.isfinite().all(dim=1) & flat.any(dim=1), torch.inf)
    return score.double()
