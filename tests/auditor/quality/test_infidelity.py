from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pytest
import torch
from captum.metrics import infidelity as captum_infidelity
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from auditor.attributions import SHOWN, Noise, SimpleGrad, Smoothed
from auditor.evaluation import Evaluator
from auditor.perturbations import NoisyBaseline, SquareRemoval, UniformNoise
from auditor.quality.infidelity import Infidelity
from auditor.quality.scores import NOT_FINITE

IMAGES = (0, 1, 2, 3, 4, 5)
BASELINE = NoisyBaseline(seed=1)
SQUARES = SquareRemoval(seed=1, smallest=1, largest=5)


@dataclass(frozen=True)
class Given:
    """Hands out perturbed images (B, draws, C, H, W) that the test knows."""

    y: Tensor
    name: str = "given"

    def draw(self, x: Tensor, images: Sequence[int], *, first: int, count: int) -> Tensor:
        return self.y[:, first : first + count]


def linear(seed: int = 0) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Flatten(), nn.Linear(144, 10).double()).requires_grad_(False)


@pytest.mark.parametrize("perturbation", [BASELINE, SQUARES], ids=repr)
def test_the_gradient_of_a_linear_model_is_perfect(perturbation, pictures, target):
    x, evaluator = pictures.double(), Evaluator(model=linear(), batch=50)
    maps, _ = evaluator.gradients(x, target)
    found = Infidelity(perturbation=perturbation, draws=40)(
        evaluator, maps, x, target, images=IMAGES
    )
    # Float64, logits of order 1.
    for value in found.values.values():
        assert value.max() < 1e-24
    torch.testing.assert_close(
        found.details[f"infd_alpha_{perturbation.name}"], torch.ones(6).double()
    )
    worse = Infidelity(perturbation=perturbation, draws=40)(
        evaluator, maps.flip(2), x, target, images=IMAGES
    )
    assert all((value > 1e-4).all() for value in worse.values.values())


@pytest.mark.parametrize("perturbation", [BASELINE, SQUARES], ids=repr)
def test_global_maps_of_a_linear_model_are_perfect_too(perturbation, pictures, target):
    x, evaluator = pictures.double().clone(), Evaluator(model=linear(), batch=50)
    x[:, :, 3] = 0  # black pixels: nothing to divide by
    gradient, _ = evaluator.gradients(x, target)
    if perturbation is BASELINE:
        # A global map says nothing of a black pixel that the noise lights up.
        gradient[:, :, 3] = 0
        layer = nn.Linear(144, 10).double().requires_grad_(False)
        layer.weight.copy_(evaluator.model[1].weight)
        layer.weight.view(10, 12, 12)[:, 3] = 0
        evaluator = Evaluator(model=nn.Sequential(nn.Flatten(), layer), batch=50)
    found = Infidelity(perturbation=perturbation, draws=40)(
        evaluator, x * gradient, x, target, images=IMAGES, times_input=True
    )
    for value in found.values.values():
        assert value.max() < 1e-24


@pytest.mark.parametrize("scaled", [False, True])
def test_agrees_with_captum_on_shared_perturbations(scaled, evaluator, maps, pictures, target):
    draws = 30
    y = UniformNoise(seed=2, radius=0.5, clip=False).draw(pictures, IMAGES, first=0, count=draws)

    def shared(x: Tensor) -> tuple[Tensor, Tensor]:
        assert len(x) == len(pictures) * draws
        return x - y.flatten(0, 1), y.flatten(0, 1)

    theirs = captum_infidelity(
        evaluator.model,
        shared,
        pictures,
        maps,
        target=target,
        n_perturb_samples=draws,
        normalize=scaled,
    )
    found = Infidelity(perturbation=Given(y), draws=draws)(
        evaluator, maps, pictures, target, images=IMAGES
    )
    ours = found.values["infd_scaled_given" if scaled else "infd_given"]
    # Captum sums in float32, and its scaled value is a difference of sums.
    torch.testing.assert_close(ours, theirs.double(), rtol=1e-3, atol=1e-5)


def test_the_scaled_value_does_not_depend_on_the_scale(evaluator, maps, pictures, target):
    metric = Infidelity(perturbation=SQUARES, draws=60)
    scores = metric.of_each(
        evaluator, [maps, 1e-3 * maps, -40 * maps], pictures, target, images=IMAGES
    )
    for other in scores[1:]:
        torch.testing.assert_close(  # scaling a float32 map rounds it
            other.values["infd_scaled_squares"],
            scores[0].values["infd_scaled_squares"],
            rtol=1e-5,
            atol=0,
        )
        assert not torch.allclose(other.values["infd_squares"], scores[0].values["infd_squares"])
    for found in scores:
        plain, scaled = found.values["infd_squares"], found.values["infd_scaled_squares"]
        assert (scaled <= plain * (1 + 1e-12)).all()


