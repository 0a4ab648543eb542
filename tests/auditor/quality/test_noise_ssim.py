from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from skimage.metrics import structural_similarity
from torch import Tensor

from auditor.attributions import SimpleGrad
from auditor.evaluation import Evaluator
from auditor.perturbations import GaussianNoise
from auditor.quality.noise_ssim import NoiseSsim
from auditor.quality.scores import CHANGED, NO_DRAW, NOT_FINITE, ZERO_MAP

IMAGES = (0, 1, 2, 3, 4, 5)
GRADIENT = SimpleGrad()


def picture(map_: Tensor) -> np.ndarray:
    """The visual view by numpy: clipped at the 99th percentile, scaled to [0, 1]."""
    m = map_.abs().sum(dim=0).double().numpy()
    return (np.clip(m, m.min(), np.percentile(m, 99)) - m.min()) / (np.percentile(m, 99) - m.min())


def test_equals_scikit_image_on_the_draws_that_keep_the_prediction(
    evaluator, pictures, target, maps
):
    settings = NoiseSsim(seed=2, stds=(0.1, 0.4), draws=6)
    found = settings(evaluator, GRADIENT, pictures, target, images=IMAGES)
    for std in settings.stds:
        y = GaussianNoise(seed=2, std=std).draw(pictures, IMAGES, first=0, count=6)
        kept = torch.zeros(6, dtype=torch.long)
        for row in range(6):
            values = []
            moved, logits = evaluator.gradients(y[row], target[row].repeat(6))
            for other, logit in zip(moved, logits, strict=True):
                if logit.argmax() == target[row]:
                    kept[row] += 1
                    values.append(
                        structural_similarity(
                            picture(maps[row]),
                            picture(other),
                            gaussian_weights=True,
                            sigma=1.5,
                            use_sample_covariance=False,
                            data_range=1,
                        )
                    )
            value = found.values[f"ssim_noise_{std:g}"][row].item()
            if values:
                # Float32 gradients of other batches.
                assert value == pytest.approx(np.mean(values), abs=1e-4)
            else:
                assert np.isnan(value)
        assert found.skipped[f"{CHANGED}, std {std:g}"].equal(6 - kept)
    assert found.skipped[f"{CHANGED}, std 0.4"].sum() > 0


def test_without_noise_nothing_changes(evaluator, pictures, target):
    found = NoiseSsim(seed=2, stds=(0.0,), draws=2)(
        evaluator, GRADIENT, pictures, target, images=IMAGES
    )
    torch.testing.assert_close(
        found.values["ssim_noise_0"], torch.ones(6).double(), rtol=0, atol=1e-5
    )


def test_the_standard_deviations_are_those_of_the_definition(evaluator, pictures, target):
    found = NoiseSsim(seed=2, draws=1)(evaluator, GRADIENT, pictures, target, images=IMAGES)
    assert list(found.values) == [f"ssim_noise_{std}" for std in (0.02, 0.05, 0.1, 0.2)]


@given(st.integers(1, 40), st.lists(st.integers(0, 5), min_size=1, max_size=6, unique=True))
def test_batches_and_company_do_not_matter(model, pictures, target, batch, rows):
    settings = NoiseSsim(seed=2, stds=(0.1,), draws=3)
    whole = settings(Evaluator(model=model, batch=42), GRADIENT, pictures, target, images=IMAGES)
    part = settings(
        Evaluator(model=model, batch=batch),
        GRADIENT,
        pictures[rows],
        target[rows],
        images=[IMAGES[row] for row in rows],
    )
    torch.testing.assert_close(
        part.values["ssim_noise_0.1"],
        whole.values["ssim_noise_0.1"][rows],
        rtol=0,
        atol=1e-4,  # float32 gradients of other batches
        equal_nan=True,
    )


def test_skipped_copies_are_not_explained(model, pictures, target):
    evaluator = Evaluator(model=model, batch=16)
    settings = NoiseSsim(seed=2, stds=(0.4,), draws=6)
    found = settings(evaluator, GRADIENT, pictures, target, images=IMAGES)
    (skipped,) = (n.sum().item() for name, n in found.skipped.items() if CHANGED in name)
    assert evaluator.meter.gradients == {"audit": 6 + 36 - skipped}
    assert evaluator.meter.forwards == {"audit": 6 + 36}


def test_images_without_a_value_are_counted(evaluator, pictures, target, maps):
    maps = maps.clone()
    maps[0], maps[1, 0, 0, 0] = 0, torch.nan
    found = NoiseSsim(seed=2, stds=(0.01,), draws=1)(
        evaluator, GRADIENT, pictures, target, images=IMAGES, maps=maps
    )
    assert found.undefined[ZERO_MAP].tolist() == [True] + [False] * 5
    assert found.undefined[NOT_FINITE].tolist() == [False, True] + [False] * 4
    assert found.undefined[NO_DRAW].tolist() == [True, True] + [False] * 4
    assert found.values["ssim_noise_0.01"].isnan().tolist() == [True, True] + [False] * 4


def test_maps_smaller_than_the_window_are_not_applicable(evaluator):
    x = torch.rand(2, 1, 10, 30)
    found = NoiseSsim(seed=2)(evaluator, GRADIENT, x, torch.zeros(2).long(), images=(0, 1))
    assert found.values == {}
    assert len(found.unavailable) == 4
    assert all("smaller than the window" in reason for reason in found.unavailable.values())
