"""The set of allowed perturbations: a box around the image, inside the pixel range."""

from __future__ import annotations

import torch
from torch import Tensor


def project(x: Tensor, delta: Tensor, epsilon: Tensor) -> Tensor:
    """The nearest δ with ‖δ‖∞ ≤ ε and x + δ in [0, 1].

    ``x`` and ``delta`` are (B, C, H, W) in pixel space, ``epsilon`` (B,) or a scalar tensor in
    [0, 1] units. The total perturbation is projected, not a step of it. Both bounds hold exactly
    in floating point, because δ itself is clamped and never recovered from x + δ.
    """
    bound = epsilon.reshape(-1, *[1] * (x.dim() - 1))
    return delta.clamp(-bound, bound).clamp(-x, 1 - x)


def random_signs(x: Tensor, epsilon: Tensor, generators: list[torch.Generator]) -> Tensor:
    """δ = ±ε with random signs, one generator per image, projected into the box."""
    signs = [torch.randint(0, 2, x.shape[1:], generator=g) * 2 - 1 for g in generators]
    bound = epsilon.reshape(-1, *[1] * (x.dim() - 1))
    return project(x, torch.stack(signs).to(x.dtype) * bound, epsilon)


def random_start(x: Tensor, epsilon: Tensor, generators: list[torch.Generator]) -> Tensor:
    """δ uniform in the ball, one generator per image, projected into the box."""
    drawn = [torch.rand(x.shape[1:], generator=g) * 2 - 1 for g in generators]
    bound = epsilon.reshape(-1, *[1] * (x.dim() - 1))
    return project(x, torch.stack(drawn).to(x.dtype) * bound, epsilon)
