"""What another profile asks for is measured in a finished run, as its own audit would."""

from __future__ import annotations

import numpy as np
import pytest

import auditor
from auditor.again import missing
from auditor.results import AuditResult
from profiles import load_profile

MODEL = [
    *("--model", "net.py:network", "--weights", "model.safetensors", "--images", "few.npz"),
    *("--input-size", "1x12x12", "--mean", "0", "--std", "1"),
]
AUDIT = ["audit", *MODEL, "--run", "run", "--exit-zero", "--quiet"]
TINY = ["--effort", "quick", "--sigma", "0.2", "--samples", "6", "--budget", "120"]

BRIEF = """
name = "brief"
title = "Brief"
summary = "An attack and a metric of quality."
confidence = 0.9
[threat]
epsilon = 2
because = "A judgment."
[objective]
probe = "attack"
metric = "topk_intersection"
attack = "strongest"
direction = "maximize"
because = "A judgment."
[[criteria]]
name = "sparse"
title = "Sparseness"
probe = "quality"
metric = "gini"
comparison = ">="
bound = 0.1
because = "A judgment."
[gates]
map_present = 0.5
self_overlap = 0.1
label_kept = 0.5
reinitialized_margin = 0.9
because = "A judgment."
"""


def strongest(result: AuditResult, sigma: float) -> np.ndarray:
    (found,) = result.find(
        probe="attack", attack="strongest", metric="topk_intersection", sigma=sigma, epsilon=2.0
    )
    return np.array(found.values, dtype=float)


def test_a_glance_is_made_an_audit_of_what_a_profile_asks_for(run, here):
    (here / "brief.toml").write_text(BRIEF)
    profile = load_profile(here / "brief.toml")
    code, _, err = run([*AUDIT, "--effort", "glance", "--sigma", "0.2", "--samples", "6"])
    assert code == 0, err
    before = AuditResult.load(here / "run")
    assert "attack topk_intersection at ε = 2/255" in missing(before, profile)
    _, out, _ = run(["sigma", "run", "--profile", "brief.toml"])
    assert "--measure adds them" in out
    assert AuditResult.load(here / "run").measurements == before.measurements
    code, out, err = run(["sigma", "run", "--profile", "brief.toml", "--measure"])
    assert (code, err) == (1, ""), "twelve images are inconclusive"
    assert "Not measured in this run" not in out
    after = AuditResult.load(here / "run")
    assert missing(after, profile) == ()
    assert after.recommendation == before.recommendation, "the declared verdict stays"
    assert all(m in after.measurements for m in before.measurements)
    added = {m.probe for m in after.measurements} - {m.probe for m in before.measurements}
    assert added == {"attack", "quality"}
    assert {m.metric for m in after.find(probe="quality")} == {"gini"}
    assert (strongest(after, 0.0)[np.isfinite(strongest(after, 0.0))] < 1).any()
    spent = {cost.probe: cost.gradients for cost in after.costs}
    assert spent["attack"] > 0
    tasks = sorted((here / "run" / "tasks").iterdir())
    written = [task.stat().st_mtime_ns for task in tasks]
    run(["sigma", "run", "--profile", "brief.toml", "--measure"])
    again = AuditResult.load(here / "run")
    assert again.measurements == after.measurements
    assert [task.stat().st_mtime_ns for task in tasks] == written, "nothing is measured twice"


def test_only_the_run_s_own_model_and_images_add_to_it(run, here):
    code, _, err = run([*AUDIT, "--effort", "glance", "--sigma", "0.2", "--samples", "6"])
    assert code == 0, err
    (here / "model.safetensors").unlink()
    (here / "model.safetensors").symlink_to(here / "twin.safetensors")
    text = (here / "run" / "audit.json").read_text()
    code, _, err = run(["sigma", "run", "--profile", "debugging", "--measure"])
    assert code == 2
    assert "cannot be added to" in err
    assert (here / "run" / "audit.json").read_text() == text


@pytest.mark.slow
def test_an_attack_that_was_added_is_that_of_the_profile_s_own_audit(
    run, here, classifier, held_out
):
    code, _, err = run([*AUDIT, *TINY])
    assert code == 0, err
    run(["sigma", "run", "--profile", "debugging", "--measure"])
    added = AuditResult.load(here / "run")
    x, labels = held_out[0][:12], held_out[1][:12]
    own = auditor.audit(
        classifier,
        auditor.from_arrays(x, labels),
        profile="debugging",
        effort="quick",
        sigmas=(0.2,),
        samples=6,
        budget=120,
    )
    for sigma in (0.0, 0.2):
        np.testing.assert_allclose(strongest(added, sigma), strongest(own, sigma), atol=1e-6)
