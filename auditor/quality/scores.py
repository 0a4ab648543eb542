"""What a metric of map quality found: one value for each image, and what it had to leave out."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from auditor.metrics.views import is_zero

ZERO_MAP = "the map is zero everywhere"
NOT_FINITE = "a value is not finite"
NO_DRAW = "no perturbed image was left to compare with"
CHANGED = "the prediction changed"


@dataclass(frozen=True, kw_only=True, eq=False)
class Scores:
    """Values of one or more metrics for a batch of images.

    Attributes
    ----------
    values
        Name of the metric → float64 (B,); NaN where it is undefined for that image.
    units
        Name → unit.
    undefined
        Reason → which images (B,) have no value of at least one metric because of it.
    skipped
        Reason → how many perturbed images (B,) of each image were left out because of it.
    unavailable
        Name → why the metric has no value for any image; such a metric is not in ``values``.
    details
        What a report may draw, e.g. a curve for each image; the first dimension is B.
    """

    values: Mapping[str, Tensor]
    units: Mapping[str, str]
    undefined: Mapping[str, Tensor] = field(default_factory=dict)
    skipped: Mapping[str, Tensor] = field(default_factory=dict)
    unavailable: Mapping[str, str] = field(default_factory=dict)
    details: Mapping[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if set(self.values) != set(self.units):
            raise ValueError(f"values {sorted(self.values)} and units {sorted(self.units)} differ")


def faults(maps: Tensor) -> dict[str, Tensor]:
    """Reasons why raw maps (B, C, H, W) can't be judged → which images (B,) they concern."""
    finite = maps.flatten(1).isfinite().all(dim=1)
    return {ZERO_MAP: is_zero(maps), NOT_FINITE: ~finite}


def without(value: Tensor, *reasons: Tensor) -> Tensor:
    """Values (B,) in float64, NaN wherever one of the reasons (B,) holds."""
    value = value.double()
    for reason in reasons:
        value = value.masked_fill(reason, math.nan)
    return value


def largest(values: Tensor, counted: Tensor) -> Tensor:
    """Largest of the counted values (B, draws) of each image; NaN without one."""
    best = values.masked_fill(~counted, -math.inf).amax(dim=1)
    return without(best, ~counted.any(dim=1))


def mean(values: Tensor, counted: Tensor) -> Tensor:
    """Mean of the counted values (B, draws) of each image; NaN without one."""
    total = torch.where(counted, values, 0.0).sum(dim=1)
    number = counted.sum(dim=1)
    return without(total / number.clamp_min(1), number == 0)


def portions(draws: int, *, images: int, batch: int) -> list[tuple[int, int]]:
    """First draw and number of draws of each portion, at most ``batch`` images if that is possible.

    Memory then grows with the batch, not with images × draws.
    """
    at_once = max(1, batch // max(1, images))
    return [(first, min(at_once, draws - first)) for first in range(0, draws, at_once)]
