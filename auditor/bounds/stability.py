"""Published bounds on how retraining and smoothing change a map, in logarithms to base 10 (S0, S4).

All quantities are built from the operator norms B₁ … B_k of the layers, the largest input norm C
and the training record. For real networks 1/(βc + 1) is near 0 and the bounds are vacuous: they
are printed all the same.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from auditor.bounds.training import Training

_LOG2 = math.log10(2)


def add_logs(values: Sequence[float]) -> float:
    """log₁₀ Σ 10^v, without overflow; −∞ for no values."""
    top = max(values, default=-math.inf)
    if not math.isfinite(top):
        return top
    return top + math.log10(sum(10 ** (v - top) for v in values))


def symmetric(norms: Sequence[float], drop: int) -> float:
    """log₁₀ of Δ_{t,i}: the sum of all products of t − i of the t norms, i = ``drop`` (S0 3.2)."""
    degree = len(norms) - drop
    if degree < 0:
        return -math.inf
    sums = [0.0] + [-math.inf] * degree
    for norm in norms:
        log = math.log10(norm) if norm > 0 else -math.inf
        for j in range(degree, 0, -1):
            sums[j] = add_logs([sums[j], log + sums[j - 1]])
    return sums[degree]


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What the theorems ask for.

    Attributes
    ----------
    norms
        B₁ … B_k.
    size
        C, the largest ℓ₂ norm of an input.
    pixels
        m, the number of input values.
    """

    norms: tuple[float, ...]
    size: float
    pixels: int

    @cached_property
    def longest_map(self) -> float:
        """log₁₀ Δ_{k,0}: no gradient of a logit is longer (Lemma D.11)."""
        return symmetric(self.norms, 0)

    @cached_property
    def loss_lipschitz(self) -> float:
        """log₁₀ of Δ_{k,1}C ≥ L, the loss in the weights (Lemma D.8; C, B ≥ 1)."""
        return symmetric(self.norms, 1) + math.log10(self.size)

    @cached_property
    def loss_smoothness(self) -> float:
        """log₁₀ of (3k + 1)Δ²_{k,1}C² ≥ β (Lemma D.8; activation and loss 1-smooth)."""
        return math.log10(3 * len(self.norms) + 1) + 2 * self.loss_lipschitz

    @cached_property
    def map_lipschitz(self) -> float:
        """log₁₀ of L′ = 2Δ_{k,0}·Σ_{i<k} Δ_{i,1}·C, the map in the weights (Lemma D.12)."""
        inner = add_logs([symmetric(self.norms[:i], 1) for i in range(1, len(self.norms))])
        return _LOG2 + self.longest_map + inner + math.log10(self.size)

    def constants(self, training: Training) -> tuple[float, float]:
        """log₁₀ of L and of β: given, of noisy SGD (β ≤ L/κ, Prop. 1), or from the layers."""
        lip = self.loss_lipschitz if training.L is None else math.log10(training.L)
        if training.beta is not None:
            return lip, math.log10(training.beta)
        if training.kappa is not None:
            return lip, lip - math.log10(training.kappa)
        return lip, self.loss_smoothness

    def simple_grad(self, training: Training) -> float:
        """Stability error of the gradient (Theorem 5)."""
        return self._lemma_d10(training, self.map_lipschitz, _LOG2 + self.longest_map)

    def smooth_grad(self, training: Training, sigma: float) -> float:
        """Stability error of SmoothGrad, σ > 0 (Theorem 6)."""
        moved = math.log10(self.size / sigma) + symmetric(self.norms, 1)
        return self._lemma_d10(training, moved, _LOG2 + self.longest_map)

    def integrated_gradients(self, training: Training) -> float:
        """Stability error of integrated gradients: 2C times that of the gradient (Theorem D.1)."""
        return self.simple_grad(training) + math.log10(2 * self.size)

    def convex(self, training: Training) -> float:
        """Stability error of the gradient for a convex loss, α_t = c/t (Lemma D.10)."""
        lip, _ = self.constants(training)
        steps = training.c * (math.log(training.T) + 1)  # Σ 1/t ≤ 1 + ln T
        return _LOG2 + lip + self.map_lipschitz - math.log10(training.n) + math.log10(steps)

    def fidelity(self, sigma: float, *, integrated: bool = False) -> float:
        """Fidelity error Λσ√m, (3C + 1) times that for integrated gradients (Proposition 7)."""
        inner = add_logs([symmetric(self.norms[:i], 0) for i in range(1, len(self.norms))])
        value = self.longest_map + inner + math.log10(sigma) + math.log10(self.pixels) / 2
        return value + (math.log10(3 * self.size + 1) if integrated else 0.0)

    def softplus_curvature(self, beta: float) -> float:
        """‖∇²f‖ of a network with softplus_β between linear layers.

        (β/4)·Σ_{i<l} ∏_{j>i}‖Wⱼ‖·∏_{j≤i}‖Wⱼ‖². S4's Prop. A.1, ∏‖Wᵢ‖²/4, is refuted:
        softplus(½·softplus(½x)) has |f″| = .0241 > .0156.
        """
        terms = [
            symmetric(self.norms[i:], 0) + 2 * symmetric(self.norms[:i], 0)
            for i in range(1, len(self.norms))
        ]
        return math.log10(beta / 4) + add_logs(terms)

    def _lemma_d10(self, training: Training, moved: float, largest: float) -> float:
        """(1 + βc)/(n − 1)·(2cLL′)^{1/(βc+1)}·(TM′)^{βc/(βc+1)}, with L′ and M′ in logarithms."""
        lip, beta = self.constants(training)
        bent = add_logs([0.0, beta + math.log10(training.c)])  # log₁₀(1 + βc)
        share = 10**-bent
        first = _LOG2 + math.log10(training.c) + lip + moved
        second = math.log10(training.T) + largest
        spread = bent - math.log10(training.n - 1)
        # 0·∞ where a chain of one layer has no curvature at all
        head = share * first if share > 0 else 0.0
        return spread + head + (1 - share) * second
