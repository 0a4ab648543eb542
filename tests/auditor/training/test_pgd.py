from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from auditor.errors import InputError
from auditor.training.pgd import Pgd, evaluating


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def linear(classes: int = 3, seed: int = 0) -> nn.Module:
    layer = nn.Linear(12, classes)
    with torch.no_grad():
        layer.weight.copy_(torch.randn(classes, 12, generator=generator(seed)))
        layer.bias.zero_()
    return nn.Sequential(nn.Flatten(), layer)


def pictures(count: int = 40, seed: int = 1) -> torch.Tensor:
    """Away from the ends of the pixel range, so that only the ball binds."""
    return 0.3 + 0.4 * torch.rand(count, 1, 3, 4, generator=generator(seed))


@given(
    epsilon=st.floats(1e-3, 1),
    norm=st.sampled_from(["linf", "l2"]),
    steps=st.integers(1, 5),
    seed=st.integers(0, 100),
)
def test_stays_in_its_ball_and_in_the_pixel_range(epsilon, norm, steps, seed):
    x = torch.rand(4, 1, 3, 4, generator=generator(seed))
    attack = Pgd(epsilon=epsilon, norm=norm, steps=steps)
    found = attack(linear(), x, torch.tensor([0, 1, 2, 0]), generator=generator(seed))
    assert found.min() >= 0
    assert found.max() <= 1
    delta = (found - x).flatten(1)
    size = delta.abs().amax(dim=1) if norm == "linf" else delta.norm(dim=1)
    assert (size <= epsilon * (1 + 1e-5) + 1e-6).all()


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_reaches_the_largest_loss_of_a_linear_model(norm):
    """Two classes: the loss rises with ⟨w, δ⟩, whose maximum is ε times the dual norm."""
    model, x = linear(classes=2), pictures()
    y = model(x).argmax(dim=1)
    found = Pgd(epsilon=0.1, norm=norm, steps=40)(model, x, y, generator=generator())
    weight = model[1].weight[1] - model[1].weight[0]
    dual = weight.abs().sum() if norm == "linf" else weight.norm()
    logits = model(x)
    margin = (logits.gather(1, y[:, None]) - logits.gather(1, 1 - y[:, None]))[:, 0] - 0.1 * dual
    reached = F.cross_entropy(model(found), y, reduction="none")
    torch.testing.assert_close(reached, F.softplus(-margin), rtol=5e-3, atol=1e-4)


@pytest.mark.parametrize(("norm", "epsilon"), [("linf", 0.05), ("l2", 0.15)])
def test_survivors_of_a_linear_model_are_those_of_the_closed_form(norm, epsilon):
    model, x = linear(), pictures(200)
    y = model(x).argmax(dim=1)
    y[::7] = (y[::7] + 1) % 3  # wrong from the start
    weight, logits = model[1].weight.detach(), model(x).detach()
    difference = weight[y][:, None] - weight  # (B, 3, 12)
    dual = difference.abs().sum(2) if norm == "linf" else difference.norm(dim=2)
    margin = logits.gather(1, y[:, None]) - logits - epsilon * dual
    margin.scatter_(1, y[:, None], torch.inf)
    held = Pgd(epsilon=epsilon, norm=norm, steps=50).survivors(model, x, y, generator=generator())
    smallest = margin.amin(dim=1)
    clear = smallest.abs() > 0.02  # the loss does not aim at the nearest of two rivals
    assert clear.sum() > 150
    assert 20 < held.sum() < 150
    assert torch.equal(held[clear], smallest[clear] > 0)


def test_leaves_the_network_as_it_was():
    model = nn.Sequential(nn.Conv2d(1, 2, 2), nn.BatchNorm2d(2), nn.Dropout(), linear_head())
    model[1].eval()  # frozen by the user
    before = {name: value.clone() for name, value in model.state_dict().items()}
    Pgd(steps=2)(model, pictures(4), torch.tensor([0, 1, 2, 0]), generator=generator())
    assert [model.training, model[0].training, model[1].training] == [True, True, False]
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())


def linear_head() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(12, 3))


def test_modes_come_back_after_an_error():
    model = nn.Dropout()
    with pytest.raises(RuntimeError, match="mode False"), evaluating(model):
        raise RuntimeError(f"mode {model.training}")
    assert model.training


@pytest.mark.parametrize(
    ("settings", "length"),
    [
        ({"epsilon": 0.1, "steps": 40}, 0.01),
        ({"epsilon": 0.1, "steps": 100}, 0.01),
        ({"epsilon": 0.1, "steps": 5}, 0.05),
        ({"epsilon": 0.1, "steps": 5, "step": 0.003}, 0.003),
    ],
)
def test_steps_are_long_enough_to_get_through_the_ball(settings, length):
    assert Pgd(**settings).length == pytest.approx(length)


@pytest.mark.parametrize(
    "settings",
    [
        {"epsilon": 0},
        {"epsilon": -0.1},
        {"epsilon": 8},
        {"epsilon": float("nan")},
        {"epsilon": float("inf"), "norm": "l2"},
        {"norm": "l1"},
        {"steps": 0},
        {"step": -1},
    ],
    ids=str,
)
def test_settings_out_of_range_are_refused(settings):
    with pytest.raises(InputError):
        Pgd(**settings)
