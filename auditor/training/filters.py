"""Spatial filters of feature maps: local ones, non-local ones, and none."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from types import MappingProxyType

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.transforms.v2.functional import gaussian_blur

SIZE = 3
"""Side of the local filters' window in feature-map pixels (S2, appendix B)."""


class Mean(nn.Module):
    """Mean of the window around each value, channel by channel (S2 (9))."""

    def forward(self, features: Tensor) -> Tensor:
        """Filter features (B, C, H, W); the border is reflected."""
        return F.avg_pool2d(_padded(features), SIZE, stride=1)


class Median(nn.Module):
    """Median of the window around each value, channel by channel (S2 (10)).

    Its derivative is one at the value that is the median, the first one of equals, and zero at the
    others. The place of that value is found without gradient. Columns of three are sorted once for
    all windows that they belong to: the median of nine is that of the largest low, the middle of
    the middle, and the smallest high value of three sorted columns.
    """

    def forward(self, features: Tensor) -> Tensor:
        """Filter features (B, C, H, W); the border is reflected."""
        padded = _padded(features)
        with torch.no_grad():
            place = _median_places(padded).flatten(2)
        return padded.flatten(2).gather(2, place).reshape(features.shape)


class Gaussian(nn.Module):
    """Gaussian-weighted mean of the window, channel by channel (S2 (11), (12)).

    Parameters
    ----------
    std
        Standard deviation in feature-map pixels, positive.
    """

    def __init__(self, std: float) -> None:
        super().__init__()
        self.std = std

    def forward(self, features: Tensor) -> Tensor:
        """Filter features (B, C, H, W); the border is reflected."""
        blurred: Tensor = gaussian_blur(features, [SIZE, SIZE], [self.std, self.std])
        return blurred


class NonLocal(nn.Module):
    """Mean over all places, weighted by how alike their features are (Xie 2019, section 4.1).

    Place j counts at place i with softmaxⱼ(θ(hᵢ)ᵀφ(hⱼ)/√C): θ and φ are 1×1 convolutions to half
    of the channels where ``embedded``, else the identity.

    Parameters
    ----------
    channels
        Of the feature map.
    embedded
        Whether likeness is learned.
    """

    def __init__(self, channels: int, *, embedded: bool) -> None:
        super().__init__()
        inner = max(1, channels // 2)
        self.theta = nn.Conv2d(channels, inner, 1) if embedded else nn.Identity()
        self.phi = nn.Conv2d(channels, inner, 1) if embedded else nn.Identity()

    def forward(self, features: Tensor) -> Tensor:
        """Filter features (B, C, H, W); memory grows with (H·W)²."""
        theta, phi = self.theta(features).flatten(2), self.phi(features).flatten(2)
        # Written out, since the fused form has no second derivative.
        weight = (theta.mT @ phi / math.sqrt(theta.shape[1])).softmax(dim=2)
        mean: Tensor = features.flatten(2) @ weight.mT
        return mean.reshape(features.shape)


def gaussian_std(side: int) -> float:
    """S2's standard deviation for images of so many pixels a side (appendix B).

    The formula is that of OpenCV for a window as large as the *image*: 4.55 for 28 pixels, so that
    with a window of 3 the filter is nearly the mean.

    >>> round(gaussian_std(28), 2)
    4.55
    """
    return 0.3 * ((side - 1) * 0.5 - 1) + 0.8


FILTERS: Mapping[str, Callable[[int, int], nn.Module]] = MappingProxyType(
    {
        "mean": lambda channels, side: Mean(),
        "median": lambda channels, side: Median(),
        "gaussian": lambda channels, side: Gaussian(gaussian_std(side)),
        "non-local": lambda channels, side: NonLocal(channels, embedded=False),
        "embedded": lambda channels, side: NonLocal(channels, embedded=True),
        "identity": lambda channels, side: nn.Identity(),
        "random": lambda channels, side: nn.Identity(),
    }
)
"""Name → filter for a map of so many channels, of images of so many pixels a side.

``identity`` and ``random`` filter nothing: they are S2's ablation, and differ in how the block's
convolution begins.
"""


def _padded(features: Tensor) -> Tensor:
    margin = SIZE // 2
    return F.pad(features, (margin,) * 4, mode="reflect")


def _median_places(padded: Tensor) -> Tensor:
    """Flat index (B, C, H, W), inside of padded planes, of the median of each window."""
    low, middle, high = _sorted(*_triples(padded, dim=2))
    median = _middle(
        functools.reduce(torch.maximum, _triples(low, dim=3)),
        _middle(*_triples(middle, dim=3)),
        functools.reduce(torch.minimum, _triples(high, dim=3)),
    )
    numbers = torch.arange(padded[0, 0].numel(), device=padded.device).reshape(padded.shape[2:])
    places = torch.zeros_like(median, dtype=torch.long)
    for values, number in reversed(list(zip(_windows(padded), _windows(numbers), strict=True))):
        places = torch.where(values == median, number, places)
    return places


def _windows(x: Tensor) -> list[Tensor]:
    """The values at each of the nine places of all windows."""
    return [part for row in _triples(x, dim=-2) for part in _triples(row, dim=-1)]


def _triples(x: Tensor, *, dim: int) -> tuple[Tensor, Tensor, Tensor]:
    """Each value beside its two successors along a dimension."""
    length = x.shape[dim] - 2
    return x.narrow(dim, 0, length), x.narrow(dim, 1, length), x.narrow(dim, 2, length)


def _sorted(a: Tensor, b: Tensor, c: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    small, large = torch.minimum(a, b), torch.maximum(a, b)
    low, rest = torch.minimum(small, c), torch.maximum(small, c)
    return low, torch.minimum(rest, large), torch.maximum(rest, large)


def _middle(a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    return torch.maximum(torch.minimum(a, b), torch.minimum(torch.maximum(a, b), c))
