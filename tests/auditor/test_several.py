"""Several methods in one audit: the best pair of method and σ, and what becomes of the others."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

import auditor
from auditor.errors import InputError
from auditor.history import history
from auditor.results import AuditResult, Estimate
from auditor.several import best_option, choose_method
from reports import render, summary_table

LINEAR = """
import torch
from torch import nn


def make():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(144, 10))
"""
AUDIT = [
    *("audit", "--model", "linear.py:make", "--images", "plain.npz", "--input-size", "1x12x12"),
    *("--mean", "0", "--std", "1", "--effort", "glance", "--sigma", "0.1", "--samples", "4"),
    *("--run", "run", "--exit-zero", "--quiet"),
]


def result_of(audited: AuditResult, found: dict[float, tuple[str, float]], *, price=1, verdict=""):
    """An audit with a status and a mean objective at each σ."""
    first = audited.recommendation.options[0]
    options = tuple(
        dataclasses.replace(
            first,
            sigma=sigma,
            status=status,
            on_front=True,
            objective=Estimate(mean=mean, low=mean, high=mean, n=30, confidence=0.95),
        )
        for sigma, (status, mean) in found.items()
    )
    return dataclasses.replace(
        audited,
        samples=10,
        explanation=dataclasses.replace(audited.explanation, price=price),
        recommendation=dataclasses.replace(
            audited.recommendation, options=options, verdict=verdict or "recommended"
        ),
    )


GOOD, BAD = "admissible", "rejected"


@pytest.mark.parametrize(
    ("a", "b", "minimize", "chosen"),
    [
        ({0.1: (GOOD, 0.5)}, {0.2: (GOOD, 0.4)}, True, "b"),
        ({0.1: (GOOD, 0.5)}, {0.2: (GOOD, 0.4)}, False, "a"),
        ({0.1: (GOOD, 0.5)}, {0.1: (BAD, 0.1), 0.2: (GOOD, 0.6)}, True, "a"),
        ({0.1: (BAD, 0.1)}, {0.2: (GOOD, 0.9)}, True, "b"),
        ({0.1: (GOOD, 0.5)}, {0.0: (GOOD, 0.5)}, True, "b"),  # the same for one gradient, not ten
    ],
    ids=["smaller", "larger", "rejected σ", "rejected method", "cheaper"],
)
def test_the_best_pair_on_the_screening_half_is_chosen(audited, a, b, minimize, chosen):
    results = {"a": result_of(audited, a), "b": result_of(audited, b)}
    assert choose_method(results, minimize=minimize) == chosen


def test_a_pair_that_fails_its_confirmation_is_not_replaced(audited):
    failed = result_of(audited, {0.1: (GOOD, 0.1)}, verdict="no_sigma")
    other = result_of(audited, {0.1: (GOOD, 0.2)})
    assert choose_method({"failed": failed, "other": other}, minimize=True) == "failed"


def test_without_any_admissible_pair_the_most_open_verdict_is_shown(audited):
    hopeless = result_of(audited, {0.1: (BAD, 0.1)}, verdict="no_sigma")
    still_open = result_of(audited, {0.1: (BAD, 0.2)}, verdict="inconclusive")
    results = {"hopeless": hopeless, "open": still_open}
    assert choose_method(results, minimize=True) == "open"
    assert best_option(hopeless, minimize=True) is None


def test_one_command_audits_all_and_says_which_cannot_be(run, here, held_out):
    (here / "linear.py").write_text(LINEAR)
    np.savez(here / "plain.npz", x=held_out[0][:12].numpy())
    line = [*AUDIT, "--method", "simple_grad", "--method", "grad_cam", "--method=grad_x_input"]
    code, _, err = run(line)
    assert code == 0, err
    result = AuditResult.load(here / "run")
    answers = {m.name: m for m in result.methods}
    assert list(answers) == ["simple_grad", "grad_x_input", "grad_cam"]
    assert answers["grad_cam"].verdict == "not applicable"
    assert answers["grad_cam"].reason
    assert [m.name for m in result.methods if m.chosen] == [result.explanation.name]
    for name in ("simple_grad", "grad_x_input"):
        own = AuditResult.load(here / "run" / "methods" / name)
        assert (own.explanation.name, own.methods) == (name, ())
        assert answers[name].verdict == own.recommendation.verdict
        if answers[name].chosen:
            assert own.measurements == result.measurements
        # Its own command audits it again: nothing differs from what is on disk.
        code, out, _ = run(["verify", f"run/methods/{name}", "--inputs"])
        assert "inputs: same" in out, out
    assert render(result).startswith(b"%PDF")
    assert summary_table(result).row_count > 5
    assert [entry.run for entry in history(here / "run")] == [here / "run"]
    code, out, _ = run(["status", "run"])
    assert (code, out.count("finished")) == (0, 2)
    code, out, _ = run(["status", "run", "--json"])
    assert {name: s["state"] for name, s in json.loads(out).items()} == {
        "simple_grad": "finished",
        "grad_x_input": "finished",
    }
    code, _, err = run(["verify", "run", "--inputs"])
    assert code == 2
    assert "run/methods/grad_x_input" in err
    written = (here / "run" / "audit.json").read_bytes()
    code, _, err = run([*line, "--resume"])
    assert code == 0, err
    assert (here / "run" / "audit.json").read_bytes() == written


@pytest.mark.parametrize(
    ("methods", "words"),
    [
        ([], "none is given"),
        (["simple_grad", "simple_grad"], "given twice"),
        (["simple_grad", "clairvoyance"], "clairvoyance"),
    ],
    ids=["none", "twice", "unknown"],
)
def test_methods_that_cannot_be_audited_together(classifier, images, tmp_path, methods, words):
    with pytest.raises(InputError, match=words):
        auditor.audit_methods(classifier, images, methods, run=tmp_path / "run")
    assert not (tmp_path / "run").exists()
