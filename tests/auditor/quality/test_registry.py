from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from auditor.attributions import SimpleGrad
from auditor.evaluation import Evaluator
from auditor.quality import (
    METRICS,
    AttackedSensitivity,
    Infidelity,
    NoiseSsim,
    NoisyBaseline,
    RelativeStability,
    Road,
    RobustInfidelity,
    Scores,
    Sensitivity,
    SquareRemoval,
    sparseness,
)

IMAGES = (4, 9)


@pytest.fixture(scope="module")
def measured(model: nn.Module, pictures: Tensor, target: Tensor) -> dict[str, tuple[Scores, float]]:
    """Every metric with its default settings on two images: scores, and gradients an image."""
    x, c, method = pictures[:2], target[:2], SimpleGrad()
    maps, _ = Evaluator(model=model, batch=64).gradients(x, c)
    settings = {"images": IMAGES}

    def cost(run) -> tuple[Scores, float]:
        evaluator = Evaluator(model=model, batch=64)
        scores = run(evaluator)
        spent = evaluator.meter.gradients.get("audit", 0)
        return scores, (spent + evaluator.meter.forwards.get("audit", 0) / 3) / 2

    noise, squares = NoisyBaseline(seed=0), SquareRemoval(seed=0, smallest=1, largest=10)
    of_maps = {
        "infidelity noisy_baseline": Infidelity(perturbation=noise),
        "infidelity squares": Infidelity(perturbation=squares),
        "ROAD": Road(seed=0),
    }
    of_methods = {
        "robust infidelity noisy_baseline": RobustInfidelity(perturbation=noise, seed=0),
        "robust infidelity squares": RobustInfidelity(perturbation=squares, seed=0),
        "sensitivity": Sensitivity(seed=0),
        "attacked sensitivity": AttackedSensitivity(seed=0),
        "relative stability": RelativeStability(seed=0),
        "SSIM under noise": NoiseSsim(seed=0),
    }
    found = {"sparseness": cost(lambda _: sparseness(maps))}
    for group, metric in of_maps.items():
        found[group] = cost(lambda e, metric=metric: metric(e, maps, x, c, **settings))
    for group, metric in of_methods.items():
        found[group] = cost(lambda e, metric=metric: metric(e, method, x, c, maps=maps, **settings))
    return found


def test_every_value_has_a_record_and_every_record_a_value(measured):
    units = {}
    for scores, _ in measured.values():
        units |= scores.units
        for value in scores.values.values():
            assert value.shape == (2,)
            assert value.dtype == torch.float64
    assert units == {name: metric.unit for name, metric in METRICS.items()}


def test_groups_are_those_that_are_measured_together(measured):
    for group, (scores, _) in measured.items():
        assert set(scores.values) == {m.name for m in METRICS.values() if m.group == group}


def test_costs_are_what_is_booked(measured):
    for metric in METRICS.values():
        spent, told = measured[metric.group][1], metric.gradients()
        # Copies that change the prediction are not explained; the attack keeps some for the choice.
        assert 0.7 * told <= spent <= told + 1e-9


def test_records_are_complete():
    for metric in METRICS.values():
        assert metric.formula
        assert metric.source
        assert "\n" not in metric.formula
    assert METRICS["road_morf"].gradients() == 20
    assert METRICS["sens_max"].gradients(of_a_map=50) == 2500


def test_names_and_units_must_match():
    with pytest.raises(ValueError, match="differ"):
        Scores(values={"a": torch.zeros(1)}, units={})
