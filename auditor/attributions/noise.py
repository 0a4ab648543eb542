"""Gaussian noise that belongs to an image and a draw, never to a batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

_MASK = (1 << 64) - 1

SHOWN = 0
"""Stream of the map that a user is shown: the reference of every comparison."""
FRESH = 1
"""Stream of a second, independent map: the self-overlap floor and the scoring of attacks."""
SELECT = 2
"""Stream with which an attack chooses among its candidates."""
SEARCH = 3
"""Stream that an attack differentiates through; it never scores with it."""


def mix(*numbers: int) -> int:
    """Fold integers into one 63-bit seed in which every bit depends on every input bit.

    The finalizer is splitmix64's (Steele, Lea, Flood 2014). Torch's CPU generator reads the low
    32 bits only, so two of the thousand draws of an image coincide with probability 1e-4.
    """
    state = 0
    for number in numbers:
        state = (state ^ (number & _MASK)) + 0x9E3779B97F4A7C15 & _MASK
        state = (state ^ (state >> 30)) * 0xBF58476D1CE4E5B9 & _MASK
        state = (state ^ (state >> 27)) * 0x94D049BB133111EB & _MASK
        state ^= state >> 31
    return state >> 1


@dataclass(frozen=True, kw_only=True)
class Noise:
    """Standard normal draws, a function of (seed, stream, image, draw) alone.

    The same draws are scaled for every σ, so maps at two σ, or before and after a perturbation,
    are compared under common random numbers.

    Attributes
    ----------
    antithetic
        Draws 2j and 2j + 1 are z and −z: their mean has .49 to .65 of the variance of independent
        ones. Not for what assumes independent draws.
    """

    seed: int
    stream: int
    antithetic: bool = False

    def draw(
        self, images: Sequence[int], shape: tuple[int, ...], *, first: int, count: int
    ) -> Tensor:
        """Draws ``first`` … ``first + count − 1`` for each image, (B, count, *shape), float32."""
        out = torch.empty((len(images), count, *shape))
        generator = torch.Generator()
        for row, image in enumerate(images):
            for sample in range(count):
                number = (first + sample) // 2 if self.antithetic else first + sample
                generator.manual_seed(mix(self.seed, self.stream, image, number))
                torch.randn(shape, generator=generator, out=out[row, sample])
                if self.antithetic and (first + sample) % 2:
                    out[row, sample].neg_()
        return out
