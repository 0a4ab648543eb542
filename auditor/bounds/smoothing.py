"""How fast the map of a Gaussian-smoothed score can move: constants that no function exceeds.

f_σ = f * N(0, σ²I), the map is ∇f_σ, and ``radius`` and σ are in pixel units. Derivations are in
``docs/bounds.md``; they hold for the expectation, so a map of finitely many draws adds its error.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from auditor.errors import InputError

PEAK = math.exp(-0.5) / math.sqrt(2 * math.pi)
"""φ(1), the density of the normal at one standard deviation."""
SHARP_BOUNDED = 4 * PEAK
"""E|Z² − 1| = 0.968: the constant that replaces 2 in S3 Thm 2."""
SHARP_LIPSCHITZ = math.sqrt(2 / math.pi)
"""E|Z| = 0.798: the constant that replaces 1 in S0 Lemma D.2."""
_STEPS = 128


def bounded(size: float, sigma: float, *, sharp: bool = True) -> float:
    """Lipschitz constant of ∇f_σ for |f| ≤ ``size`` on all of ℝᵈ.

    ``sharp``: 4φ(1)·F/σ², attained; else 2F/σ² as published (S3 Thm 2). Adding a constant to f
    changes nothing, so F may be half the range of f: 1/2 for a probability.

    Raises
    ------
    InputError
        If σ is not positive.
    """
    _check(sigma)
    return (SHARP_BOUNDED if sharp else 2.0) * size / sigma**2


def lipschitz(constant: float, sigma: float, *, sharp: bool = True) -> float:
    """Lipschitz constant of ∇f_σ for an L-Lipschitz f, in the units of L per pixel unit.

    ``sharp``: √(2/π)·L/σ, attained; else L/σ as published (S0 Lemma D.2).

    Raises
    ------
    InputError
        If σ is not positive.
    """
    _check(sigma)
    return (SHARP_LIPSCHITZ if sharp else 1.0) * constant / sigma


def longest_map(size: float, sigma: float) -> float:
    """The largest ‖∇f_σ‖ for |f| ≤ ``size``: √(2/π)·F/σ, 0.399/σ for a probability.

    Raises
    ------
    InputError
        If σ is not positive.
    """
    _check(sigma)
    return SHARP_LIPSCHITZ * size / sigma


def probability_drift(low: Tensor, high: Tensor, *, radius: float, sigma: float) -> Tensor:
    """Most that ∇p_σ can move within ``radius``, where p_σ(x) is known to lie in [low, high].

    A function with values in [0, 1] and mean s has ‖∇²f_σ‖ ≤ κ(s)/σ², with κ(s) the larger of q(s)
    and q(1 − s), q(s) = 2aφ(a), a = −Φ⁻¹(s/2). κ never exceeds 2φ(1) = 0.484, the global constant,
    and is far less for a confident prediction. At distance t, s has moved by at most t/σ on the
    scale of Φ⁻¹; the largest κ within reach is integrated over t up to ``radius`` by upper sums.

    Parameters
    ----------
    low, high
        Limits (B,) of p_σ(x), float64, 0 ≤ low ≤ high ≤ 1.

    Returns
    -------
    Tensor
        (B,), in probability per pixel unit; at most 0.484·radius/σ².

    Raises
    ------
    InputError
        If σ is not positive.
    """
    _check(sigma)
    far = torch.arange(1, _STEPS + 1, dtype=torch.float64) / _STEPS * (radius / sigma)
    least = _normal_cdf(_normal_quantile(low.double())[:, None] - far)
    most = _normal_cdf(_normal_quantile(high.double())[:, None] + far)
    peak = 2 * float(_normal_cdf(torch.tensor(-1.0, dtype=torch.float64)))  # q is largest there
    inside = torch.zeros_like(least, dtype=torch.bool)
    for place in (peak, 1 - peak):
        inside |= (least <= place) & (most >= place)
    largest = torch.maximum(_kappa(least), _kappa(most)).masked_fill(inside, 2 * PEAK)
    return largest.mean(dim=1) * radius / sigma**2


def cosine_limit(drift: Tensor, size: Tensor) -> Tensor:
    """Most that the cosine distance from a map of norm ``size`` (B,) can be after ``drift`` (B,).

    1 − √(1 − (drift/size)²) where the drift is shorter than the map; else ``nan``: the moved map
    may point anywhere.
    """
    share = drift / size
    return torch.where(share < 1, 1 - (1 - share.square()).clamp_min(0).sqrt(), torch.nan)


def crossover(radius: float, size: float, constant: float) -> float:
    """σ > √(δ₂F/L) of S3 Prop. 2, in pixel units; ``inf`` for an F that is not finite.

    It compares two *upper bounds*, of the smoothed and of the plain map. It proves nothing on the
    maps: for a linear f neither moves at all, whatever σ. Never a reason to recommend a σ.
    """
    return math.sqrt(radius * size / constant) if constant > 0 else math.inf


def _kappa(s: Tensor) -> Tensor:
    return torch.maximum(_tail(s), _tail(1 - s))


def _tail(s: Tensor) -> Tensor:
    a = -_normal_quantile(s / 2)
    density = torch.exp(-a.square() / 2) / math.sqrt(2 * math.pi)
    return torch.where(s > 0, 2 * a * density, 0.0).nan_to_num(0.0)


def _normal_cdf(z: Tensor) -> Tensor:
    found: Tensor = torch.special.ndtr(z)
    return found


def _normal_quantile(p: Tensor) -> Tensor:
    found: Tensor = torch.special.ndtri(p)
    return found


def _check(sigma: float) -> None:
    if not sigma > 0:
        raise InputError("A smoothing bound needs noise: give a sigma above 0.")
