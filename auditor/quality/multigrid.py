"""Fill holes in images harmonically: a preconditioned conjugate gradient, many holes at once.

A missing pixel is the weighted mean of its eight neighbors (2 for those that share an edge, 1 for
the others; neighbors outside the image do not count), Rong et al. 2022, section 4. That is one
sparse linear system for each image and set of missing pixels, 50,000 unknowns at 224². All of them
live on one grid, so all are solved together by dense operations on that grid: a multigrid V-cycle
(Galerkin coarse operators, bilinear interpolation, damped Jacobi) as preconditioner needs 4 to 7
steps whatever the holes look like.

References
----------
Briggs, Henson and McCormick 2000, *A Multigrid Tutorial*; Tatebe 1993 for the combination.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import EllipsisType

import torch
from torch import Tensor

TOLERANCE = 1e-5
"""Estimated error in pixel units at which a system counts as solved; see :func:`fill`."""
STEPS = 60
SMALLEST = 25

Offset = tuple[int, int]
Index = tuple[EllipsisType, slice, slice]
# Whole numbers are exact in float32: rows of the operator sum to zero, however large the hole.
WEIGHTS: Mapping[Offset, float] = {(0, 1): 2.0, (1, 0): 2.0, (1, 1): 1.0, (1, -1): 1.0}


@dataclass(eq=False)
class Operator:
    """A symmetric nine-point stencil on a grid, one for each system.

    Attributes
    ----------
    diagonal
        (N, 1, H, W).
    links
        Offset (down, right) → weight (N, 1, h, w) between each pixel and that neighbor; entered
        into the matrix with a minus sign.
    jacobi
        Damped inverse of the diagonal. Basis functions that overlap on the same few missing pixels
        nearly depend on each other; there the ℓ1 norm of the row stands for the diagonal, so that
        the iteration converges on every hole.
    """

    diagonal: Tensor
    links: Mapping[Offset, Tensor]
    jacobi: Tensor = field(init=False)

    def __post_init__(self) -> None:
        norm = self.diagonal.clone()
        for offset, weight in self.links.items():
            here, there = ends(offset, *self.diagonal.shape[-2:])
            norm[here] += weight.abs()
            norm[there] += weight.abs()
        bound = torch.maximum(2 * self.diagonal, norm)
        self.jacobi = torch.where(bound > 0, 1.8 / bound.where(bound > 0, 1.0), 0.0)

    def __call__(self, e: Tensor) -> Tensor:
        """The operator applied to grids (N, C, H, W)."""
        out = self.diagonal * e
        for offset, weight in self.links.items():
            here, there = ends(offset, *e.shape[-2:])
            out[here].addcmul_(weight, e[there], value=-1)
            out[there].addcmul_(weight, e[here], value=-1)
        return out


def fill(x: Tensor, missing: Tensor) -> Tensor:
    """Images (N, C, H, W) with their missing pixels (N, 1, H, W) replaced by their neighbors' mean.

    Parameters
    ----------
    x
        In pixel space, float32 or float64; the values of missing pixels only start the iteration.
    missing
        bool; at least one pixel of each image is not.

    Returns
    -------
    Tensor
        Solved until the preconditioned residual, an estimate of the error, is below 1e-5 in pixel
        units. Measured against a direct solver in float32: at most 4e-5 at 224², on holes of any
        shape up to 95% of the image. Each system stops on its own, whatever it is batched with.

    Raises
    ------
    ValueError
        If an image has no pixel left, or a value is not finite.
    """
    if missing.flatten(1).all(dim=1).any():
        raise ValueError("an image has no pixel left to fill from")
    if not x.isfinite().all():
        raise ValueError("images hold a value that is not finite")
    mask = missing.to(x.dtype)
    preconditioner = _Cycle(mask)
    filled = x.clone()
    # In float64, once: in a flat region all sums round alike, and a large hole adds that up.
    exact = _grid(torch.ones_like(mask[:1], dtype=torch.float64))(x.double())
    residual = (-exact).to(x.dtype) * mask
    direction = torch.zeros_like(x)
    before = torch.ones_like(x[:, :, :1, :1])
    live = torch.ones_like(x[:, :1, :1, :1], dtype=torch.bool)
    for _ in range(STEPS):
        step = preconditioner(residual)
        # The last correction costs nothing more.
        done = live & (step.abs().amax(dim=(1, 2, 3), keepdim=True) < TOLERANCE)
        filled.addcmul_(step, done.to(x.dtype))
        live = live & ~done
        if not live.any():
            return filled
        power = (residual * step).sum(dim=(-2, -1), keepdim=True)
        direction.mul_(_ratio(power, before)).add_(step)
        image = preconditioner.operators[0](direction)
        length = _ratio(power, (direction * image).sum(dim=(-2, -1), keepdim=True)) * live
        filled.addcmul_(length, direction)
        residual.addcmul_(length, image, value=-1)
        before = power
    raise ArithmeticError(f"imputation did not converge in {STEPS} steps")


class _Cycle:
    """One V-cycle for the missing pixels of each system: a symmetric approximate inverse."""

    def __init__(self, mask: Tensor) -> None:
        self.mask = mask
        self.operators = [_grid(mask)]
        shape: tuple[int, ...] = mask.shape[-2:]
        while shape[0] * shape[1] > SMALLEST and _half(shape) != shape:
            self.operators.append(_coarsen(self.operators[-1], mask if len(self) == 1 else None))
            shape = _half(shape)
        matrix = _dense(self.operators[-1])
        self.inverse = torch.linalg.pinv(matrix, hermitian=True, rtol=1e-6).to(mask.dtype)

    def __len__(self) -> int:
        return len(self.operators)

    def __call__(self, residual: Tensor, level: int = 0) -> Tensor:
        operator = self.operators[level]
        if level + 1 == len(self):
            solved: Tensor = self.inverse @ residual.flatten(-2)[..., None]
            return solved.reshape(residual.shape)
        # In place where it can be: fresh memory costs as much as the arithmetic.
        e = operator.jacobi * residual
        coarse = self(restrict(operator(e).neg_().add_(residual)), level + 1)
        correction = prolong(coarse, residual.shape[-2:])
        e.addcmul_(correction, self.mask) if level == 0 else e.add_(correction)
        e.addcmul_(operator.jacobi, operator(e).neg_().add_(residual))
        return e


def _grid(mask: Tensor) -> Operator:
    """The finest operator, for corrections that are zero outside the mask (N, 1, H, W)."""
    diagonal = torch.zeros_like(mask[:1])
    links = {}
    for offset, weight in WEIGHTS.items():
        here, there = ends(offset, *mask.shape[-2:])
        diagonal[here] += weight
        diagonal[there] += weight
        links[offset] = weight * mask[here] * mask[there]
    return Operator(diagonal * mask, links)


def _coarsen(fine: Operator, mask: Tensor | None) -> Operator:
    """The Galerkin operator PᵀAP of half the size, found by probing with nine patterns.

    Pixels three apart have no common neighbor, so that a pattern of every third one in both
    directions shows one column of the matrix at each of them.
    """
    size = fine.diagonal.shape[-2:]
    height, width = _half(size)
    rows, columns = torch.arange(height)[:, None], torch.arange(width)
    patterns = [(rows % 3 == i) & (columns % 3 == j) for i in range(3) for j in range(3)]
    probes = prolong(torch.stack(patterns).to(fine.diagonal.dtype)[None], size)
    if mask is not None:
        probes = probes * mask
    seen = restrict(fine(probes.expand(len(fine.diagonal), -1, -1, -1)))
    seen = seen.reshape(-1, 3, 3, height, width)

    def entry(down: int, right: int) -> Tensor:
        found: Tensor = seen[:, (rows + down) % 3, (columns + right) % 3, rows, columns]
        return found[:, None]

    links = {}
    for offset in WEIGHTS:
        here, _ = ends(offset, height, width)
        links[offset] = -entry(*offset)[here]
    return Operator(entry(0, 0), links)


def prolong(coarse: Tensor, size: tuple[int, ...]) -> Tensor:
    """Bilinear interpolation: coarse pixel i lies on fine pixel 2i."""
    height, width = size
    wide = coarse.new_empty((*coarse.shape[:-1], 2 * coarse.shape[-1] - 1))
    wide[..., ::2] = coarse
    torch.add(coarse[..., :-1], coarse[..., 1:], out=wide[..., 1::2]).mul_(0.5)
    wide = wide[..., :width]
    fine = wide.new_empty((*wide.shape[:-2], 2 * wide.shape[-2] - 1, width))
    fine[..., ::2, :] = wide
    torch.add(wide[..., :-1, :], wide[..., 1:, :], out=fine[..., 1::2, :]).mul_(0.5)
    return fine[..., :height, :]


def restrict(fine: Tensor) -> Tensor:
    """The transpose of :func:`prolong`."""
    height, width = _half(fine.shape[-2:])
    tall = fine.new_zeros((*fine.shape[:-2], height, fine.shape[-1]))
    even, odd = fine[..., ::2, :], fine[..., 1::2, :]
    tall[..., : even.shape[-2], :] = even
    tall[..., : odd.shape[-2], :].add_(odd, alpha=0.5)
    tall[..., 1 : 1 + odd.shape[-2], :].add_(odd, alpha=0.5)
    small = fine.new_zeros((*fine.shape[:-2], height, width))
    even, odd = tall[..., ::2], tall[..., 1::2]
    small[..., : even.shape[-1]] = even
    small[..., : odd.shape[-1]].add_(odd, alpha=0.5)
    small[..., 1 : 1 + odd.shape[-1]].add_(odd, alpha=0.5)
    return small


def ends(offset: Offset, height: int, width: int) -> tuple[Index, Index]:
    """Indices of all pixels that have a neighbor at an offset, and of those neighbors."""
    down, right = offset
    here = slice(0, height - down), slice(max(0, -right), width - max(0, right))
    there = slice(down, height), slice(max(0, right), width - max(0, -right))
    return (..., *here), (..., *there)


def _half(size: tuple[int, ...]) -> tuple[int, int]:
    return size[0] // 2 + 1 if size[0] > 1 else 1, size[1] // 2 + 1 if size[1] > 1 else 1


def _dense(operator: Operator) -> Tensor:
    """The operator as matrices (N, 1, n, n) in float64."""
    shape = operator.diagonal.shape[-2:]
    n = shape[0] * shape[1]
    unit = torch.eye(n, dtype=operator.diagonal.dtype).reshape(1, n, *shape)
    columns = operator(unit.expand(len(operator.diagonal), -1, -1, -1))
    return columns.reshape(-1, 1, n, n).double()


def _ratio(a: Tensor, b: Tensor) -> Tensor:
    """Quotient a / b, and 0 where b is not positive: there is nothing left to do in that system."""
    return torch.where(b > 0, a / b.where(b > 0, 1.0), 0.0)
