"""How much of the top k of a sparsified smoothed map survives every perturbation of a length."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from auditor.bounds.votes import Band
from auditor.errors import InputError


def certified_overlap(band: Band, *, k: int, radius: float, sigma: float) -> Tensor:
    """Top-k overlap (B,) of the expected sparsified map that no ‖δ‖₂ ≤ ``radius`` can undercut.

    #{i ≤ k : Φ(Φ⁻¹(l₍ᵢ₎) − 2ρ/σ) > u₍₂ₖ₊₁₋ᵢ₎}/k with l₍₁₎ ≥ l₍₂₎ ≥ … the sorted lower and u the
    sorted upper limits (Levine, Singla, Feizi 2019, Theorem 1). By Neyman and Pearson a mean s of
    [0, 1]-valued functions of N(x, σ²I) stays within Φ(Φ⁻¹(s) ± ρ/σ), and to push a pixel of rank
    i out of the top k one of rank 2k + 1 − i or worse has to pass it.

    Parameters
    ----------
    k
        Top pixels, 2k ≤ H·W.
    radius, sigma
        In pixel units; σ > 0.

    Raises
    ------
    InputError
        If 2k exceeds the number of pixels or σ is not positive.
    """
    pixels = band.low.shape[1]
    if not sigma > 0:
        raise InputError("A certificate needs noise: give a sigma above 0.")
    if not 0 < 2 * k <= pixels:
        raise InputError(f"k = {k}: a certificate needs at least {2 * k} pixels, not {pixels}.")
    low = band.low.sort(dim=1, descending=True).values[:, :k]
    rivals = band.high.sort(dim=1, descending=True).values[:, k : 2 * k].flip(1)
    least = torch.special.ndtr(torch.special.ndtri(low) - 2 * radius / sigma)
    held: Tensor = (least > rivals).sum(dim=1).double() / k
    return held


def overlap_limit(clean: Band, moved: Band, *, k: int) -> Tensor:
    """The largest top-k overlap (B,) of two expected maps that their limits allow.

    The attacked side of a bracket: while the limits hold, the true worst case is not above it. A
    pixel is in a top k for sure if fewer than k others can reach it, and can be in it unless k
    others surely exceed it.
    """
    (sure, able), (sure_moved, able_moved) = _members(clean, k), _members(moved, k)
    lost = (sure & ~able_moved).sum(dim=1)
    gained = (sure_moved & ~able).sum(dim=1)
    common = (able & able_moved).sum(dim=1)
    most = torch.minimum(k - torch.maximum(lost, gained), common)
    return most.double() / k


def fewest_draws(*, pixels: int, confidence: float, radius: float, sigma: float) -> int:
    """Draws below which nothing can be certified at this radius, whatever the map.

    The best case is a pixel marked by every draw against one marked by none.
    """
    log_alpha = math.log((1 - confidence) / (2 * pixels))

    def enough(n: int) -> bool:
        shortfall = -math.expm1(log_alpha / n)  # 1 − lower limit = upper limit of a zero count
        z = torch.special.ndtri(torch.tensor(shortfall, dtype=torch.float64))
        return bool(-2 * z > 2 * radius / sigma)

    high = 1
    while not enough(high):
        high *= 2
        if high > 2**60:
            raise InputError(f"radius {radius:g} is too long for any certificate at σ = {sigma:g}.")
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def _members(band: Band, k: int) -> tuple[Tensor, Tensor]:
    """Which pixels (B, d) are among the k largest for sure, and which can be."""
    low, high = band.low, band.high
    lows, highs = low.sort(dim=1).values, high.sort(dim=1).values
    width = low.shape[1]
    # Others whose upper limit reaches this one's lower limit; the pixel itself is among them.
    reach = width - torch.searchsorted(highs, low.contiguous()) - 1
    above = width - torch.searchsorted(lows, high.contiguous(), right=True)
    return reach < k, above < k
