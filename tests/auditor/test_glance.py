"""A glance measures maps alone, and its answer is never called a recommendation."""

from __future__ import annotations

import dataclasses

import pytest

import auditor
from auditor.cli import exit_code
from auditor.errors import InputError
from auditor.glance import marked, provisional
from auditor.plan import make_plan
from profiles import available, load_profile
from reports import sentences


@pytest.fixture(scope="module")
def glanced(classifier, held_out):
    x, _ = held_out
    labels = classifier(x[:64]).argmax(dim=1)
    return auditor.audit(
        classifier,
        auditor.from_arrays(x[:64], labels),
        effort="glance",
        sigmas=(0.01, 0.03, 0.3),
        samples=32,
    )


def test_a_glance_measures_the_maps_alone(glanced):
    assert {m.probe for m in glanced.measurements} == {"smoothing", "control"}
    assert glanced.epsilons == ()
    assert {cost.probe for cost in glanced.costs} == {"smoothing", "control"}


def test_its_sigma_is_provisional_wherever_it_appears(glanced):
    answer = glanced.recommendation
    assert (answer.verdict, answer.sigma) == ("provisional", 0.03)
    assert [c.status for c in answer.criteria] == ["pass"]
    assert "Provisional" in sentences.verdict(glanced)
    assert "Provisional" in sentences.sigma_facts(glanced)[0][0]
    assert any("survive the worst attack found: not run" in r for r in answer.reasons)
    assert "--effort standard" in answer.advice[0]
    assert exit_code(glanced) == 1


@pytest.mark.parametrize("name", available())
def test_only_what_was_measured_is_asked_for(name):
    left = provisional(load_profile(name))
    assert {q.probe for q in (left.objective, *left.criteria)} == {"smoothing"}
    assert left.sha256 == load_profile(name).sha256


def test_other_verdicts_stay(glanced):
    lost = dataclasses.replace(glanced.recommendation, verdict="no_sigma", sigma=None)
    assert marked(lost, profile=load_profile("compliance")).verdict == "no_sigma"


@pytest.mark.parametrize(
    ("changed", "words"),
    [({"epsilons": (4.0,)}, "no attack"), ({"twins": True}, "no twin")],
    ids=["epsilon", "twin"],
)
def test_what_a_glance_cannot_use_is_refused(classifier, twin, images, changed, words):
    if "twins" in changed:
        changed = {"twins": [twin]}
    with pytest.raises(InputError, match=words):
        make_plan(classifier, images, effort="glance", **changed)
