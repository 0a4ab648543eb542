"""Each recipe lowers its own loss on real digits, and its loss is what its formula says."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from auditor.errors import InputError
from auditor.training.adversarial import Adversarial
from auditor.training.fit import Training
from auditor.training.gaussian_noise import GaussianNoise
from auditor.training.ig_norm import IgNorm
from auditor.training.noisy_sgd import NoisySgd
from auditor.training.pgd import Pgd
from auditor.training.recipe import Natural
from auditor.training.registry import RECIPES
from auditor.training.ssr import Ssr

QUICK = [
    Natural(),
    GaussianNoise(sigma=0.2),
    NoisySgd(kappa=0.02),
    Adversarial(epsilon=0.03, steps=3),
    Adversarial(epsilon=0.2, steps=3, norm="l2"),
    Ssr(),
    IgNorm(steps=2, points=4, search_points=2),
]


def network() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(1, 6, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(216, 10),
        )


@pytest.fixture(scope="module")
def few(digits: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    return digits[0][:400], digits[1][:400]


def test_every_recipe_is_tried():
    assert {recipe.name for recipe in QUICK} == set(RECIPES)


@pytest.mark.parametrize("recipe", QUICK, ids=lambda r: f"{r.name}-{getattr(r, 'norm', '')}")
def test_a_recipe_lowers_its_own_loss_on_digits_it_did_not_see(recipe, few, digits):
    model, (x, y) = network(), few
    unseen, classes = digits[0][1600:1700], digits[1][1600:1700]

    def loss():
        return recipe.loss(model, unseen, classes, torch.Generator().manual_seed(5)).item()

    before = loss()
    history = Training(epochs=3, batch=50, learning_rate=0.02).run(
        model, x.__getitem__, y, recipe=recipe, seed=0
    )
    assert loss() < 0.7 * before
    assert history[2].loss < history[1].loss
    assert (model(unseen).argmax(dim=1) == classes).float().mean() > 0.6


def test_adversarial_training_makes_the_network_robust(few, digits):
    unseen, classes = digits[0][1600:], digits[1][1600:]
    held = {}
    for recipe in (Natural(), Adversarial(epsilon=0.1, steps=5)):
        model, (x, y) = network(), few
        Training(epochs=4, batch=50, learning_rate=0.02).run(
            model, x.__getitem__, y, recipe=recipe, seed=0
        )
        attack = Pgd(epsilon=0.1, steps=20)
        survivors = attack.survivors(model, unseen, classes, generator=torch.Generator())
        held[recipe.name] = survivors.float().mean().item()
    assert held["adversarial"] > held["natural"] + 0.1


def test_the_adversarial_loss_is_that_of_the_adversarial_images(few):
    model, (x, y) = network(), few
    recipe = Adversarial(epsilon=0.1, steps=3)
    found = Pgd(epsilon=0.1, steps=3)(model, x, y, generator=torch.Generator().manual_seed(1))
    expected = F.cross_entropy(model(found), y)
    given = recipe.loss(model, x, y, torch.Generator().manual_seed(1))
    torch.testing.assert_close(given, expected)
    assert given > F.cross_entropy(model(x), y)


class Linear(nn.Module):
    """One logit pair (0, w·x), whose noisy losses have a closed form to second order."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.tensor([0.5, -0.3], dtype=torch.float64))

    def forward(self, x):
        score = x.flatten(1) @ self.w
        return torch.stack([torch.zeros_like(score), score], dim=1)


@pytest.mark.parametrize(
    ("recipe", "spread"),
    [
        (GaussianNoise(sigma=0.4), lambda x, w: 0.4**2 * w.square().sum()),
        (NoisySgd(kappa=0.2), lambda x, w: 0.2**2 * x.flatten(1).square().sum(dim=1)),
    ],
    ids=["input", "weights"],
)
def test_noisy_losses_are_the_expected_loss(recipe, spread):
    """The score is normal with a known variance: compare with Gauss–Hermite quadrature."""
    model = Linear()
    x = torch.tensor([[[[0.9, 0.4]]]], dtype=torch.float64)
    nodes, weights = (torch.from_numpy(a) for a in _hermite(40))
    mean, variance = (x.flatten(1) @ model.w).detach(), spread(x, model.w.detach())
    scores = mean + variance.sqrt() * nodes * math.sqrt(2)
    expected = (weights * F.softplus(-scores)).sum() / math.sqrt(math.pi)
    generator = torch.Generator().manual_seed(0)
    y = torch.ones(1, dtype=torch.long)
    drawn = [recipe.loss(model, x, y, generator).item() for _ in range(4000)]
    assert sum(drawn) / len(drawn) == pytest.approx(expected.item(), abs=0.01)
    assert torch.tensor(drawn).std() > 0.01


def _hermite(count: int):
    import numpy as np

    return np.polynomial.hermite.hermgauss(count)


def test_noise_on_the_weights_leaves_the_weights_alone(few):
    model, (x, y) = network(), few
    before = {name: value.clone() for name, value in model.state_dict().items()}
    NoisySgd(kappa=0.1).loss(model, x, y, torch.Generator().manual_seed(0)).backward()
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert all(p.grad is not None for p in model.parameters())


@pytest.mark.parametrize(
    ("make", "settings"),
    [
        (GaussianNoise, {"sigma": 0}),
        (GaussianNoise, {"sigma": float("nan")}),
        (NoisySgd, {"kappa": -1}),
        (NoisySgd, {"kappa": float("inf")}),
    ],
    ids=str,
)
def test_settings_out_of_range_are_refused(make, settings):
    with pytest.raises(InputError, match="out of range"):
        make(**settings)


class Attentive(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.project, self.head = nn.Linear(12, 12), nn.Linear(144, 10)

    def forward(self, x):
        q = self.project(x)
        return self.head(F.scaled_dot_product_attention(q, q, q).flatten(1))


@pytest.mark.parametrize(
    "recipe", [Ssr(), IgNorm(steps=1, points=2, search_points=2)], ids=["ssr", "ig_norm"]
)
def test_recipes_with_second_derivatives_train_attention(recipe, few):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Attentive()
    x, y = few
    recipe.loss(model, x[:8], y[:8], torch.Generator().manual_seed(0)).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
