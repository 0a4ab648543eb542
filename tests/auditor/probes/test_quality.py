from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import auditor
from auditor.attributions import Custom
from auditor.evaluation import Evaluator
from auditor.probes.quality import ATTACKED, OF_MAPS, OF_MORE_MAPS, groups_of, quality, unavailable
from auditor.probes.subject import Subject
from auditor.records import Key
from tests.auditor.conftest import network

EVERYTHING = (*OF_MAPS, *OF_MORE_MAPS, ATTACKED)


def subject(held_out, count: int = 3, **changes) -> Subject:
    x = held_out[0][:count]
    settings = {"target": held_out[1][:count], "images": tuple(range(count)), "k": 10, "seed": 0}
    return Subject(x=x, **settings | changes)


def measured(model, images: Subject, **changes):
    settings = {
        "sigmas": (0.0, 0.1),
        "samples": 2,
        "groups": ("sparseness", "infidelity squares", "sensitivity"),
        "smoothed_groups": ("sparseness", "infidelity squares"),
    }
    return quality(Evaluator(model=model, batch=64), images, **settings | changes)


def test_the_gradient_of_a_linear_model_is_the_perfect_explanation(held_out):
    model = nn.Sequential(nn.Flatten(), nn.Linear(144, 10)).requires_grad_(False)
    found = measured(model, subject(held_out), groups=EVERYTHING, smoothed_groups=EVERYTHING[:4])
    for sigma in (0.0, 0.1):
        for name in ("infd_squares", "infd_noisy_baseline", "infd_scaled_squares"):
            values = found[Key(probe="quality", metric=name, sigma=sigma)]
            # Float32 logits of about 1: squared differences of rounding errors
            np.testing.assert_allclose(values, 0, atol=1e-11)
    for name in ("sens_max", "sens_attack"):
        values = found[Key(probe="quality", metric=name, sigma=0.0)]
        np.testing.assert_allclose(values, 0, atol=1e-6)


def test_what_is_asked_for_is_measured_and_nothing_else(held_out, classifier):
    found = measured(classifier, subject(held_out))
    by_sigma = {sigma: {key.metric for key in found if key.sigma == sigma} for sigma in (0.0, 0.1)}
    shared = {"gini", "infd_squares", "infd_scaled_squares", "sampled"}
    assert by_sigma == {0.0: shared | {"sens_max", "sens_max_unit"}, 0.1: shared}


def test_forward_passes_of_the_infidelity_are_shared_by_all_sigma(held_out, classifier):
    images = subject(held_out)
    costs = []
    for sigmas in ((0.0,), (0.0, 0.1, 0.3)):
        evaluator = Evaluator(model=classifier, batch=64, probe="quality")
        quality(
            evaluator,
            images,
            sigmas=sigmas,
            samples=1,
            groups=("infidelity squares",),
            smoothed_groups=("infidelity squares",),
        )
        costs.append(evaluator.meter.forwards["quality"])
    # one forward pass more for the logits of each smoothed map
    assert costs[1] - costs[0] == 2 * len(images.x)


def test_skipped_perturbations_are_counted(held_out, classifier):
    found = measured(classifier, subject(held_out, 6), groups=("SSIM under noise",))
    skipped = {k.partner: v for k, v in found.items() if k.metric == "skipped"}
    assert set(skipped)  # noise of .2 changes the prediction of some digit
    for reason, counts in skipped.items():
        assert reason.startswith("SSIM under noise: the prediction changed")
        assert ((counts >= 0) & (counts <= 5)).all()


def test_another_explanation_is_judged_by_the_same_metrics(held_out, classifier):
    def upside_down(model, x, target):
        return -x

    own = Custom(function=upside_down, name="own")
    found = measured(classifier, subject(held_out, method=own))
    gini = found[Key(probe="quality", metric="gini", sigma=0.0)]
    x = np.sort(held_out[0][:3].flatten(1).double().numpy(), axis=1)
    d = x.shape[1]
    weights = (d - np.arange(1, d + 1) + 0.5) / d
    np.testing.assert_allclose(gini, 1 - 2 * (x * weights).sum(1) / x.sum(1), rtol=1e-6)


def test_metrics_that_a_model_cannot_have_are_named():
    small = nn.Sequential(nn.Conv2d(1, 3, 8), nn.Flatten()).requires_grad_(False)
    found = unavailable(Evaluator(model=small, batch=4), torch.rand(2, 1, 8, 8))
    assert set(found) == {"RRS", "SSIM under noise"}
    assert found["RRS"] == "the network calls no linear layer."
    assert unavailable(Evaluator(model=network(), batch=4), torch.rand(2, 1, 12, 12)) == {}


def test_groups_of_metrics():
    assert groups_of(["gini", "log10_ris", "ros"]) == {"sparseness", "relative stability"}


@pytest.mark.parametrize("metric", ["gini", "sens_max"])
def test_a_profile_can_decide_on_quality(metric, images, classifier, tiny, tmp_path):
    text = (auditor.engine.Path(__file__).parents[3] / "profiles" / "debugging.toml").read_text()
    comparison = "<=" if metric == "sens_max" else ">="
    text += (
        f'\n[[criteria]]\nname = "quality"\ntitle = "Quality"\nprobe = "quality"\n'
        f'metric = "{metric}"\ncomparison = "{comparison}"\nbound = 0.5\nbecause = "a judgment"\n'
    )
    profile = tmp_path / "own.toml"
    profile.write_text(text)
    result = auditor.audit(classifier, images, profile=profile, **tiny)
    for sigma in (0.0, 0.05, 0.2):
        (found,) = result.find(probe="quality", metric=metric, sigma=sigma)
        # every image but the misclassified one, although an audit usually takes a sample
        assert found.estimate.n == 11
        assert dict(found.excluded) == {"misclassified": 1}
    (criterion,) = (c for c in result.recommendation.criteria if c.name == "quality")
    assert criterion.status == "inconclusive"  # twelve images decide nothing
    assert criterion.screen is not None
