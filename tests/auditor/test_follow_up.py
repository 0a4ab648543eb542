"""What is checked at a recommended σ, and what becomes of the recommendation."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

import auditor
from auditor import follow_up
from auditor.again import decide_again
from auditor.cost import gradients
from auditor.engine import execute
from auditor.evidence import Evidence
from auditor.follow_up import (
    draws_again,
    draws_as_measured,
    enough_draws,
    gates_again,
    judge_planted,
    with_follow_up,
)
from auditor.plan import make_plan
from auditor.results import AuditResult, FollowUp, Gate, Measurement
from auditor.store import RunFolder
from profiles import load_profile


@pytest.mark.parametrize(
    ("error", "needed"), [(0.1, 50), (0.2, 200), (0.05, 13), (0.0, 2), (0.11, 61)]
)
def test_the_error_of_a_map_falls_like_the_root_of_the_draws(error, needed):
    assert enough_draws(error, samples=50) == needed


@pytest.mark.parametrize(
    ("sigma", "error", "samples", "words"),
    [
        (0.0, 0.0, 1, "takes no noise draws"),
        (0.1, 0.1, 50, "10.0% of its norm."),
        (0.1, 0.05, 50, "13 would reach 10%"),
        (0.1, 0.5, 50, "about 1250 would reach 10%"),
    ],
    ids=["unsmoothed", "as many", "fewer", "too many"],
)
def test_the_draws_of_the_audit_stay(sigma, error, samples, words):
    found = draws_as_measured(error, sigma=sigma, samples=50)
    assert (found.samples, found.remeasured, found.gates) == (samples, None, ())
    assert words in found.samples_reason


def gate(passed: bool) -> Gate:
    return Gate(
        name="g", title="A gate", value=0.5, comparison=">=", limit=0.4, passed=passed, reason=""
    )


@pytest.mark.parametrize(
    ("passed", "samples", "error", "words"),
    [(True, 200, 0.1, "are met"), (False, 50, 0.2, "(A gate): keep to 50")],
)
def test_more_draws_are_recommended_only_if_the_gates_are_met_with_them(
    passed, samples, error, words
):
    found = draws_again(0.2, 0.1, (gate(passed),), samples=50, more=200, images=32)
    assert (found.samples, found.map_error) == (samples, error)
    assert (found.remeasured, found.images, len(found.gates)) == (200, 32, 1)
    assert words in found.samples_reason


def measured(probe, metric, sigma, values, partner=None) -> Measurement:
    return Measurement(
        probe=probe,
        metric=metric,
        unit="ratio",
        values=tuple(values),
        estimate=None,
        sigma=sigma,
        partner=partner,
    )


def test_gates_are_judged_on_the_images_measured_again():
    nothing = [None, None]  # images that were not measured again
    records = [
        measured("smoothing", "norm_ratio", 0.1, [*nothing, 0.5, 0.5]),
        measured("smoothing", "self_overlap", 0.1, [*nothing, 0.9, 0.6]),
        measured("smoothing", "label_kept", 0.1, [*nothing, 1.0, 1.0]),
        measured("control", "topk_intersection", 0.1, [*nothing, 0.1, 0.1], "control"),
    ]
    evidence = Evidence(
        measurements=(), screen=(2, 3), confirm=(), height=12, width=12, chance=0.1, seed=0
    )
    found = gates_again(records, load_profile("compliance"), evidence, sigma=0.1)
    by_name = {g.name: g for g in found}
    assert by_name["self_overlap"].value == pytest.approx(0.75)
    assert [g.name for g in found if g.passed is not True] == ["self_overlap"]
    assert "half" not in by_name["self_overlap"].reason


@pytest.mark.parametrize(
    ("shares", "outcome"),
    [
        (np.linspace(0.7, 1.0, 20), "found"),
        (np.linspace(0.3, 0.7, 20), "not found"),
        (np.linspace(0.1, 0.3, 20), "not found"),
        ([0.9] * 9 + [None] * 11, "not checked"),
        ([None] * 20, "not checked"),
    ],
    ids=["clear", "chance", "wrong half", "few", "none"],
)
def test_planted_evidence_is_found_when_the_limit_is_above_chance(shares, outcome):
    records = [measured("planted", "planted_topk", s, shares) for s in (0.0, 0.1)]
    found, words = judge_planted(records, sigma=0.1, confidence=0.95, seed=0)
    assert found == outcome
    assert ("without smoothing" in words) == (outcome != "not checked")


def test_a_sigma_whose_map_does_not_find_it_is_not_recommended(audited: AuditResult):
    answer = dataclasses.replace(audited.recommendation, verdict="recommended", sigma=0.05)
    checked = FollowUp(
        sigma=0.05,
        samples=6,
        samples_reason="",
        map_error=0.1,
        planted="not found",
        planted_reason="52% of the top pixels.",
    )
    spoiled = with_follow_up(answer, checked)
    assert (spoiled.verdict, spoiled.sigma) == ("inconclusive", None)
    assert "52%" in spoiled.reasons[0]
    for planted in ("found", "not checked"):
        assert with_follow_up(answer, dataclasses.replace(checked, planted=planted)) == answer


EASY = """
name = "easy"
title = "Easy"
summary = "Any map that stays near the plain one."
confidence = 0.9
[threat]
epsilon = 2
because = "A judgment."
[objective]
probe = "twin"
metric = "normalized_stability_error"
direction = "minimize"
because = "A judgment."
[[criteria]]
name = "fidelity"
title = "Distance from the unsmoothed map"
probe = "smoothing"
metric = "normalized_fidelity_error"
comparison = "<="
bound = 5.0
because = "A judgment."
[gates]
map_present = 0.5
self_overlap = 0.1
label_kept = 0.5
reinitialized_margin = 0.9
because = "A judgment."
"""


def test_an_audit_that_recommends_checks_its_recommendation(
    classifier, twin, held_out, tmp_path, monkeypatch
):
    x, run, profile = held_out[0][:62], tmp_path / "run", tmp_path / "easy.toml"
    profile.write_text(EASY)
    images = auditor.from_arrays(x)
    asked = {"effort": "quick", "sigmas": (0.2,), "epsilons": (2,), "samples": 6, "budget": 60}
    monkeypatch.setattr(follow_up, "LESSONS", 1200)
    plan = make_plan(classifier, images, profile=profile, twins=[twin], **asked)
    result = execute(plan, RunFolder.check(run, resume=False), command="x")
    assert result.recommendation.verdict == "recommended"
    (checked,) = result.follow_ups
    assert (checked.sigma, checked.planted) == (0.2, "found")
    (share,) = result.find(probe="planted", metric="planted_topk", sigma=0.2)
    assert share.chance == 0.5
    assert share.estimate.mean > 0.6
    # Six draws leave an error of more than a tenth: with more the gates were measured again.
    assert checked.remeasured > 6
    assert checked.samples == result.recommended_samples == checked.remeasured
    (before,) = result.find(probe="smoothing", metric="map_error", sigma=0.2)
    assert checked.map_error < before.estimate.mean
    assert {g.name for g in checked.gates} == {g.name for g in result.recommendation.gates}
    spent = {cost.probe: gradients([cost]) for cost in result.costs}
    forecast = {cost.probe: gradients([cost]) for cost in plan.estimate.costs}
    assert 0 < spent["follow_up"] <= forecast["follow_up"]
    assert AuditResult.load(run) == result
    again = execute(plan, RunFolder.check(run, resume=True), command="x")
    assert again.follow_ups == result.follow_ups
    assert decide_again(result, load_profile(profile)) == result.recommendation
