"""Perturbed images, each a function of seed, image and number of the draw: never of a batch.

The perturbation of S4 is I = x − y with y the perturbed image drawn here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch
from torch import Tensor

from auditor.attributions.noise import Noise, mix

BASELINE_STREAM, SQUARES_STREAM, UNIFORM_STREAM, GAUSSIAN_STREAM = 16, 17, 18, 19
"""Streams of noise beside those of the maps, :mod:`auditor.attributions.noise`."""


class Perturbation(Protocol):
    """A distribution of perturbed images around each image."""

    @property
    def name(self) -> str:
        """As it enters the names of metrics."""

    def draw(self, x: Tensor, images: Sequence[int], *, first: int, count: int) -> Tensor:
        """Perturbed images (B, count, C, H, W) of ``x`` (B, C, H, W), in pixel space.

        Draw ``first`` + j is the same whatever portion it is drawn in.
        """


@dataclass(frozen=True, kw_only=True)
class NoisyBaseline:
    """The whole image is replaced by a black one with Gaussian noise, clipped to [0, 1].

    Yeh et al. 2019, section 2.2: I = x − (x₀ + z). **Choice** of math section 7: std .2, clipped;
    x₀ is black as in S4 B.1. The perturbed image does not depend on x.
    """

    seed: int
    std: float = 0.2
    name: ClassVar[str] = "noisy_baseline"

    def draw(self, x: Tensor, images: Sequence[int], *, first: int, count: int) -> Tensor:
        """See :class:`Perturbation`."""
        noise = Noise(seed=self.seed, stream=BASELINE_STREAM)
        z = noise.draw(images, tuple(x.shape[1:]), first=first, count=count)
        return (self.std * z).clamp(0, 1).to(x.dtype)


@dataclass(frozen=True, kw_only=True)
class SquareRemoval:
    """A square of random size and place turns black (S4 B.1).

    Attributes
    ----------
    smallest, largest
        Side in pixels, uniform in between; the square lies inside the image. See
        :func:`square_sizes`.
    """

    seed: int
    smallest: int
    largest: int
    name: ClassVar[str] = "squares"

    def masks(
        self, images: Sequence[int], size: tuple[int, int], *, first: int, count: int
    ) -> Tensor:
        """Which pixels turn black, (B, count, 1, H, W) bool."""
        masks = torch.zeros((len(images), count, 1, *size), dtype=torch.bool)
        generator = torch.Generator()
        for row, image in enumerate(images):
            for draw in range(count):
                generator.manual_seed(mix(self.seed, SQUARES_STREAM, image, first + draw))
                u = torch.rand(3, generator=generator, dtype=torch.float64).tolist()
                side = self.smallest + int(u[0] * (self.largest - self.smallest + 1))
                top, left = (int(u[1 + i] * (size[i] - side + 1)) for i in (0, 1))
                masks[row, draw, 0, top : top + side, left : left + side] = True
        return masks

    def draw(self, x: Tensor, images: Sequence[int], *, first: int, count: int) -> Tensor:
        """See :class:`Perturbation`."""
        height, width = x.shape[2:]
        if not 1 <= self.smallest <= self.largest <= min(height, width):
            sides = f"{self.smallest} to {self.largest}"
            raise ValueError(f"squares of {sides} pixels do not fit images of {height}×{width}.")
        removed = self.masks(images, (height, width), first=first, count=count)
        return x[:, None].masked_fill(removed, 0.0)


@dataclass(frozen=True, kw_only=True)
class UniformNoise:
    """Every pixel value changes by up to ``radius``: uniform in the ℓ∞ ball, in pixel units.

    Attributes
    ----------
    clip
        Whether the perturbed image is put back into [0, 1].
    """

    seed: int
    radius: float
    clip: bool
    name: ClassVar[str] = "uniform"

    def draw(self, x: Tensor, images: Sequence[int], *, first: int, count: int) -> Tensor:
        """See :class:`Perturbation`."""
        out = torch.empty((len(images), count, *x.shape[1:]))
        generator = torch.Generator()
        for row, image in enumerate(images):
            for draw in range(count):
                generator.manual_seed(mix(self.seed, UNIFORM_STREAM, image, first + draw))
                torch.rand(tuple(x.shape[1:]), generator=generator, out=out[row, draw])
        noisy = x[:, None] + self.radius * (2 * out - 1).to(x.dtype)
        return noisy.clamp(0, 1) if self.clip else noisy


@dataclass(frozen=True, kw_only=True)
class GaussianNoise:
    """Gaussian noise of standard deviation ``std`` in pixel units, not clipped.

    Different ``std`` scale the same draws, so that they are compared under common noise.
    """

    seed: int
    std: float
    name: ClassVar[str] = "gaussian"

    def draw(self, x: Tensor, images: Sequence[int], *, first: int, count: int) -> Tensor:
        """See :class:`Perturbation`."""
        noise = Noise(seed=self.seed, stream=GAUSSIAN_STREAM)
        z = noise.draw(images, tuple(x.shape[1:]), first=first, count=count)
        return x[:, None] + self.std * z.to(x.dtype)


def square_sizes(height: int, width: int) -> tuple[int, int]:
    """Smallest and largest side of the removed squares, in pixels (S4 B.1).

    1 to 10 for images up to 28², 1 to 15 below 224², 10 to 30 from there on; never more than the
    shorter side of the image.
    """
    shorter = min(height, width)
    if shorter >= 224:
        return 10, 30
    return 1, min(10 if shorter <= 28 else 15, shorter)
