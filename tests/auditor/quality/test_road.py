from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from auditor.evaluation import Evaluator
from auditor.perturbations import NoisyBaseline
from auditor.quality.road import Curve, Road
from auditor.quality.scores import NOT_FINITE, ZERO_MAP

IMAGES = (0, 1, 2, 3, 4, 5)
ACCURATE = 5e-5  # see test_multigrid


def order_of(maps: Tensor) -> Tensor:
    return maps.abs().sum(dim=1).flatten(1).argsort(dim=1, descending=True, stable=True)


def colored(pictures: Tensor) -> Tensor:
    """Three different channels."""
    return torch.cat([pictures, pictures.flip(2), pictures.flip(3)], dim=1)


@pytest.mark.parametrize("peer", ["pytorch-grad-cam", "quantus"])
def test_imputation_without_noise_is_that_of_the_peers(peer, pictures, maps):
    """Both solve one sparse system for each image and share of pixels, directly."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from pytorch_grad_cam.metrics.road import NoisyLinearImputer
        from quantus.functions.perturb_func import noisy_linear_imputation
    x, order = colored(pictures), order_of(maps)
    ours = Road(seed=0, noise=0).impute(x, order, images=IMAGES)
    for row, step in ((0, 0), (1, 9), (2, 18)):
        removed = order[row, : (5 * step + 5) * 144 // 100]
        if peer == "quantus":
            theirs = noisy_linear_imputation(x[row].numpy(), removed.numpy(), noise=0)
        else:
            mask = torch.ones(144).index_fill_(0, removed, 0.0).reshape(12, 12)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                theirs = NoisyLinearImputer(noise=0)(x[row], mask).numpy()
        np.testing.assert_allclose(ours[row, step], theirs, atol=ACCURATE)


def test_only_imputed_pixels_get_noise(pictures, maps):
    order = order_of(maps)
    still = Road(seed=0, noise=0).impute(pictures, order, images=IMAGES)
    noisy = Road(seed=0, noise=0.01).impute(pictures, order, images=IMAGES)
    place = order.argsort(dim=1).reshape(6, 1, 1, 12, 12)
    counts = torch.tensor([p * 144 // 100 for p in range(5, 100, 5)]).reshape(1, -1, 1, 1, 1)
    assert (noisy - still)[(place >= counts).expand_as(noisy)].abs().max() == 0
    added = (noisy - still)[(place < counts).expand_as(noisy)]
    assert added.std().item() == pytest.approx(0.01, rel=0.05)  # 8,200 values


def test_aopc_is_the_formula_of_s2():
    probability = torch.tensor([[0.9, 0.5, 0.1], [0.6, 0.6, 0.6]]).double()
    curve = Curve(probability=probability, kept=probability > 0.5)
    # (0.4 + 0.8)/3: L = 2 steps, divided by L + 1.
    torch.testing.assert_close(curve.aopc, torch.tensor([0.4, 0.0]).double())


class Spot(nn.Module):
    """Says class 0 as strongly as pixels (2…5, 2…5) are brighter than the others."""

    def forward(self, x: Tensor) -> Tensor:
        spot = x[:, :, 2:6, 2:6].mean(dim=(1, 2, 3))
        return torch.stack([20 * (spot - 0.5), torch.zeros_like(spot)], dim=1)


def test_the_true_map_beats_the_random_one_and_both_orders_differ():
    x = torch.full((4, 1, 12, 12), 0.2)
    x[:, :, 2:6, 2:6] = 1.0
    target, evaluator = torch.zeros(4, dtype=torch.long), Evaluator(model=Spot(), batch=64)
    truth = torch.zeros(4, 1, 12, 12)
    truth[:, :, 2:6, 2:6] = 1.0
    found = Road(seed=0)(evaluator, truth, x, target, images=range(4))
    morf, lerf, random = (found.values[f"road_{name}"] for name in ("morf", "lerf", "random"))
    assert (morf > random + 0.1).all()
    assert (random > lerf).all()
    assert lerf.abs().max() < 1e-6  # the ground says nothing
    # Sixteen pixels are 11.1%: they are gone at 15%, and the ground has filled the hole.
    curve = found.details["road_morf_curve"]
    assert curve.shape == (4, 20)
    assert (curve[:, 0] > 0.99).all()
    assert (curve[:, 3] < 0.01).all()
    assert not found.details["road_morf_kept"][:, 3:].any()
    assert found.details["road_lerf_kept"][:, :17].all()


@settings(max_examples=30)
@given(st.integers(1, 200), st.lists(st.integers(0, 5), min_size=1, max_size=6, unique=True))
def test_batches_and_company_do_not_matter(model, maps, pictures, target, batch, rows):
    metric = Road(seed=3, step=20, last=80)
    whole = metric(Evaluator(model=model, batch=64), maps, pictures, target, images=IMAGES)
    part = metric(
        Evaluator(model=model, batch=batch),
        maps[rows],
        pictures[rows],
        target[rows],
        images=[IMAGES[row] for row in rows],
    )
    for name, value in whole.values.items():
        # Float32 sums of network and imputation.
        torch.testing.assert_close(part.values[name], value[rows], rtol=0, atol=2e-5)


def test_chunks_do_not_matter(model, maps, pictures, target, monkeypatch):
    settings, evaluator = Road(seed=3), Evaluator(model=model, batch=64)
    whole = settings(evaluator, maps, pictures, target, images=IMAGES)
    monkeypatch.setattr("auditor.quality.road.CHUNK", 5 * 144)
    parts = settings(evaluator, maps, pictures, target, images=IMAGES)
    for name, value in whole.values.items():
        torch.testing.assert_close(parts.values[name], value, rtol=0, atol=2e-5)


def test_the_baseline_is_shared_and_evaluations_are_booked(model, maps, pictures, target):
    evaluator, settings = Evaluator(model=model, batch=64), Road(seed=3)
    random = settings.baseline(evaluator, pictures, target, images=IMAGES)
    assert evaluator.meter.forwards == {"audit": 6 * 20}
    given = settings(evaluator, maps, pictures, target, images=IMAGES, random=random)
    assert evaluator.meter.forwards == {"audit": 6 * 60}
    alone = settings(evaluator, maps, pictures, target, images=IMAGES)
    assert alone.values["road_random"].equal(given.values["road_random"])
    assert evaluator.meter.gradients == {"audit": 0}


def test_maps_without_an_order_are_counted(evaluator, maps, pictures, target):
    maps = maps.clone()
    maps[0], maps[1, 0, 0, 0] = 0, torch.nan
    found = Road(seed=0, step=45)(evaluator, maps, pictures, target, images=IMAGES)
    assert found.undefined[ZERO_MAP].tolist() == [True] + [False] * 5
    assert found.undefined[NOT_FINITE].tolist() == [False, True] + [False] * 4
    for value in found.values.values():
        assert value.isnan().tolist() == [True, True] + [False] * 4


@pytest.mark.parametrize("size", [(1, 1), (1, 3), (2, 2)])
def test_images_too_small_to_remove_anything_from_stay_as_they_are(size):
    x = NoisyBaseline(seed=0).draw(torch.ones(2, 1, *size), (0, 1), first=0, count=1)[:, 0]
    model = nn.Sequential(nn.Flatten(), nn.Linear(size[0] * size[1], 3)).requires_grad_(False)
    target = torch.zeros(2, dtype=torch.long)
    found = Road(seed=0)(
        Evaluator(model=model, batch=4), torch.ones(2, 1, *size), x, target, images=(0, 1)
    )
    assert all(value.isfinite().all() for value in found.values.values())
    if size == (1, 1):
        assert not any(value.any() for value in found.values.values())


def quantus_road(x: Tensor, maps: Tensor, target: Tensor, *, batch: int) -> dict[int, float]:
    """Accuracy at each percentage by Quantus."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import quantus

        metric = quantus.ROAD(noise=0, percentages=[50], disable_warnings=True)
        return metric(
            Spot().eval(),
            x.numpy(),
            target.numpy(),
            a_batch=maps.numpy().copy(),
            channel_first=True,
            batch_size=batch,
        )


def test_quantus_road_is_no_oracle():
    """It scores its first batch only, and fails on color images (design section 4)."""
    x = torch.full((4, 1, 12, 12), 0.2)
    x[:, :, 2:6, 2:6] = 1.0
    target, good = torch.zeros(4, dtype=torch.long), x.clone()
    maps = torch.cat([good[:2], -good[2:]])  # the last two maps point at the ground
    assert quantus_road(x, maps, target, batch=4) == {50: 0.5}  # the truth
    assert quantus_road(x, maps, target, batch=2) == {50: 0.0}
    with pytest.raises(IndexError):
        quantus_road(x.repeat(1, 3, 1, 1), maps.repeat(1, 3, 1, 1), target, batch=4)
    evaluator = Evaluator(model=Spot(), batch=2)
    for channels in (1, 3):
        settings = Road(seed=0, noise=0, step=50, last=50)
        found = settings(
            evaluator,
            maps.abs().repeat(1, channels, 1, 1),
            x.repeat(1, channels, 1, 1),
            target,
            images=range(4),
        )
        assert found.details["road_morf_kept"][:, 1].tolist() == [False] * 4
