from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from captum.metrics import sensitivity_max
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from auditor.attributions import SHOWN, Noise, SimpleGrad, Smoothed
from auditor.evaluation import Evaluator
from auditor.perturbations import UniformNoise
from auditor.quality.attacked_sensitivity import AttackedSensitivity
from auditor.quality.scores import NO_DRAW, NOT_FINITE, ZERO_MAP
from auditor.quality.sensitivity import VANISHED, Sensitivity

IMAGES = (0, 1, 2, 3, 4, 5)
GRADIENT = SimpleGrad()


class Formula:
    """A method whose maps are a formula of the image; the logits are zero."""

    name = "formula"

    def __init__(self, formula) -> None:
        self.formula = formula

    def __call__(
        self, evaluator: Evaluator, x: Tensor, target: Tensor, *, images: Sequence[int], draw: int
    ) -> tuple[Tensor, Tensor]:
        return self.formula(x), torch.zeros(len(x), 2)


def test_agrees_with_captum_on_shared_draws(evaluator, pictures, target):
    settings = Sensitivity(seed=5, draws=20)
    y = UniformNoise(seed=5, radius=0.1, clip=True).draw(pictures, IMAGES, first=0, count=20)

    def explain(x: tuple[Tensor, ...], target: Tensor) -> tuple[Tensor, ...]:
        return (evaluator.gradients(x[0], target)[0],)

    theirs = sensitivity_max(
        explain, pictures, lambda x: (y.flatten(0, 1),), n_perturb_samples=20, target=target
    )
    found = settings(evaluator, GRADIENT, pictures, target, images=IMAGES)
    # Float32 gradients of other batches.
    torch.testing.assert_close(found.values["sens_max"], theirs.double(), rtol=1e-4, atol=1e-5)


def test_closed_forms():
    x = torch.full((2, 1, 3, 3), 0.5)
    x[1] = 0.05  # half of the draws are clipped at black
    target = torch.zeros(2, dtype=torch.long)
    evaluator = Evaluator(model=nn.Identity(), batch=100)
    y = UniformNoise(seed=0, radius=0.1, clip=True).draw(x, (0, 1), first=0, count=50)
    assert y.min() == 0
    found = Sensitivity(seed=0)(evaluator, Formula(lambda x: x), x, target, images=(0, 1))
    far = (y - x[:, None]).flatten(2).norm(dim=2).amax(dim=1) / x.flatten(1).norm(dim=1)
    torch.testing.assert_close(found.values["sens_max"], far.double(), rtol=1e-5, atol=0)
    # A map that only grows keeps its direction, one that turns around is at distance 2.
    grown = Formula(lambda x: x.amax(dim=(1, 2, 3), keepdim=True).expand_as(x))
    found = Sensitivity(seed=0)(evaluator, grown, x, target, images=(0, 1))
    assert (found.values["sens_max"] > 0.1).all()
    assert found.values["sens_max_unit"].max() < 1e-6
    turned = Formula(lambda x: torch.sign(x[:, :, :1, :1] - 0.5 + 1e-9).expand_as(x))
    found = Sensitivity(seed=0)(evaluator, turned, x[:1], target[:1], images=(0,))
    for value in found.values.values():
        assert value.item() == pytest.approx(2)


@given(st.integers(1, 40), st.lists(st.integers(0, 5), min_size=1, max_size=6, unique=True))
def test_batches_and_company_do_not_matter(model, pictures, target, batch, rows):
    settings = Sensitivity(seed=5, draws=7)
    whole = settings(Evaluator(model=model, batch=42), GRADIENT, pictures, target, images=IMAGES)
    part = settings(
        Evaluator(model=model, batch=batch),
        GRADIENT,
        pictures[rows],
        target[rows],
        images=[IMAGES[row] for row in rows],
    )
    for name, value in whole.values.items():
        # Float32 gradients of other batches; no kink is crossed.
        torch.testing.assert_close(part.values[name], value[rows], rtol=1e-4, atol=1e-5)


def test_clean_maps_may_be_given_and_evaluations_are_booked(model, pictures, target):
    evaluator = Evaluator(model=model, batch=32)
    settings = Sensitivity(seed=5, draws=7)
    first = settings(evaluator, GRADIENT, pictures, target, images=IMAGES)
    assert evaluator.meter.gradients == {"audit": 6 * 8}
    clean, _ = evaluator.gradients(pictures, target)
    again = settings(evaluator, GRADIENT, pictures, target, images=IMAGES, maps=clean)
    assert evaluator.meter.gradients == {"audit": 6 * 8 + 6 + 6 * 7}
    assert again.values["sens_max"].equal(first.values["sens_max"])


def test_smoothing_uses_common_noise(evaluator, pictures, target):
    noise = Noise(seed=0, stream=SHOWN)
    smoothed = Smoothed(method=GRADIENT, sigma=0.2, samples=4, noise=noise)
    still = Sensitivity(seed=5, draws=2, radius=0.0)
    found = still(evaluator, smoothed, pictures, target, images=IMAGES)
    assert found.values["sens_max"].max() < 1e-5  # not the noise of the map


