"""Median filtering of a map: smoothing without further gradients."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from auditor.attributions.gradient import Method
from auditor.attributions.noise import Noise
from auditor.errors import InputError
from auditor.evaluation import Evaluator


@dataclass(frozen=True, kw_only=True)
class MedianFiltered:
    """Another method's maps, each value replaced by the median of the window around it.

    Of the raw signed map, channel by channel, as ``scipy.ndimage.median_filter`` with
    ``mode="nearest"``: outside the map its nearest value counts. It takes no further gradients and
    no noise, and removes single spikes altogether. A map whose values above zero never fill half a
    window becomes zero everywhere. Source: the open question of S1, whether a median can take the
    place of Gaussian smoothing.

    Attributes
    ----------
    method
        Any attribution method.
    size
        Side of the square window in pixels, odd. 1 is the method itself.

    Raises
    ------
    InputError
        If the size is even or not positive.
    """

    method: Method
    size: int = 3

    is_gradient: ClassVar[bool] = False
    differentiable: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.size < 1 or self.size % 2 == 0:
            raise InputError(f"median filter of size {self.size}: give an odd number of pixels.")

    @property
    def name(self) -> str:
        """With the inner method's name."""
        return f"median {self.method.name}"

    @property
    def identity(self) -> str:
        """The window's size, and what the inner method has to tell."""
        return " ".join(filter(None, (f"{self.size}×{self.size}", self.method.identity)))

    @property
    def price(self) -> int:
        """Gradients of the model that one map takes: those of the inner method."""
        return self.method.price

    @property
    def random(self) -> bool:
        """As the inner method."""
        return self.method.random

    def seeded(self, noise: Noise) -> MedianFiltered:
        """The same with the inner method's random numbers from elsewhere."""
        return dataclasses.replace(self, method=self.method.seeded(noise))

    def __call__(
        self, evaluator: Evaluator, x: Tensor, target: Tensor, *, images: Sequence[int], draw: int
    ) -> tuple[Tensor, Tensor]:
        """Filtered maps (B, C, H, W) and logits (B, classes)."""
        maps, logits = self.method(evaluator, x, target, images=images, draw=draw)
        return median(maps, self.size), logits

    def pullback(
        self,
        evaluator: Evaluator,
        x: Tensor,
        target: Tensor,
        v: Tensor,
        *,
        images: Sequence[int],
        draw: int,
    ) -> Tensor:
        """Not available: a median jumps from one pixel to another. Attacks use differences.

        Raises
        ------
        InputError
            Always.
        """
        raise InputError(f"{self.name}: a median has no derivative to follow.")


def median(maps: Tensor, size: int) -> Tensor:
    """Median of the ``size``×``size`` window around each value of maps (B, C, H, W), ``size`` odd.

    A window with a NaN in it becomes NaN.
    """
    around = size // 2
    filtered = []
    for map_ in maps:  # one at a time: the windows take size² times the memory of the map
        windows = F.pad(map_[None], [around] * 4, mode="replicate")[0]
        windows = windows.unfold(1, size, 1).unfold(2, size, 1).flatten(3)
        filtered.append(windows.median(dim=3).values)
    return torch.stack(filtered)
