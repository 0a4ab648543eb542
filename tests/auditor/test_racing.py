"""Races on made-up records whose best σ is known."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from auditor.evidence import Evidence
from auditor.racing import FIRST, race
from auditor.results import Measurement
from profiles import load_profile

GRID = tuple(round(0.02 * i, 2) for i in range(17))
IMAGES = 32
PROFILE = load_profile("compliance")


def world(overlap, fidelity, *, seed=0, spread=0.05):
    """Records of all images at every σ, from functions of σ."""
    rng = np.random.default_rng(seed)
    image = rng.normal(size=IMAGES)  # what is common to an image at every σ
    truth = {
        ("attack", "topk_intersection", "strongest"): overlap,
        ("smoothing", "normalized_fidelity_error", None): fidelity,
        ("smoothing", "self_overlap", None): lambda s: 0.95,
        ("smoothing", "label_kept", None): lambda s: 0.99,
        ("smoothing", "norm_ratio", None): lambda s: 0.9,
        ("control", "topk_intersection", None): lambda s: 0.05,
    }
    found = []
    for (probe, metric, attack), mean in truth.items():
        for sigma in GRID:
            noise = spread * (image + 0.3 * rng.normal(size=IMAGES))
            values = (mean(sigma) + noise).clip(
                0, 1 if metric != "normalized_fidelity_error" else 9
            )
            found.append(
                Measurement(
                    probe=probe,
                    metric=metric,
                    unit="ratio",
                    values=tuple(map(float, values)),
                    estimate=None,
                    sigma=sigma,
                    attack=attack,
                    epsilon=4.0 if attack else None,
                    partner="control" if probe == "control" else None,
                )
            )
    return found


def run(records, **changes):
    """A race, and how many (stage, σ, image) it measured."""
    seen = set()

    def look(stage, sigma, rows):
        seen.update((stage, sigma, row) for row in rows)
        known = []
        for m in records:
            of = "attack" if m.probe == "attack" else "maps"
            values = tuple(v if (of, m.sigma, i) in seen else None for i, v in enumerate(m.values))
            if any(v is not None for v in values):
                known.append(dataclasses.replace(m, values=values))
        return Evidence(
            measurements=tuple(known),
            screen=rows,
            confirm=(),
            height=28,
            width=28,
            chance=20 / 784,
            seed=0,
        )

    options = {"grid": GRID, "screen": range(IMAGES), "profile": PROFILE}
    return race(look, **{**options, **changes}), seen


@pytest.mark.parametrize("best", [0.08, 0.1, 0.18, 0.24])
def test_the_best_sigma_of_the_fine_grid_is_a_finalist(best):
    records = world(lambda s: 0.85 - 2 * abs(s - best), lambda s: 0.4)
    found, seen = run(records)
    assert best in found.finalists
    assert len(found.finalists) < 7
    assert len(seen) < 2 * len(GRID) * IMAGES / 2, "half of the screening half is not needed"


def test_an_infeasible_side_is_dropped_for_its_criterion():
    found, _ = run(world(lambda s: 0.65 + s / 2, lambda s: 8 * s))
    assert found.dropped[0.32] == "criterion fidelity"
    assert 0.1 <= max(found.finalists) <= 0.14  # the limit of 1 is met up to .125


def test_nothing_survives_where_nothing_can():
    found, seen = run(world(lambda s: 0.1, lambda s: 0.4))
    assert found.finalists == ()
    assert set(found.dropped.values()) == {"criterion worst_case_overlap"}
    assert {row for _, _, row in seen} == set(range(FIRST))


def test_the_best_is_dropped_no_more_often_than_stated():
    """A flat top: the σ with the largest mean of the screening half must stay."""
    lost = 0
    repetitions = 20
    for seed in range(repetitions):
        records = world(lambda s: 0.75, lambda s: 0.4, seed=seed)
        found, _ = run(records, grid=GRID[:5])
        means = {
            m.sigma: np.mean(m.values)
            for m in records
            if m.probe == "attack" and m.sigma in GRID[:5]
        }
        lost += max(means, key=means.get) in found.dropped
    assert lost / repetitions <= found.error_rate
