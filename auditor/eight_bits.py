"""Perturbed images as files can carry them: 8 bits a value, still inside the ball."""

from __future__ import annotations

import torch
from torch import Tensor

from attacks import L2, Linf

ROUNDINGS = {"nearest": 0.5, "away": 0.0, "toward": 1.0}
"""From which fraction of a level on a change is rounded away from the clean image.

Which of the three keeps the label and moves the map most is tried out, image by image.
"""


def to_levels(x: Tensor) -> Tensor:
    """Pixels in [0, 1] → the nearest of 256 levels, uint8 of the same shape."""
    return (255 * x).round().to(torch.uint8)


def from_levels(levels: Tensor) -> Tensor:
    """Levels → float32 pixels, the same to the bit as those of an 8-bit file that is read."""
    return levels.float() / 255


def rounded(clean: Tensor, delta: Tensor, epsilon: Tensor, *, ball: Linf | L2, up: float) -> Tensor:
    """Levels of a perturbed image, near it and never outside the ball around the clean one.

    A change of 3.7 levels becomes 3 or 4: 4 where its fraction .7 is at least ``up`` and the ball
    allows it. In the ℓ2 ball the largest fractions come first, until its length is used up.

    Parameters
    ----------
    clean
        Levels (B, C, H, W), uint8, of the clean images.
    delta
        Perturbation (B, C, H, W) in pixel units, inside the ball and the box around ``clean``/255.
    epsilon
        Radius (B,) in pixel units.
    up
        One of `ROUNDINGS`.

    Returns
    -------
    Tensor
        uint8, shape of ``clean``.
    """
    # Four decimals are below a float32's resolution of a pixel, and take its rounding errors off:
    # a change by a whole number of levels stays one, and the bound of the ball is met exactly.
    change = (255 * delta.double()).round(decimals=4)
    limit = (255 * epsilon.double()).round(decimals=4).reshape(-1, 1, 1, 1)
    size = change.abs().floor()
    fraction = change.abs() - size
    grows = (fraction > 0) & (fraction >= up)
    if isinstance(ball, Linf):
        grows &= size + 1 <= limit
    else:
        grows &= _fits(size.flatten(1), fraction, grows.flatten(1), limit.flatten(1) ** 2)
    moved = clean.double() + change.sign() * (size + grows)
    return moved.clamp(0, 255).to(torch.uint8)


def _fits(size: Tensor, fraction: Tensor, grows: Tensor, limit: Tensor) -> Tensor:
    """Which values may grow by one level, largest fraction first, within a squared length."""
    order = fraction.flatten(1).argsort(dim=1, descending=True, stable=True)
    price = torch.where(grows, 2 * size + 1, 0.0).gather(1, order).cumsum(dim=1)
    paid = size.square().sum(dim=1, keepdim=True) + price <= limit
    return torch.zeros_like(grows).scatter_(1, order, paid).reshape(fraction.shape)
