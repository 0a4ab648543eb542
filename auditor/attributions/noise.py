"""Gaussian noise that belongs to an image and a draw, never to a batch."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

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


Sampler = Literal["iid", "antithetic", "lhs"]
"""How the draws of one map depend on each other; see :class:`Noise`."""

Spread = Literal["gaussian", "box", "ball"]
"""Distributions that draws can be turned into; see :func:`spread`."""

LONGEST = 4096
"""Most strata: more draws are stratified in blocks of this many, so that tables stay small."""

_ORDERS = 256  # a power of two
"""Orders of the strata among which a pixel picks."""

_EDGE = 1 - 2**-24
"""The largest float32 below one: beyond it the quantile of the normal would be infinite."""


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
    """Standard normal draws, a function of (seed, stream, image, draw) and of the sampler alone.

    The same draws are scaled for every σ, so maps at two σ, or before and after a perturbation,
    are compared under common random numbers.

    Attributes
    ----------
    sampler
        ``iid``: independent draws. ``antithetic``: draws 2j and 2j + 1 are z and −z. ``lhs``, Latin
        hypercube (McKay, Beckman, Conover 1979): draws bn … bn + n − 1, n = ``samples``, take a
        value from each of n equally probable strata at every pixel. Against independent draws the
        mean over n has .3 to .5 of the variance (antithetic: .4 to .65). The last two are not for
        what assumes independent draws.
    samples
        Draws n of one map; only ``lhs`` asks. With 1, its draws are independent as well.

    Notes
    -----
    ``lhs`` at pixel p, draw j of block b: z = Φ⁻¹((s + u)/n), s = (π_k(j) + c) mod n, with u
    uniform for each draw, and k, c for each block, independent between pixels; the π are fixed
    permutations. Whatever k is, c makes s uniform on 0 … n − 1, so (s + u)/n is uniform on [0, 1]
    and independent between pixels: every single draw is exactly N(0, I). As j runs through a block,
    s takes each value once: only the draws of one block depend on each other.
    """

    seed: int
    stream: int
    sampler: Sampler = "lhs"
    samples: int = 1

    def __post_init__(self) -> None:
        if self.sampler not in get_args(Sampler):
            raise ValueError(f"sampler {self.sampler!r} is none of {get_args(Sampler)}")
        if self.samples < 1:
            raise ValueError(f"samples {self.samples} is less than 1")

    def draw(
        self, images: Sequence[int], shape: tuple[int, ...], *, first: int, count: int
    ) -> Tensor:
        """Draws ``first`` … ``first + count − 1`` for each image, (B, count, *shape), float32."""
        out = torch.empty((len(images), count, *shape))
        generator = torch.Generator()
        numbers = range(first, first + count)
        fill = torch.rand if self.sampler == "lhs" else torch.randn
        for image, draws in zip(images, out, strict=True):
            for number, z in zip(numbers, draws, strict=True):
                own = number // 2 if self.sampler == "antithetic" else number
                generator.manual_seed(mix(self.seed, self.stream, image, own))
                fill(shape, generator=generator, out=z)
                if self.sampler == "antithetic" and number % 2:
                    z.neg_()
            if self.sampler == "lhs":
                self._stratify(draws, image, numbers, generator)
        if self.sampler == "lhs":
            # Symmetric about zero, because float32 resolves both tails of (−1, 1) equally.
            out.clamp_(-_EDGE, _EDGE).erfinv_().mul_(math.sqrt(2))
        return out

    def _stratify(self, u: Tensor, image: int, numbers: range, generator: torch.Generator) -> None:
        """Turn uniform values on [0, 1) into 2(s + u)/n − 1 in place, one stratum s each."""
        n = min(self.samples, LONGEST)
        for block, members in itertools.groupby(numbers, key=lambda number: number // n):
            inside = [number - block * n for number in members]
            generator.manual_seed(mix(self.seed, self.stream, image, block, n))
            pick = torch.randint(
                _ORDERS * n, (u[0].numel(),), generator=generator, dtype=torch.int32
            )
            order, shift = pick & (_ORDERS - 1), pick >> (_ORDERS.bit_length() - 1)
            strata = _orders(n)[inside[0] : inside[-1] + 1].index_select(1, order).add_(shift)
            strata -= (strata / n).floor_().mul_(n)  # modulo n: exact, and fast
            start = block * n + inside[0] - numbers.start
            u[start : start + len(inside)] += strata.sub_(n / 2).view(-1, *u.shape[1:])
        u.mul_(2 / n)


def spread(z: Tensor, shape: Spread) -> Tensor:
    """Standard normal draws (B, n, C, H, W) as draws of another distribution of size 1.

    ``box``: uniform in [−1, 1]^d, by the distribution function, which keeps strata. ``ball``:
    uniform in the ball of radius √d, in the direction of z and at a length that ‖z‖² ~ χ²_d
    decides. **Choice**: with this radius the mean square of a pixel is d/(d + 2), whatever the size
    of the image.
    """
    if shape == "gaussian":
        return z
    if shape == "box":
        return torch.erf(z / math.sqrt(2))
    size = z[0, 0].numel()
    square = z.double().square().flatten(2).sum(dim=2)
    share = torch.special.gammainc(torch.full_like(square, size / 2), square / 2)
    length = share.pow(1 / size) * math.sqrt(size)
    factor = length / square.sqrt().clamp_min(torch.finfo(square.dtype).tiny)
    wide: Tensor = factor.to(z.dtype)[:, :, None, None, None]
    return z * wide


@functools.lru_cache(maxsize=8)
def _orders(n: int) -> Tensor:
    """Fixed random permutations of 0 … n − 1, one in each column, (n, 256), float32."""
    keys = torch.rand((n, _ORDERS), generator=torch.Generator().manual_seed(n))
    return keys.argsort(dim=0, stable=True).float()
