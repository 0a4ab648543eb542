"""Models whose right σ is known in closed form: the decision finds it, or that there is none.

A map g(x) = w + A·sin(ω·x + φ), pixel by pixel, is a signal with a ripple of wavelength 2π/ω;
averaged over noise of width σ it is w + A·exp(−ω²σ²/2)·sin(ω·x + φ). Twins share the signal w and
differ in the phases φ: smoothing takes away exactly what they do not share.
"""

from __future__ import annotations

import numpy as np
import pytest

from auditor.glance import provisional
from auditor.results import Measurement
from auditor.sigma import recommend
from profiles import load_profile

SIGMAS = (0.0, 0.01, 0.02, 0.04, 0.08, 0.16)
IMAGES, PIXELS, SIDE = 64, 144, 12
OMEGA = 50.0  # the ripple is gone from σ = .06 on: exp(−(50·.06)²/2) = .011


def maps(x, w, phase, *, ripple, sigma):
    """Closed form of the smoothed maps, (images, pixels)."""
    left = np.exp(-((OMEGA * sigma) ** 2) / 2)
    return w + ripple * left * np.sin(OMEGA * x + phase)


def audit(*, seed, ripple, shared=True):
    """Records of an audit with a twin; no draw is needed, for the means are exact."""
    rng = np.random.default_rng(seed)
    x = rng.uniform(size=(IMAGES, PIXELS))
    signal = rng.normal(size=PIXELS)
    other = signal if shared else rng.normal(size=PIXELS)
    phases = rng.uniform(0, 2 * np.pi, size=(2, PIXELS))
    records = []

    def book(probe, metric, sigma, values, partner=None):
        records.append(
            Measurement(
                probe=probe,
                metric=metric,
                unit="ratio",
                values=tuple(float(v) for v in np.broadcast_to(values, IMAGES)),
                estimate=None,
                sigma=sigma,
                partner=partner,
            )
        )

    plain = maps(x, signal, phases[0], ripple=ripple, sigma=0.0)
    for sigma in SIGMAS:
        own = maps(x, signal, phases[0], ripple=ripple, sigma=sigma)
        twin = maps(x, other, phases[1], ripple=ripple, sigma=sigma)
        size = np.linalg.norm(own, axis=1).mean()
        stability = np.linalg.norm(own - twin, axis=1) / size
        book("twin", "normalized_stability_error", sigma, stability, "twin")
        fidelity = np.linalg.norm(own - plain, axis=1) / size
        book("smoothing", "normalized_fidelity_error", sigma, fidelity)
        ratio = np.linalg.norm(own, axis=1) / np.linalg.norm(plain, axis=1)
        book("smoothing", "norm_ratio", sigma, ratio)
        book("smoothing", "self_overlap", sigma, 1.0)
        book("smoothing", "label_kept", sigma, 1.0)
        book("control", "topk_intersection", sigma, 0.05, "control")
    return records


def decide(records, profile):
    return recommend(
        measurements=records,
        sigmas=SIGMAS,
        samples=50,
        profile=profile,
        screen=range(32),
        confirm=range(32, 64),
        chance=0.02,
        std=(),
        seed=0,
        input_shape=(1, SIDE, SIDE),
    )


@pytest.mark.parametrize("seed", range(6))
def test_a_ripple_is_smoothed_away_and_no_further_sigma_is_told_apart(seed):
    found = decide(audit(seed=seed, ripple=1.0), load_profile("discovery"))
    assert found.verdict == "recommended"
    assert found.sigma >= 0.08
    assert found.equivalent == (0.08, 0.16), "σ beyond the ripple's wavelength are equally good"


def test_for_a_linear_model_every_sigma_is_right_and_none_is_the_cheapest():
    found = decide(audit(seed=0, ripple=0.0), provisional(load_profile("debugging")))
    assert (found.verdict, found.sigma) == ("recommended", 0.0)
    assert found.equivalent == SIGMAS


def test_where_smoothing_cannot_help_there_is_no_sigma():
    found = decide(audit(seed=0, ripple=0.0, shared=False), load_profile("discovery"))
    assert (found.verdict, found.sigma) == ("no_sigma", None)
    assert any("misses" in reason for reason in found.reasons)
    assert found.advice
