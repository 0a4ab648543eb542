from __future__ import annotations

import torch

from auditor.attributions import SHOWN, Noise, SimpleGrad, Smoothed
from auditor.evaluation import Evaluator
from auditor.perturbations import SquareRemoval
from auditor.quality.infidelity import Infidelity
from auditor.quality.radius_sweep import radius_sweep
from auditor.quality.sensitivity import Sensitivity

IMAGES = (0, 1, 2, 3, 4, 5)
INFD = Infidelity(perturbation=SquareRemoval(seed=0, smallest=1, largest=5), draws=40)
SENS = Sensitivity(seed=0, draws=5)


def smoothed(sigma: float) -> Smoothed:
    return Smoothed(method=SimpleGrad(), sigma=sigma, samples=16, noise=Noise(seed=0, stream=SHOWN))


def test_equals_the_metrics_one_by_one(model, pictures, target):
    evaluator = Evaluator(model=model, batch=96)
    found = radius_sweep(
        evaluator,
        smoothed,
        (0.0, 0.1, 0.3),
        pictures,
        target,
        images=IMAGES,
        infidelity=INFD,
        sensitivity=SENS,
    )
    assert list(found) == [0.0, 0.1, 0.3]
    for sigma, (unfaithful, sensitive) in found.items():
        method = smoothed(sigma)
        maps, _ = method(evaluator, pictures, target, images=IMAGES, draw=0)
        alone = INFD(evaluator, maps, pictures, target, images=IMAGES)
        for name, value in alone.values.items():
            torch.testing.assert_close(unfaithful.values[name], value)
        alone = SENS(evaluator, method, pictures, target, images=IMAGES)
        torch.testing.assert_close(sensitive.values["sens_max"], alone.values["sens_max"])


def test_smoothing_lowers_the_sensitivity(evaluator, pictures, target):
    found = radius_sweep(
        evaluator,
        smoothed,
        (0.0, 0.1, 0.3),
        pictures,
        target,
        images=IMAGES,
        infidelity=INFD,
        sensitivity=SENS,
    )
    means = [sensitive.values["sens_max"].mean() for _, sensitive in found.values()]
    assert means[0] > means[1] > means[2]  # S4 Figure 6


def test_infidelity_of_all_radii_takes_one_pass(model, pictures, target):
    evaluator = Evaluator(model=model, batch=96)
    radius_sweep(
        evaluator,
        lambda radius: SimpleGrad(),
        (0.0, 0.1, 0.3),
        pictures,
        target,
        images=IMAGES,
        infidelity=INFD,
        sensitivity=SENS,
    )
    assert evaluator.meter.forwards == {"audit": 6 * 41}
    assert evaluator.meter.gradients == {"audit": 3 * 6 * (1 + 5)}
