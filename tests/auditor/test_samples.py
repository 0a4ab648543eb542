from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch

import auditor
from auditor import samples
from auditor.attributions import SimpleGrad
from auditor.errors import InputError
from auditor.evaluation import Evaluator
from auditor.plan import make_plan
from auditor.probes.smoothing import map_error
from auditor.probes.subject import CleanMaps, Subject, clean_maps
from auditor.results import AuditResult
from auditor.samples import IMAGES, auto_samples, pilot
from auditor.settings import plan_settings
from profiles import load_profile

NOTHING = "so the effort's number"


def subject(count: int = 2) -> Subject:
    return Subject(
        x=torch.zeros(count, 1, 2, 2),
        target=torch.zeros(count, dtype=torch.int64),
        images=tuple(range(count)),
        k=1,
        seed=0,
    )


@pytest.fixture
def falling(monkeypatch):
    """Map errors that follow c/√n, or any rule, at each σ; what was asked is written down."""
    asked: list[tuple[float, int]] = []

    def install(rules) -> list[tuple[float, int]]:
        def explain(evaluator, subject, *, sigma, samples):
            asked.append((sigma, samples))
            rule = rules[sigma]
            error = rule(samples) if callable(rule) else rule / math.sqrt(samples)
            shown = torch.ones(len(subject.x), 1, 2, 2, dtype=torch.float64)
            move = error * math.sqrt(2) / 2
            return CleanMaps(
                shown=(1 + move) * shown, fresh=(1 - move) * shown, kept=torch.ones(len(subject.x))
            )

        monkeypatch.setattr(samples, "clean_maps", explain)
        return asked

    return install


@pytest.mark.parametrize(
    ("rules", "found", "reason"),
    [
        ({0.1: 0.28}, 8, "map error 9.9% at σ = 0.1"),
        ({0.1: 0.29}, 16, "map error 7.2% at σ = 0.1"),
        ({0.1: 0.5, 0.2: 1.0}, 128, "map error 8.8% at σ = 0.2"),
        ({0.1: 1.0, 0.2: 0.5}, 128, "map error 8.8% at σ = 0.1"),
        ({0.1: 0.5, 0.2: 0.45}, 32, "map error 8.8% at σ = 0.1"),  # as many: the larger error
        ({0.1: 1.98}, 400, "map error 9.9% at σ = 0.1"),
        (
            {0.1: 0.5, 0.2: 2.1, 0.3: 50.0},
            32,
            "map error 8.8% at σ = 0.1; not within 10% with 400 draws at σ = 0.2, 0.3",
        ),
        ({0.1: 2.1}, 77, f"not within 10% with 400 draws at any σ, {NOTHING}"),
        ({0.1: lambda n: math.nan}, 77, f"not within 10% with 400 draws at any σ, {NOTHING}"),
        ({}, 77, f"nothing is smoothed, {NOTHING}"),
    ],
    ids=lambda value: str(value).partition(" at 0x")[0],
)
def test_the_rule(falling, rules, found, reason):
    falling(rules)
    result = pilot(
        Evaluator(model=torch.nn.Flatten(), batch=8), subject(), sigmas=(0.0, *rules), usual=77
    )
    assert (result.samples, result.reason) == (found, reason)
    assert result.words == f"{found} (auto: {reason})"


def test_draws_are_doubled_up_to_the_most(falling):
    asked = falling({0.1: 1.99})
    pilot(Evaluator(model=torch.nn.Flatten(), batch=8), subject(), sigmas=(0.0, 0.1), usual=77)
    assert [n for _, n in asked] == [8, 16, 32, 64, 128, 256, 400]


@pytest.mark.parametrize(
    ("rule", "tried"),
    [
        (2.1, [8]),  # c/√400 > .1: told by the first
        (lambda n: 0.15, [8, 16, 32, 64, 128, 256]),  # what does not fall is told when it is late
        (lambda n: math.nan, [8]),
    ],
)
def test_what_cannot_be_reached_is_given_up_early(falling, rule, tried):
    asked = falling({0.1: rule})
    pilot(Evaluator(model=torch.nn.Flatten(), batch=8), subject(), sigmas=(0.0, 0.1), usual=77)
    assert [n for _, n in asked] == tried


def settings(**given):
    return plan_settings(
        effort="quick",
        profile=load_profile("compliance"),
        input_shape=(1, 12, 12),
        origin="python",
        **given,
    )[0]


