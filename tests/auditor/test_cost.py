from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import nn

import auditor
from auditor.cost import FORWARD, Estimate, estimate, gradients, predict_costs
from auditor.evaluation import Evaluator
from auditor.plan import make_plan
from auditor.results import Cost
from auditor.settings import plan_settings
from profiles import load_profile


def predicted(plan) -> dict[str, Cost]:
    return {cost.probe: cost for cost in plan.estimate.costs}


class Stubborn(nn.Module):
    """A network that always predicts class 0: no image loses its label."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x):
        return self.network(x) + torch.tensor([100.0] + [0.0] * 9)


@pytest.mark.parametrize("twins", [0, 1])
@pytest.mark.parametrize(
    "changes", [{}, {"samples": 20, "budget": 200}, {"sigmas": (0.02, 0.05, 0.1, 0.2)}], ids=str
)
def test_the_forecast_is_an_upper_bound_within_a_tenth(
    networks, twin, held_out, tiny, changes, twins
):
    model = auditor.from_network(Stubborn(networks[0]), input_shape=(1, 12, 12))
    images = auditor.from_arrays(held_out[0][:8])
    settings = tiny | changes
    partners = [twin][:twins]
    forecast = predicted(make_plan(model, images, twins=partners, **settings))
    result = auditor.audit(model, images, twins=partners, **settings)
    assert {cost.probe for cost in result.costs} == set(forecast)
    # Repeating the attacks behind a verdict is in the forecast, but eight images reach none.
    unspent = {"attack": _doubled(result)}
    for spent in result.costs:
        bound = gradients([forecast[spent.probe]]) - unspent.get(spent.probe, 0)
        assert 0.9 * bound <= gradients([spent]) <= bound + 1e-9, spent.probe


def _doubled(result) -> float:
    """What repeating an attack with twice the budget costs, counted by hand."""
    value = {setting.name: setting.value for setting in result.settings}
    search, select = int(value["search_samples"]), int(value["select_samples"])
    # A step looks at two maps and at one label, booked as one gradient more.
    steps = int((2 * int(value["smooth_budget"]) - 4 * select - search) / (2 * search + 1))
    # Candidates: three of the pool, the last iterate, the transferred one; three maps to measure,
    # and two clean ones.
    maps = (2 * steps + 1) * search + 5 * select + 5 * result.samples
    looks = 3 * steps + 1 + 5 + 3 + 3
    return len(result.images.names) * (maps + FORWARD * looks)


def test_labels_that_get_lost_cost_little_more(classifier, held_out, tiny):
    images = auditor.from_arrays(held_out[0][:8])
    forecast = predicted(make_plan(classifier, images, **tiny))["attack"]
    result = auditor.audit(classifier, images, **tiny)
    attack = next(cost for cost in result.costs if cost.probe == "attack")
    bound = gradients([forecast]) - _doubled(result)
    assert 0.9 * bound <= gradients([attack]) <= 1.1 * bound


def test_misclassified_images_cost_less_than_announced(classifier, twin, images, tiny, audited):
    plan = make_plan(classifier, images, twins=[twin], **tiny)
    spent = {cost.probe: cost for cost in audited.costs}
    assert gradients([spent["attack"]]) < gradients([predicted(plan)["attack"]])
    same = gradients([spent["twin"]])
    assert same == pytest.approx(gradients([predicted(plan)["twin"]]))


def test_the_forecast_counts_what_is_asked():
    settings, _ = plan_settings(
        effort="quick", profile=load_profile("compliance"), input_shape=(1, 28, 28), origin="x"
    )

    def total(images=10, twins=1, classes=10, ensembles=0, **changes):
        left_out = {"transfer_images": 0, "quality_images": 0, "bound_images": 0}
        changed = dataclasses.replace(settings, **left_out, **changes)
        counts = {"images": images, "twins": twins, "classes": classes, "ensembles": ensembles}
        return gradients(predict_costs(changed, **counts))

    # The gallery is the only part that does not grow with the images.
    sigmas = len(settings.sigmas)
    gallery = 6 * (2 + 2 * (sigmas - 1) * settings.samples + 2 * (sigmas - 1) * FORWARD)
    assert total(images=20) - gallery == pytest.approx(2 * (total() - gallery))
    assert total(twins=2) > total() > total(twins=0)
    # Of each ensemble three images, two members, unsmoothed and smoothed.
    pairs = 3 * 2 * (1 + settings.samples + FORWARD)
    assert total(ensembles=2) - total() == pytest.approx(2 * pairs)
    # Up to 20 classes take a gradient each, and Lanczos as many whatever their number.
    assert total(classes=1000) == total(classes=21) > total(classes=20) > total(classes=2)
    for name in ("samples", "budget", "smooth_budget", "select_samples"):
        assert total(**{name: 2 * getattr(settings, name)}) > total(), name


def test_time_and_memory_come_from_a_few_batches(classifier, twin, held_out, monkeypatch):
    seen: list[int] = []
    run = nn.Module.__call__

    def counted(self, x):
        if self in (classifier, twin):
            seen.append(len(x))
        return run(self, x)

    monkeypatch.setattr(type(classifier), "__call__", counted)
    settings, _ = plan_settings(
        effort="quick", profile=load_profile("compliance"), input_shape=(1, 12, 12), origin="x"
    )
    found = estimate(
        settings,
        x=held_out[0][:3],
        images=64,
        models=[Evaluator(model=model, batch=8) for model in (classifier, twin)],
        classes=10,
    )
    assert isinstance(found, Estimate)
    assert seen == [1, 8, 8, 8] * 2  # a warm-up and three full batches of each model
    assert 0 < found.seconds < 600  # an audit of this network is a matter of seconds
    # PyTorch alone takes over 100 MiB; a unit gone wrong would be off by a factor of 1,024.
    assert 100 < found.memory_mib < 20_000


def test_a_slow_twin_is_charged_to_the_twin_probe(classifier, held_out, monkeypatch):
    settings, _ = plan_settings(
        effort="quick", profile=load_profile("compliance"), input_shape=(1, 12, 12), origin="x"
    )
    pace = {"own": 1e-3, "twin": 1e-1}
    monkeypatch.setattr("auditor.cost._seconds_per_gradient", lambda e, _: pace[e.probe])
    models = [Evaluator(model=classifier, batch=8, probe=probe) for probe in ("own", "twin")]
    found = estimate(settings, x=torch.zeros(1), images=8, models=models, classes=10)
    twin = [cost for cost in found.costs if cost.probe == "twin"]
    rest = [cost for cost in found.costs if cost.probe != "twin"]
    assert found.seconds == pytest.approx(gradients(rest) * 1e-3 + gradients(twin) * 1e-1)