def test_what_cannot_be_compared_is_counted():
    x = torch.full((3, 1, 2, 2), 0.5)
    x[1], x[2] = 0.25, 0.75
    target, evaluator = torch.zeros(3, dtype=torch.long), Evaluator(model=nn.Identity(), batch=7)

    def formula(x: Tensor) -> Tensor:
        """Zero for image 1; beside image 0 often zero; beside image 2 never finite."""
        first = x[:, :1, :1, :1]
        maps = torch.where((first > 0.6) & (first != 0.75), torch.nan, x)
        maps = torch.where(first < 0.4, 0.0, maps)
        return torch.where((first > 0.4) & (first < 0.5), 0.0, maps)

    settings = Sensitivity(seed=0, draws=10, radius=0.1)
    found = settings(evaluator, Formula(formula), x, target, images=(0, 1, 2))
    y = UniformNoise(seed=0, radius=0.1, clip=True).draw(x[:1], (0,), first=0, count=10)
    below = int((y[0, :, 0, 0, 0] < 0.5).sum())
    assert 0 < below < 10
    assert found.skipped[VANISHED].tolist() == [below, 10, 0]
    assert found.skipped[NOT_FINITE].tolist() == [0, 0, 10]
    assert found.values["sens_max"][0] == 1  # the map vanished
    assert found.values["sens_max"].isnan().tolist() == [False, True, True]
    assert found.values["sens_max_unit"].isnan().tolist() == [False, True, True]
    assert found.undefined[ZERO_MAP].tolist() == [False, True, False]
    assert found.undefined[NO_DRAW].tolist() == [False, True, True]


def test_the_attack_beats_the_draws(evaluator, pictures, target):
    drawn = Sensitivity(seed=5)(evaluator, GRADIENT, pictures, target, images=IMAGES)
    evaluator.meter.gradients.clear()
    attack = AttackedSensitivity(seed=5, budget=60)
    found = attack(evaluator, GRADIENT, pictures, target, images=IMAGES)
    assert evaluator.meter.gradients["audit"] <= 6 * (60 + 2)
    assert (found.values["sens_attack"] > drawn.values["sens_max"]).all()
    # What it claims is there: inside ball and box, and as far from the clean map as it says.
    y, clean = found.details["worst_image"], evaluator.gradients(pictures, target)[0]
    assert (y - pictures).abs().max() <= 0.1 + 1e-6
    assert y.min() >= 0
    assert y.max() <= 1
    moved, logits = evaluator.gradients(y, target)
    far = (moved - clean).flatten(1).norm(dim=1) / clean.flatten(1).norm(dim=1)
    torch.testing.assert_close(found.values["sens_attack"].float(), far)
    assert found.details["label_lost"].equal(logits.argmax(dim=1) != target)


def test_the_attack_may_lose_the_label(evaluator, pictures, target):
    found = AttackedSensitivity(seed=5, radius=0.4, budget=40)(
        evaluator, GRADIENT, pictures, target, images=IMAGES
    )
    assert found.details["label_lost"].any()
    assert found.values["sens_attack"].isfinite().all()


def test_the_attack_on_a_smoothed_map_is_measured_with_noise_it_did_not_see(
    evaluator, pictures, target
):
    noise = Noise(seed=0, stream=SHOWN)
    smoothed = Smoothed(method=GRADIENT, sigma=0.1, samples=4, noise=noise)
    settings = {"images": IMAGES[:2], "sigma": 0.1, "samples": 4}
    x, target = pictures[:2], target[:2]
    drawn = Sensitivity(seed=5, draws=10)(evaluator, smoothed, x, target, images=IMAGES[:2])
    found = AttackedSensitivity(seed=5, budget=200)(evaluator, smoothed, x, target, **settings)
    assert (found.values["sens_attack"] > drawn.values["sens_max"]).all()
    y = found.details["worst_image"]
    moved, clean = (smoothed(evaluator, at, target, images=IMAGES[:2], draw=0)[0] for at in (y, x))
    far = (moved - clean).flatten(1).norm(dim=1) / clean.flatten(1).norm(dim=1)
    torch.testing.assert_close(found.values["sens_attack"].float(), far, rtol=1e-4, atol=0)


def test_the_attack_has_no_value_where_there_is_no_clean_map(evaluator, pictures, target):
    clean, _ = evaluator.gradients(pictures, target)
    clean[0] = 0
    found = AttackedSensitivity(seed=5, budget=20)(
        evaluator, GRADIENT, pictures, target, images=IMAGES, maps=clean
    )
    assert found.values["sens_attack"].isnan().tolist() == [True] + [False] * 5
    assert found.undefined[ZERO_MAP].tolist() == [True] + [False] * 5


def test_an_image_whose_map_is_broken_everywhere_else_has_no_value():
    x, target = torch.full((2, 1, 3, 3), 0.5), torch.zeros(2, dtype=torch.long)
    x[1] = 0.3

    def formula(x: Tensor) -> Tensor:
        still = (x == 0.5).flatten(1).all(dim=1).reshape(-1, 1, 1, 1)
        return torch.where(still | (x[:, :, :1, :1] < 0.4), x, torch.nan)

    found = AttackedSensitivity(seed=5, radius=0.05, budget=20)(
        Evaluator(model=nn.Identity(), batch=9), Formula(formula), x, target, images=(0, 1)
    )
    assert found.values["sens_attack"].isnan().tolist() == [True, False]
    assert found.undefined[NO_DRAW].tolist() == [True, False]


def test_a_budget_without_a_step_is_refused(evaluator, pictures, target):
    with pytest.raises(ValueError, match="too small"):
        AttackedSensitivity(seed=5, budget=1)(evaluator, GRADIENT, pictures, target, images=IMAGES)
