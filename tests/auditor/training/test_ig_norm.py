from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from captum.attr import IntegratedGradients
from torch import nn

from auditor.errors import InputError
from auditor.training.ig_norm import IgNorm, loss_attribution


@pytest.fixture
def model() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Flatten(), nn.Linear(9, 6), nn.Softplus(), nn.Linear(6, 3)).double()


@pytest.fixture
def x() -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return 0.1 + 0.8 * torch.rand(4, 1, 3, 3, generator=generator, dtype=torch.float64)


Y = torch.tensor([0, 1, 2, 0])


def loss(model, x):
    return F.cross_entropy(model(x), Y, reduction="none")


def test_attributions_sum_to_the_change_of_the_loss(model, x):
    end = x.flip(0)
    found = loss_attribution(model, x, end, Y, points=200).flatten(1).sum(dim=1)
    torch.testing.assert_close(found, loss(model, end) - loss(model, x), rtol=1e-5, atol=1e-6)


def test_attributions_are_those_of_captum(model, x):
    peer = IntegratedGradients(
        lambda v: F.cross_entropy(model(v), Y.repeat(len(v) // 4), reduction="none")
    )
    end = x.flip(0)
    expected = peer.attribute(end, baselines=x, n_steps=50, method="riemann_middle")
    found = loss_attribution(model, x, end, Y, points=50)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-8)  # its weights are float32


def test_the_attribution_has_the_derivative_of_finite_differences(model, x):
    end = x.flip(0).requires_grad_()
    assert torch.autograd.gradcheck(lambda v: loss_attribution(model, x, v, Y, points=4), end)


def test_the_search_stays_in_its_ball_and_finds_more_than_its_start(model, x):
    """The norm can be read off the loss; ε bounds it, and no random change reaches it."""
    recipe = IgNorm(weight=1.0, points=20)
    generator = torch.Generator().manual_seed(0)
    total = (recipe.loss(model, x, Y, generator) - loss(model, x).mean()).item()
    random = []
    for _ in range(20):
        signs = torch.randint(0, 2, x.shape, generator=generator) * 2 - 1
        moved = (x + recipe.epsilon * signs).clamp(0, 1)
        found = loss_attribution(model, x, moved, Y, points=20)
        random.append(found.abs().flatten(1).sum(dim=1).mean().item())
    assert total >= max(random) * 0.99  # to first order every corner is as good
    steepest = torch.func.grad(lambda v: loss(model, v).sum())(x).abs().amax()
    assert total <= 2 * recipe.epsilon * 9 * steepest.item()


def test_the_loss_trains_the_weights_through_the_norm(model, x):
    plain = torch.autograd.grad(loss(model, x).mean(), list(model.parameters()))
    whole = torch.autograd.grad(
        IgNorm().loss(model, x, Y, torch.Generator().manual_seed(0)), list(model.parameters())
    )
    assert all(not torch.allclose(a, b) for a, b in zip(plain[:1], whole[:1], strict=True))


@pytest.mark.parametrize(
    "settings",
    [{"epsilon": 0}, {"epsilon": 8}, {"weight": 0}, {"step": 0}, {"points": 0}, {"steps": 0}],
    ids=str,
)
def test_settings_out_of_range_are_refused(settings):
    with pytest.raises(InputError):
        IgNorm(**settings)
