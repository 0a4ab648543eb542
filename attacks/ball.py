"""The sets of allowed perturbations: balls around the image, inside the pixel range."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor


def project(x: Tensor, delta: Tensor, epsilon: Tensor) -> Tensor:
    """The nearest δ with ‖δ‖∞ ≤ ε and x + δ in [0, 1].

    ``x`` and ``delta`` are (B, C, H, W) in pixel space, ``epsilon`` (B,) or a scalar tensor in
    [0, 1] units. The total perturbation is projected, not a step of it. Both bounds hold exactly
    in floating point, because δ itself is clamped and never recovered from x + δ.
    """
    bound = _wide(epsilon, x)
    return delta.clamp(-bound, bound).clamp(-x, 1 - x)


def random_signs(x: Tensor, epsilon: Tensor, generators: list[torch.Generator]) -> Tensor:
    """δ = ±ε with random signs, one generator per image, projected into the box."""
    signs = [torch.randint(0, 2, x.shape[1:], generator=g) * 2 - 1 for g in generators]
    bound = _wide(epsilon, x)
    return project(x, torch.stack(signs).to(x.dtype) * bound, epsilon)


def random_start(x: Tensor, epsilon: Tensor, generators: list[torch.Generator]) -> Tensor:
    """δ uniform in the ball, one generator per image, projected into the box."""
    drawn = [torch.rand(x.shape[1:], generator=g) * 2 - 1 for g in generators]
    bound = _wide(epsilon, x)
    return project(x, torch.stack(drawn).to(x.dtype) * bound, epsilon)


@dataclass(frozen=True)
class Linf:
    """‖δ‖∞ ≤ ε: every pixel value may change by ε."""

    def project(self, x: Tensor, delta: Tensor, epsilon: Tensor) -> Tensor:
        """The nearest allowed δ; see :func:`project`."""
        return project(x, delta, epsilon)

    def start(self, x: Tensor, epsilon: Tensor, generators: list[torch.Generator]) -> Tensor:
        """A random allowed δ; see :func:`random_start`."""
        return random_start(x, epsilon, generators)

    def reach(self, x: Tensor, epsilon: Tensor) -> Tensor:
        """The largest ℓ₂ length (B,) of an allowed δ, the box aside."""
        return epsilon * math.sqrt(x[0].numel())

    def unit(self, direction: Tensor) -> Tensor:
        """The step of ℓ∞ norm 1 that goes furthest along a direction (B, C, H, W)."""
        return direction.sign()


@dataclass(frozen=True)
class L2:
    """‖δ‖₂ ≤ ε: the whole change has length ε."""

    def project(self, x: Tensor, delta: Tensor, epsilon: Tensor) -> Tensor:
        """An allowed δ near the given one: shortened to length ε, then clamped to the box.

        The box of x + δ in [0, 1] contains δ = 0, so clamping can only shorten δ further. It is
        not always the nearest one, which nothing needs.
        """
        length = _wide(delta.flatten(1).norm(dim=1), delta)
        bound = _wide(epsilon, delta)
        return (delta * (bound / length.clamp_min(1e-30)).clamp(max=1)).clamp(-x, 1 - x)

    def start(self, x: Tensor, epsilon: Tensor, generators: list[torch.Generator]) -> Tensor:
        """δ of length ε in a random direction, one generator per image, put into the box."""
        drawn = torch.stack([torch.randn(x.shape[1:], generator=g) for g in generators])
        return self.project(x, self.unit(drawn.to(x.dtype)) * _wide(epsilon, x), epsilon)

    def reach(self, x: Tensor, epsilon: Tensor) -> Tensor:
        """The largest ℓ₂ length (B,) of an allowed δ, the box aside."""
        return epsilon

    def unit(self, direction: Tensor) -> Tensor:
        """The direction (B, C, H, W) at length 1; zero stays zero."""
        length = _wide(direction.flatten(1).norm(dim=1), direction)
        return direction / length.clamp_min(1e-30)


def _wide(values: Tensor, like: Tensor) -> Tensor:
    return values.reshape(-1, *[1] * (like.dim() - 1))
