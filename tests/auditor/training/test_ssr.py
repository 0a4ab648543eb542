from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from auditor.errors import InputError
from auditor.training.ssr import Ssr, curvature


@pytest.fixture
def model() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(1, 3, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(12, 5),
            nn.ReLU(),
            nn.Linear(5, 4),
        ).double()


@pytest.fixture
def x() -> torch.Tensor:
    return torch.rand(5, 1, 4, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def dense(model: nn.Module, image: torch.Tensor) -> torch.Tensor:
    """The Hessian of the loss by one image, by double backward."""

    def loss(flat):
        return F.cross_entropy(model(flat.reshape(1, *image.shape)), torch.tensor([0]))

    return torch.autograd.functional.hessian(loss, image.flatten())


def test_the_regularizer_is_the_largest_eigenvalue_of_the_dense_hessian(model, x):
    expected = torch.stack([torch.linalg.eigvalsh(dense(model, image))[-1] for image in x])
    torch.testing.assert_close(curvature(model, x), expected, rtol=1e-8, atol=1e-12)


def test_its_gradient_is_that_of_finite_differences(model, x):
    curvature(model, x).mean().backward()
    step, generator = 1e-6, torch.Generator().manual_seed(2)
    for weight in model.parameters():
        direction = torch.randn(weight.shape, generator=generator, dtype=torch.float64)
        values = []
        for sign in (1, -1):
            with torch.no_grad():
                weight += sign * step * direction
            values.append(curvature(model, x).mean().item())
            with torch.no_grad():
                weight -= sign * step * direction
        expected = (values[0] - values[1]) / (2 * step)
        given = weight.grad if weight.grad is not None else torch.zeros_like(weight)
        assert float((given * direction).sum()) == pytest.approx(expected, rel=1e-5, abs=1e-9)


def test_it_is_the_derivative_through_every_class_too(model, x):
    """The eigenvalue of the Gram matrix of all class gradients, differentiated as a whole."""

    def whole(v):
        jacobian = torch.func.vmap(torch.func.jacrev(lambda u: model(u[None])[0]))(v).flatten(2)
        p = model(v).softmax(dim=1)[:, :, None]
        centered = p.sqrt() * (jacobian - (p * jacobian).sum(1, keepdim=True))
        return torch.linalg.eigvalsh(centered @ centered.mT)[:, -1].mean()

    weights = list(model.parameters())
    ours = torch.autograd.grad(curvature(model, x).mean(), weights, materialize_grads=True)
    theirs = torch.autograd.grad(whole(x), weights, materialize_grads=True)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-7, atol=1e-10)


def test_the_loss_mixes_cross_entropy_and_curvature(model, x):
    y, generator = torch.tensor([0, 1, 2, 3, 0]), torch.Generator()
    fit = F.cross_entropy(model(x), y)
    assert Ssr(beta=0).loss(model, x, y, generator).item() == pytest.approx(fit.item())
    mixed = Ssr(beta=0.4, scale=3).loss(model, x, y, generator)
    expected = 0.6 * fit + 0.4 * 3 * curvature(model, x).mean()
    assert mixed.item() == pytest.approx(expected.item())


def test_an_image_whose_loss_is_flat_does_no_harm(x):
    """Weights of zero have no direction to follow; the gradient must not be NaN."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 3)).double()
    nn.init.zeros_(model[1].weight)
    loss = Ssr().loss(model, x, torch.tensor([0, 1, 2, 0, 1]), torch.Generator())
    loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize(
    "settings",
    [{"beta": -0.1}, {"beta": 1}, {"beta": float("nan")}, {"scale": 0}, {"scale": float("nan")}],
    ids=str,
)
def test_settings_out_of_range_are_refused(settings):
    with pytest.raises(InputError, match="out of range"):
        Ssr(**settings)
