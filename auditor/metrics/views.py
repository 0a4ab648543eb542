"""The three views of an attribution map: raw, magnitude and visual."""

from __future__ import annotations

import math

import torch
from torch import Tensor

VISUAL_QUANTILE = 0.99


def magnitude(raw: Tensor) -> Tensor:
    """Sum over channels of the absolute attribution.

    Parameters
    ----------
    raw
        Signed maps, shape (B, C, H, W), in map units.

    Returns
    -------
    Tensor
        float64, shape (B, H, W), not negative, in map units.

    Raises
    ------
    ValueError
        If `raw` does not have four dimensions.
    """
    if raw.ndim != 4:
        raise ValueError(f"raw maps have shape (B, C, H, W), got {tuple(raw.shape)}")
    return raw.abs().sum(dim=1, dtype=torch.float64)


def visual(magnitudes: Tensor) -> Tensor:
    """Magnitudes as people see them: clipped at the 99th percentile, scaled to [0, 1] (S0 C.2).

    Where the percentile equals the minimum (a few spikes on an even ground) the map is clipped at
    its maximum instead; a constant map, zero or not, shows nothing and becomes zeros.

    Parameters
    ----------
    magnitudes
        Shape (B, H, W), from :func:`magnitude`.

    Returns
    -------
    Tensor
        float64, shape (B, H, W), a ratio in [0, 1], never NaN.

    Raises
    ------
    ValueError
        If the shape is wrong or a value is not finite.
    """
    if magnitudes.ndim != 3:
        raise ValueError(f"magnitudes have shape (B, H, W), got {tuple(magnitudes.shape)}")
    if not torch.isfinite(magnitudes).all():
        raise ValueError("a map with infinite or NaN values has no visual view")
    flat = magnitudes.double().flatten(1)
    # From the sorted values, because torch.quantile refuses large inputs.
    ordered = flat.sort(dim=1).values
    position = VISUAL_QUANTILE * (flat.shape[1] - 1)
    below, above = ordered[:, math.floor(position)], ordered[:, math.ceil(position)]
    low, maximum = ordered[:, 0], ordered[:, -1]
    high = below + (above - below) * (position % 1)
    high = torch.where(high > low, high, maximum)
    span = high - low
    scaled = (flat.minimum(high[:, None]) - low[:, None]) / span.where(span > 0, 1.0)[:, None]
    return scaled.clamp(0, 1).view_as(magnitudes)


def is_zero(maps: Tensor) -> Tensor:
    """Tell which maps of a batch are zero everywhere: they rank and locate nothing.

    Parameters
    ----------
    maps
        Shape (B, ...), any view.

    Returns
    -------
    Tensor
        bool, shape (B,). A map that holds a NaN is not zero.
    """
    return (maps == 0).flatten(1).all(dim=1)