def test_the_scale_is_the_best_one(evaluator, maps, pictures, target):
    metric = Infidelity(perturbation=SQUARES, draws=60)
    found = metric(evaluator, maps, pictures, target, images=IMAGES)
    alpha = found.details["infd_alpha_squares"].reshape(-1, 1, 1, 1)
    for factor in (0.9, 1.0, 1.1):
        moved = metric(
            evaluator, factor * alpha * maps.double(), pictures, target, images=IMAGES
        ).values["infd_squares"]
        best = found.values["infd_scaled_squares"]
        if factor == 1:
            torch.testing.assert_close(moved, best)
        else:
            assert (moved > best).all()


@given(st.integers(1, 40), st.lists(st.integers(0, 5), min_size=1, max_size=6, unique=True))
def test_batches_and_company_do_not_matter(model, maps, pictures, target, batch, rows):
    metric = Infidelity(perturbation=BASELINE, draws=7)
    whole = metric(Evaluator(model=model, batch=42), maps, pictures, target, images=IMAGES)
    part = metric(
        Evaluator(model=model, batch=batch),
        maps[rows],
        pictures[rows],
        target[rows],
        images=[IMAGES[row] for row in rows],
    )
    for name, value in whole.values.items():
        # The network's float32 sums depend on the batch.
        torch.testing.assert_close(part.values[name], value[rows], rtol=1e-4, atol=1e-5)


def test_forward_passes_are_booked_and_shared(evaluator, maps, pictures, target):
    metric = Infidelity(perturbation=BASELINE, draws=9)
    metric.of_each(evaluator, [maps, maps], pictures, target, images=IMAGES)
    assert evaluator.meter.forwards == {"audit": 6 * 10}
    assert evaluator.meter.gradients == {"audit": 0}


def test_zero_maps_have_a_value_and_broken_ones_have_none(evaluator, maps, pictures, target):
    maps = maps.clone()
    maps[0], maps[1, 0, 0, 0] = 0, torch.inf
    metric = Infidelity(perturbation=SQUARES, draws=20)
    found = metric(evaluator, maps, pictures, target, images=IMAGES)
    plain, scaled = found.values["infd_squares"], found.values["infd_scaled_squares"]
    assert plain[0] == scaled[0] > 0  # E[(f(x) − f(x − I))²], whatever the scale
    assert found.details["infd_alpha_squares"][0] == 0
    assert plain.isnan().tolist() == scaled.isnan().tolist() == [False, True] + [False] * 4
    assert found.undefined[NOT_FINITE].tolist() == [False, True] + [False] * 4


class Stripes(nn.Module):
    """S4 A.5's toy function of (a, b): it grows by a or by b, in stripes along a − b."""

    def forward(self, x: Tensor) -> Tensor:
        a, b = x.flatten(1).unbind(dim=1)
        n = (a - b).abs().floor()
        even = torch.maximum(a, b) - n / 2
        odd = torch.minimum(a, b) + (n + 1) / 2
        return torch.where(n % 2 == 0, even, odd)[:, None]


def test_smoothing_makes_the_toy_function_of_s4_more_faithful():
    x = torch.tensor([[[[20.0, 11.9]]], [[[20.0, 12.1]]]], dtype=torch.float64)
    target, evaluator = torch.zeros(2, dtype=torch.long), Evaluator(model=Stripes(), batch=512)
    plain, _ = evaluator.gradients(x, target)
    assert plain.flatten(1).tolist() == [[1, 0], [0, 1]]  # S4's example
    noise = Noise(seed=0, stream=SHOWN)
    smoothed = Smoothed(method=SimpleGrad(), sigma=2.0, samples=2000, noise=noise)
    smooth, _ = smoothed(evaluator, x, target, images=(0, 1), draw=0)
    # Math section 6: near (½, ½) for σ ≥ 1. Standard error .011; the stripes' own remainder is
    # below exp(−π²σ²) there.
    torch.testing.assert_close(smooth, torch.full_like(smooth, 0.5), rtol=0, atol=0.05)
    y = x[:, None] + 4 * torch.randn(
        2, 500, 1, 1, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64
    )
    metric = Infidelity(perturbation=Given(y), draws=500)
    rough, fine = metric.of_each(evaluator, [plain, smooth], x, target, images=(0, 1))
    assert (fine.values["infd_given"] < 0.1 * rough.values["infd_given"]).all()
    assert (fine.values["infd_scaled_given"] < 0.1 * rough.values["infd_scaled_given"]).all()
