"""Deciding again: the same profile gives the same answer, others say what they lack."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from auditor.again import answer, decide_again, missing, of_every_profile, with_answer
from auditor.cli import cli
from auditor.engine import audit
from auditor.results import AuditResult
from profiles import available, load_profile


def test_the_declared_profile_decides_again_as_the_audit_did(audited):
    assert decide_again(audited, load_profile("compliance")) == audited.recommendation


def test_every_audit_says_what_the_other_profiles_would_choose(audited):
    named = {a.name: a for a in audited.other_profiles}
    assert set(named) == set(available()) - {"compliance"}
    assert all(a.decided == "" for a in named.values())
    for name, found in named.items():
        again = decide_again(audited, load_profile(name))
        assert (found.verdict, found.sigma) == (again.verdict, again.sigma)


def test_missing_names_the_quantity_its_size_and_the_sigmas(audited, classifier, images, tiny):
    lines = missing(audited, load_profile("debugging"))
    assert "attack topk_intersection at ε = 2/255, σ = 0.05, 0.2" in lines
    assert [line for line in missing(audited, load_profile("compliance")) if "topk" in line] == []
    alone = audit(classifier, images, **tiny)
    assert "twin normalized_stability_error" in missing(alone, load_profile("discovery"))


def test_every_profile_tried_is_recorded_once_for_each_time(audited):
    tried = with_answer(audited, load_profile("debugging"), decided="2026-01-01T00:00:00+00:00")
    twice = with_answer(tried, load_profile("debugging"), decided="2026-01-02T00:00:00+00:00")
    assert [name for name, _, _ in twice.profile.tried] == ["compliance", "debugging", "debugging"]
    answers = [a for a in twice.other_profiles if a.name == "debugging"]
    assert [a.decided for a in answers] == ["2026-01-02T00:00:00+00:00"]
    assert twice.recommendation == audited.recommendation, "the declared verdict stays"
    assert of_every_profile(audited) == audited.other_profiles
    assert answer(audited, load_profile("debugging")) in audited.other_profiles


@pytest.fixture
def finished(audited, tmp_path):
    (tmp_path / "audit.json").write_text(audited.to_json())
    return tmp_path


def invoke(*arguments):
    return CliRunner().invoke(cli, ["sigma", *map(str, arguments)], standalone_mode=False)


def test_the_command_decides_records_and_seals(finished):
    result = invoke(finished, "--profile", "debugging")
    assert (result.exception, result.return_value) == (None, 1)
    assert max(map(len, result.output.splitlines())) <= 80
    assert "inconclusive" in result.output
    assert "ε = 2/255" in result.output
    assert "Profiles tried on this run: 2" in result.output
    stored = AuditResult.load(finished)  # refuses a file that does not fit its seal
    assert [name for name, _, _ in stored.profile.tried] == ["compliance", "debugging"]


def test_the_command_prints_json(finished):
    result = invoke(finished, "--profile", "discovery", "--json", "--exit-zero")
    assert result.return_value == 0
    assert json.loads(result.output)["profile"] == "discovery"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [(["--profile", "optimism"], "Known profiles"), (["--profile", "clinical"], "no audit.json")],
    ids=["profile", "run"],
)
def test_bad_input_is_refused(tmp_path, arguments, words):
    result = invoke(tmp_path, *arguments)
    assert words in str(result.exception)
    assert list(tmp_path.iterdir()) == []
