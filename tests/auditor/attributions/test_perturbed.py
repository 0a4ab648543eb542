"""KernelSHAP and the explanations of least infidelity, which look at perturbed images alone."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from captum.attr import KernelShap as Peer
from torch import Tensor, nn

from auditor.attributions import FRESH, SHOWN, Noise
from auditor.attributions.optimal import Optimal
from auditor.attributions.registry import find_method
from auditor.attributions.shap import superpixels
from auditor.attributions.traced import NotApplicableError
from auditor.errors import InputError
from auditor.evaluation import Evaluator
from auditor.perturbations import NoisyBaseline, SquareRemoval
from auditor.quality import Infidelity

NOISE = Noise(seed=0, stream=SHOWN)


def network(size: int, classes: int = 3) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        hidden = nn.Linear(size, 16), nn.Tanh(), nn.Linear(16, classes)
    return nn.Sequential(nn.Flatten(), *hidden).double().requires_grad_(False)


def images(*shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def explained(spec: str, model: nn.Module, x: Tensor, target: Tensor, draw: int = 0) -> Tensor:
    evaluator = Evaluator(model=model, batch=64)
    return find_method(spec)(evaluator, x, target, images=range(len(x)), draw=draw)[0]


def shapley_values(model: nn.Module, x: Tensor, label: int) -> Tensor:
    """By their definition: the mean gain of a pixel over all orders, one image (1, 1, H, W)."""
    count = x.numel()
    value = {
        kept: float(model(x * torch.tensor(kept).reshape(x.shape))[0, label])
        for kept in itertools.product((0.0, 1.0), repeat=count)
    }
    found = torch.zeros(count, dtype=torch.float64)
    for kept, without in value.items():
        size = int(sum(kept))
        for player in range(count):
            if not kept[player]:
                joined = (*kept[:player], 1.0, *kept[player + 1 :])
                share = math.factorial(size) * math.factorial(count - size - 1)
                found[player] += share / math.factorial(count) * (value[joined] - without)
    return found.reshape(x.shape)


def test_shapley_values_are_exact_where_all_coalitions_fit():
    model, x = network(8), images(2, 1, 2, 4)
    target = torch.tensor([0, 2])
    found = explained("kernel_shap,samples=254", model, x, target)
    for row, label in enumerate(target.tolist()):
        oracle = shapley_values(model, x[row : row + 1], label)
        torch.testing.assert_close(found[row : row + 1], oracle, rtol=1e-5, atol=1e-7)


def test_shapley_values_from_samples_are_closer_than_those_of_captum():
    """Both ask 200 coalitions of 12 players; the exact values take 4,096."""
    model, x, target = network(12), images(1, 1, 3, 4), torch.tensor([1])
    oracle = shapley_values(model, x, 1)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        peers = [Peer(model).attribute(x, target=target, n_samples=200) for _ in range(4)]
    ours = [explained("kernel_shap,samples=200", model, x, target, draw) for draw in range(4)]
    error = [sum(float((a - oracle).norm()) for a in found) for found in (ours, peers)]
    assert error[0] < error[1]
    assert error[0] < 4 * 0.1 * oracle.norm()


def test_a_linear_model_has_weight_times_pixel_as_shapley_values():
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 36, 2)).double().requires_grad_(False)
    x, target = images(1, 3, 6, 6), torch.tensor([0])
    found = explained("kernel_shap,samples=300", model, x, target)
    each = (x * model[1].weight[0].reshape(3, 6, 6)).sum(dim=1, keepdim=True)
    torch.testing.assert_close(found, (each / 3).expand_as(x), rtol=1e-4, atol=1e-6)


def test_shapley_values_of_superpixels_add_up_and_are_constant_in_each():
    model, x, target = network(3 * 32 * 32), images(1, 3, 32, 32), torch.tensor([2])
    found = explained("kernel_shap,samples=300,segments=12,baseline=mean", model, x, target)
    mean = x.mean(dim=(2, 3), keepdim=True).expand_as(x)
    torch.testing.assert_close(found.sum(), (model(x) - model(mean))[0, 2])
    cells = superpixels(x[0], 12)
    assert 2 <= len(cells.unique()) <= 24
    for cell in cells.unique():
        assert len(found[0, :, cells == cell].unique()) == 1


def test_one_pixel_has_no_superpixels():
    model, x = network(3), images(1, 3, 1, 1)
    with pytest.raises(NotApplicableError, match="1×1 pixels have no superpixels"):
        explained("kernel_shap", model, x, torch.tensor([0]))


@pytest.mark.parametrize("spec", ["noisy_baseline,draws=2000", "square_removal,draws=2000"])
def test_the_optimal_explanation_of_a_linear_model_has_no_infidelity(spec):
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 2)).double().requires_grad_(False)
    x, target = images(2, 1, 8, 8), torch.tensor([0, 1])
    found = explained(spec, model, x, target)
    weight = model[1].weight[target].reshape(x.shape)
    torch.testing.assert_close(found, weight, rtol=1e-2, atol=2e-2)
    evaluator = Evaluator(model=model, batch=64)
    for perturbation in (NoisyBaseline(seed=5), SquareRemoval(seed=5, smallest=1, largest=8)):
        scores = Infidelity(perturbation=perturbation)(evaluator, found, x, target, images=range(2))
        infidelity = scores.values[f"infd_{perturbation.name}"]
        flat = Infidelity(perturbation=perturbation)(
            evaluator, 0 * found, x, target, images=range(2)
        )
        assert (infidelity < 1e-4 * flat.values[f"infd_{perturbation.name}"]).all()


@pytest.mark.parametrize("kind", ["noisy_baseline", "squares"])
def test_no_other_map_has_less_infidelity_on_perturbations_of_its_own(kind):
    """Against the gradient, gradient × input and integrated gradients, on fresh draws."""
    model, x, target = network(64), images(2, 1, 8, 8), torch.tensor([0, 1])
    evaluator = Evaluator(model=model, batch=256)
    method = Optimal(perturbation=kind, draws=4000, noise=NOISE)
    best, _ = method(evaluator, x, target, images=range(2), draw=0)
    perturbation = (
        NoisyBaseline(seed=9)
        if kind == "noisy_baseline"
        else SquareRemoval(seed=9, smallest=1, largest=8)
    )
    others = [explained(spec, model, x, target) for spec in ("simple_grad", "smooth_grad")]
    found = Infidelity(perturbation=perturbation).of_each(
        evaluator, [best, *others], x, target, images=range(2)
    )
    values = [scores.values[f"infd_{kind}"] for scores in found]
    assert all((values[0] < value).all() for value in values[1:])


def test_cells_of_a_large_image_share_a_value():
    model, x = network(56 * 56), images(1, 1, 56, 56)
    found = explained("noisy_baseline,draws=500", model, x, torch.tensor([0]))
    cells = found.reshape(28, 2, 28, 2)
    assert (cells == cells[:, :1, :, :1]).all()
    assert len(found.unique()) > 100


@pytest.mark.parametrize("spec", ["kernel_shap,samples=60", "square_removal,draws=60"])
def test_maps_differ_by_draw_and_stream_but_not_by_batch(spec):
    model, x, target = network(64), images(2, 1, 8, 8), torch.tensor([0, 1])
    evaluator = Evaluator(model=model, batch=7)
    method = find_method(spec)
    whole, _ = method(evaluator, x, target, images=[4, 5], draw=0)
    alone, _ = method(evaluator, x[1:], target[1:], images=[5], draw=0)
    torch.testing.assert_close(whole[1:], alone)
    other, _ = method(evaluator, x, target, images=[4, 5], draw=1)
    fresh, _ = method.seeded(Noise(seed=0, stream=FRESH))(
        evaluator, x, target, images=[4, 5], draw=0
    )
    assert not torch.allclose(whole, other)
    assert not torch.allclose(whole, fresh)


@pytest.mark.parametrize("spec", ["kernel_shap", "noisy_baseline", "square_removal"])
def test_there_is_no_derivative_to_follow(spec):
    method, x = find_method(spec), images(1, 1, 4, 4)
    evaluator = Evaluator(model=network(16), batch=4)
    with pytest.raises(InputError, match="no derivative"):
        method.pullback(evaluator, x, torch.tensor([0]), x, images=[0], draw=0)