def test_the_number_found_suffices_and_half_of_it_does_not(classifier, held_out):
    """Measured again on other images with other noise."""
    images = auditor.from_arrays(held_out[0][:80])
    evaluator = Evaluator(model=classifier, batch=256)
    found = auto_samples(
        evaluator, images, settings(sigmas=(0.3,)), target="predicted", method=SimpleGrad()
    )
    assert evaluator.meter.gradients == {}  # booked under a probe of its own
    assert found.gradients == sum(2 * IMAGES * n for n in (8, 16, 32, 64) if n <= found.samples)

    def median(n: int) -> float:
        x = held_out[0][80:180]
        images = Subject(
            x=x, target=classifier(x).argmax(dim=1), images=tuple(range(100)), k=5, seed=3
        )
        maps = clean_maps(evaluator, images, sigma=0.3, samples=n)
        return map_error(maps.shown, maps.fresh).median().item()

    assert 8 < found.samples <= 64
    # A median of 8 images decided; its standard error is near a tenth.
    assert median(found.samples) < 0.1 * 1.15
    assert median(found.samples // 2) > 0.1 * 0.85


@pytest.mark.parametrize(("count", "rows"), [(3, [0, 1, 2]), (80, [0, 10, 20, 30, 40, 50, 60, 70])])
@pytest.mark.parametrize("target", ["predicted", "label", 4])
def test_images_are_spread_and_explained_as_in_the_audit(
    monkeypatch, classifier, held_out, count, rows, target
):
    seen = []

    def watch(evaluator, subject, *, sigma, samples):
        seen.append(subject)
        return clean_maps(evaluator, subject, sigma=sigma, samples=samples)

    monkeypatch.setattr(samples, "clean_maps", watch)
    x, labels = held_out[0][:count], (held_out[1][:count] + 1) % 10
    auto_samples(
        Evaluator(model=classifier, batch=64),
        auditor.from_arrays(x, labels),
        settings(sigmas=(0.05,)),
        target=target,
        method=SimpleGrad(),
    )
    expected = {
        "predicted": classifier(x[rows]).argmax(dim=1),
        "label": labels[rows],
        4: torch.full((len(rows),), 4),
    }
    assert torch.equal(seen[0].x, x[rows])
    assert seen[0].images == tuple(rows)
    assert torch.equal(seen[0].target, expected[target])
    assert seen[0].seed != settings().seed  # other noise than that of the maps it is for


def test_an_audit_takes_the_number_and_books_the_pilot(classifier, images, tiny, tmp_path):
    asked = tiny | {"samples": "auto"}
    plan = make_plan(classifier, images, **asked)
    assert plan.settings.samples == plan.pilot.samples
    rows = {row.name: row for row in plan.origins}
    assert rows["samples"].value == plan.pilot.words
    assert rows["samples"].origin == rows["select_samples"].origin == "python"
    assert rows["select_samples"].value == str(max(1, plan.pilot.samples // 3))
    assert any(plan.pilot.words in note for note in plan.notes)
    result = auditor.audit(classifier, images, run=tmp_path / "run", **asked)
    assert result.samples == result.recommendation.samples == plan.pilot.samples
    (cost,) = [cost for cost in result.costs if cost.probe == "pilot"]
    assert (cost.gradients, cost.forwards) == (plan.pilot.gradients, plan.pilot.forwards)
    assert cost.gradients > 0
    assert 0 < result.timings["pilot"] < 60
    sigma = float(rows["samples"].value.partition("σ = ")[2].strip(")"))
    (measured,) = result.find(probe="smoothing", metric="map_error", sigma=sigma)
    # The audit's own noise and all of its images: a median of 8 decided.
    assert np.median(measured.values) < 0.1 * 1.2
    again = auditor.audit(classifier, images, run=tmp_path / "run", resume=True, **asked)
    assert again.measurements == result.measurements
    assert AuditResult.from_json(result.to_json()) == result


def test_a_number_of_ones_own_needs_no_pilot(classifier, images, tiny):
    plan = make_plan(classifier, images, **tiny)
    assert plan.pilot is None
    assert {row.name: row.value for row in plan.origins}["samples"] == str(tiny["samples"])


@pytest.mark.parametrize("wrong", ["many", "Auto", "", 2.5])
def test_other_words_are_refused(classifier, images, wrong):
    with pytest.raises(InputError, match="a number from 2, or auto") as caught:
        make_plan(classifier, images, samples=wrong)
    assert repr(wrong) in str(caught.value)


def line(*more: str) -> list[str]:
    return [
        "audit",
        *("--model", "net.py:network", "--weights", "model.safetensors"),
        *("--images", "few.npz", "--input-size", "12", "--mean", "0", "--std", "1"),
        *("--effort", "quick", "--sigma", "0.05,0.2", "--dry-run", *more),
    ]


def test_the_command_line_shows_what_was_found(run):
    code, out, _ = run(line("--samples", "auto", "--json"))
    assert code == 0
    (note,) = [note for note in json.loads(out)["notes"] if "auto" in note]
    assert "map error" in note
    assert "gradients" in note


@pytest.mark.parametrize("wrong", ["many", "1.5", "auto,8"])
def test_other_words_on_the_command_line_are_refused(run, wrong):
    code, _, err = run(line("--samples", wrong))
    assert code == 2
    assert f"--samples {wrong}: not understood. Write a number from 2, or auto." in err
