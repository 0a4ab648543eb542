from __future__ import annotations

import dataclasses
import math
import re

import numpy as np
import pytest

from auditor.errors import InputError
from auditor.settings import EFFORTS, Settings, plan_settings, sigma_grid
from profiles import available, load_profile

SMALL, LARGE = (1, 28, 28), (3, 224, 224)


def plan(shape=SMALL, effort="quick", profile="compliance", **given):
    return plan_settings(
        effort=effort,
        profile=load_profile(profile),
        input_shape=shape,
        origin="command line",
        **given,
    )


@pytest.mark.parametrize("points", [6, 9, 13])
def test_the_grid_of_small_images_is_that_of_s0(points):
    # σ = t², t equally spaced from 0 to √0.3 (S0 Fig. 16); values are kept to three digits.
    t = [i * math.sqrt(0.3) / (points - 1) for i in range(points)]
    assert sigma_grid(points, large=False) == pytest.approx([v * v for v in t], rel=5e-3)


@pytest.mark.parametrize("points", [4, 7, 11])
def test_the_grid_of_large_images_is_even_in_log_sigma(points):
    first, *rest = sigma_grid(points, large=True)
    assert (first, rest[0], rest[-1], len(rest)) == (0, 0.0025, 0.3, points)
    # Each of two neighbors is rounded to three digits, at most by 0.2%.
    assert np.diff(np.log(rest)) == pytest.approx(math.log(120) / (points - 1), abs=0.01)


@pytest.mark.parametrize("effort", EFFORTS)
@pytest.mark.parametrize("profile", available())
def test_the_sizes_of_attacks_fit_the_images(effort, profile):
    small, _ = plan(SMALL, effort, profile)
    assert {2, 4, 8, 16} <= set(small.epsilons)
    assert 0.5 not in small.epsilons
    large, _ = plan(LARGE, effort, profile)
    assert {0.25, 0.5} <= set(large.epsilons)
    for settings in (small, large):
        assert set(settings.smooth_epsilons) <= set(settings.epsilons)
        assert list(settings.epsilons) == sorted(settings.epsilons)


@pytest.mark.parametrize("shape", [SMALL, LARGE])
def test_more_effort_is_more_of_everything(shape):
    quick, standard, thorough = (plan(shape, effort)[0] for effort in EFFORTS)
    for less, more in ((quick, standard), (standard, thorough)):
        assert len(less.sigmas) < len(more.sigmas)
        for name in ("samples", "budget", "smooth_budget"):
            assert getattr(less, name) < getattr(more, name)


def test_every_setting_is_listed_with_its_origin():
    settings, rows = plan()
    origins = {row.name: row.origin for row in rows}
    assert set(origins) == {"effort"} | {f.name for f in dataclasses.fields(Settings)}
    assert origins["effort"] == "command line"
    assert origins["sigmas"] == origins["samples"] == origins["smooth_budget"] == "effort"
    assert origins["smooth_epsilons"] == "profile"
    assert origins["k"] == origins["seed"] == "default"
    values = {row.name: row.value for row in rows}
    assert values["samples"] == str(settings.samples)
    assert values["sigmas"].startswith("0, ")


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("sigmas", (0.2, 0.1, 0.1), (0.0, 0.1, 0.2)),
        ("epsilons", (1,), (1.0, 4.0)),  # 4 is what the profile decides on
        ("samples", 7, 7),
        ("budget", 90, 90),
        ("k", 5, 5),
        ("seed", 11, 11),
    ],
)
def test_what_is_given_replaces_the_effort_alone(name, value, expected):
    usual, before = plan()
    settings, rows = plan(**{name: value})
    assert getattr(settings, name) == expected
    changed = {new.name for old, new in zip(before, rows, strict=True) if old.origin != new.origin}
    follow = {"budget": {"smooth_budget"}, "samples": {"select_samples", "bound_draws"}}
    assert changed == {name} | follow.get(name, set())
    assert {row.origin for row in rows if row.name in changed} == {"command line"}
    same = {f.name for f in dataclasses.fields(Settings)} - changed
    assert {n: getattr(settings, n) for n in same} == {n: getattr(usual, n) for n in same}


def test_budgets_of_both_attacks_grow_together():
    usual, twice = plan()[0], plan(budget=480)[0]
    assert (usual.budget, twice.budget) == (240, 480)
    assert twice.smooth_budget == 2 * usual.smooth_budget


def test_the_least_budget_is_enough():
    """What the message names is accepted, and one less is not."""
    with pytest.raises(InputError, match="smoothed maps of 50 draws: give at least") as caught:
        plan(budget=20)
    least = int(re.search(r"at least (\d+)", str(caught.value))[1])
    with pytest.raises(InputError):
        plan(budget=least - 2)
    plan(budget=least)


def test_few_samples_limit_the_draws_of_the_search():
    settings, rows = plan(samples=2)
    assert (settings.search_samples, settings.select_samples) == (2, 1)
    assert {r.origin for r in rows if r.name.endswith("samples")} == {"command line"}


@pytest.mark.parametrize(
    "given",
    [
        {"sigmas": (-0.1,)},
        {"sigmas": (1.1,)},
        {"sigmas": (math.nan,)},
        {"sigmas": ()},
        {"epsilons": (0,)},
        {"epsilons": (256,)},
        {"epsilons": (math.inf,)},
        {"epsilons": ()},
        {"samples": 1},
        {"budget": 0},
        {"budget": 30},
        {"k": 0},
        {"k": 28 * 28},
        {"seed": -1},
        {"seed": 2**63},
    ],
)
def test_out_of_range(given):
    with pytest.raises(InputError, match=next(iter(given))[:5]) as caught:
        plan(**given)
    assert len(str(caught.value).splitlines()) <= 2


def test_unknown_effort():
    with pytest.raises(InputError, match="quick, standard, thorough"):
        plan(effort="hasty")
