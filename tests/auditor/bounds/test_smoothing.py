from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.optimize import linprog
from scipy.stats import norm

from auditor.bounds.smoothing import (
    bounded,
    cosine_limit,
    crossover,
    lipschitz,
    longest_map,
    probability_drift,
)
from auditor.errors import InputError

# Second derivative of f_σ in a direction u is E[f(x + σz)(t² − 1)]/σ², t = u·z, and only the mean
# of f given t matters: the largest one is a linear program over functions of one variable.
T = np.linspace(-8, 8, 1601)
WEIGHT = norm.pdf(T) * (T[1] - T[0])


def largest_curvature(*, mean: float | None = None, low: float = -1.0, high: float = 1.0) -> float:
    """Numerical maximum of |E f(t)(t² − 1)| over low ≤ f ≤ high, with a given mean if any."""
    cost = WEIGHT * (T**2 - 1)
    equality = {} if mean is None else {"A_eq": WEIGHT[None], "b_eq": [mean]}
    best = 0.0
    for sign in (1, -1):
        found = linprog(sign * cost, bounds=(low, high), method="highs", **equality)
        best = max(best, -found.fun)
    return best


def test_the_sharp_constant_of_bounded_functions_is_the_numerical_maximum():
    assert bounded(1.0, 1.0) == pytest.approx(largest_curvature(), rel=1e-3)
    assert bounded(1.0, 1.0) == pytest.approx(0.968, abs=1e-3)
    assert bounded(0.5, 1.0) == pytest.approx(largest_curvature(low=0.0), rel=1e-3)
    assert bounded(3.0, 0.1, sharp=False) == pytest.approx(600)
    assert bounded(3.0, 0.1) < bounded(3.0, 0.1, sharp=False)


def test_the_sharp_constant_of_lipschitz_functions_is_the_numerical_maximum():
    """E f(t)(t² − 1) = E f′(t)·t, so the slope f′, within [−1, 1], is what is chosen."""
    found = linprog(-WEIGHT * T, bounds=(-1, 1), method="highs")
    assert lipschitz(1.0, 1.0) == pytest.approx(-found.fun, rel=1e-3)
    assert lipschitz(2.0, 0.5) == pytest.approx(0.798 * 4, rel=1e-3)
    assert lipschitz(2.0, 0.5, sharp=False) == 4


def test_the_longest_map_is_the_numerical_maximum():
    found = linprog(-WEIGHT * T, bounds=(0, 1), method="highs")
    assert longest_map(0.5, 1.0) == pytest.approx(-found.fun, rel=1e-3)
    # Where the bound passes twice the longest map it says nothing: ρ = 1.65 σ.
    assert 2 * longest_map(0.5, 1.0) / bounded(0.5, 1.0) == pytest.approx(1.649, abs=1e-3)


@pytest.mark.parametrize("mean", [0.002, 0.05, 0.2, 0.3173, 0.5, 0.8, 0.99])
def test_the_constant_at_a_probability_is_the_numerical_maximum(mean):
    s = torch.tensor([mean], dtype=torch.float64)
    # The slope at radius → 0 is the curvature at the image.
    found = probability_drift(s, s, radius=1e-6, sigma=1.0).item() / 1e-6
    assert found == pytest.approx(largest_curvature(mean=mean, low=0.0), rel=3e-3)


@pytest.mark.parametrize("mean", [0.001, 0.02, 0.3, 0.5, 0.9, 0.9999])
@pytest.mark.parametrize("sigma", [0.1, 2.0])
def test_the_drift_bound_holds_for_half_spaces_and_slabs(mean, sigma):
    """Functions whose smoothed form is known: p_σ(x + tσu) = Φ(c + t), and a slab of it."""
    s = torch.tensor([mean], dtype=torch.float64)
    a = float(norm.ppf(mean / 2))

    def slab(t: np.ndarray) -> np.ndarray:  # derivative of P(|z + t| > |a|)
        return norm.pdf(-a - t) - norm.pdf(a - t)

    slopes = [
        lambda t: norm.pdf(norm.ppf(mean) + t),
        slab,
        lambda t: norm.pdf(norm.ppf(1 - mean) + t),
    ]
    for radius in (0.1, 0.5, 1.0, 2.0):
        limit = probability_drift(s, s, radius=radius * sigma, sigma=sigma).item()
        t = np.linspace(-radius, radius, 201)
        for slope in slopes:
            moved = np.abs(slope(t) - slope(np.zeros(1))).max() / sigma
            assert moved <= limit * (1 + 1e-9)
        assert limit <= bounded(0.5, sigma) * radius * sigma * (1 + 1e-12)


def test_the_drift_bound_grows_with_radius_and_with_doubt():
    low, high = (torch.tensor([v], dtype=torch.float64) for v in (0.98, 0.99))
    values = [probability_drift(low, high, radius=r, sigma=0.1).item() for r in (0.01, 0.05, 0.1)]
    assert values == sorted(values)
    assert values[0] > probability_drift(high, high, radius=0.01, sigma=0.1).item()
    whole = torch.tensor([0.0]).double(), torch.tensor([1.0]).double()
    everything = probability_drift(*whole, radius=0.05, sigma=0.1).item()
    assert everything == pytest.approx(bounded(0.5, 0.1) * 0.05)


def test_the_cosine_limit_is_attained():
    """A map g moved by Kρ at a right angle to the result has the largest angle."""
    drift, size = torch.tensor([0.6], dtype=torch.float64), torch.ones(1).double()
    found = cosine_limit(drift, size).item()
    angles = np.linspace(0, 2 * np.pi, 100_001)
    moved = np.stack([1 + 0.6 * np.cos(angles), 0.6 * np.sin(angles)])
    assert found == pytest.approx(1 - (moved[0] / np.linalg.norm(moved, axis=0)).min(), abs=1e-6)
    assert math.isnan(cosine_limit(torch.ones(1), torch.ones(1)).item())


def test_crossover_of_proposition_2():
    assert crossover(0.25, 1.0, 4.0) == 0.25
    assert crossover(0.25, math.inf, 4.0) == math.inf
    assert crossover(0.25, 1.0, 0.0) == math.inf


@pytest.mark.parametrize("sigma", [0.0, -0.1, float("nan")])
def test_no_noise_no_bound(sigma):
    s = torch.tensor([0.5])
    for call in (
        lambda: bounded(1.0, sigma),
        lambda: lipschitz(1.0, sigma),
        lambda: longest_map(1.0, sigma),
        lambda: probability_drift(s, s, radius=0.1, sigma=sigma),
    ):
        with pytest.raises(InputError, match="sigma above 0"):
            call()
