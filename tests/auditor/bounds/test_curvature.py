from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from attacks import Surrogate
from auditor.bounds.curvature import Lanczos
from auditor.bounds.hessian import loss_hessian_eigenvalue
from auditor.evaluation import Evaluator
from auditor.probes.surrogates import smooth_evaluator

SMOOTH = [nn.Softplus, nn.Tanh, nn.Sigmoid, nn.GELU, nn.SiLU, nn.Mish, nn.ELU, nn.CELU]
RAMPS = [nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.Hardtanh, nn.Hardswish]
SHAPE = (2, 5, 5)


def network(activation: type[nn.Module], *, classes: int = 10, seed: int = 0) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = nn.Sequential(
            nn.Conv2d(2, 6, 3, padding=1),
            activation(),
            nn.AvgPool2d(2),
            nn.Flatten(),
            nn.Linear(24, 16),
            activation(),
            nn.Linear(16, classes),
        )
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(2)
    return model.double().requires_grad_(False)


def images(count: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(count, *SHAPE, generator=generator, dtype=torch.float64)


def generators(count: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(i) for i in range(count)]


def dense(evaluator: Evaluator, image: Tensor, target: int) -> Tensor:
    def score(flat: Tensor) -> Tensor:
        with evaluator.around():
            return evaluator.model(flat.view(1, *SHAPE))[0, target]

    return torch.autograd.functional.hessian(score, image.flatten())


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
@pytest.mark.parametrize("activation", SMOOTH + RAMPS)
def test_logit_curvature_is_that_of_the_dense_matrix(activation, dtype):
    model, x = network(activation), images(5)
    target = torch.arange(5)
    evaluator = Evaluator(model=model.to(dtype), batch=2)
    if activation in RAMPS:
        evaluator = smooth_evaluator(evaluator, 10.0)
    found = Lanczos().of_logit(evaluator, x.to(dtype), target, generators(5))
    model.double()
    for i in range(5):
        values, vectors = torch.linalg.eigh(dense(evaluator, x[i], i))
        best = values.abs().argmax()
        assert found.eigenvalue[i].item() == pytest.approx(values[best].item(), rel=1e-4)
        nearest = (values - found.eigenvalue[i]).abs().min()
        assert nearest <= found.residual[i] + 1e-6 * values[best].abs()
        along = (found.vector[i].flatten().double() @ vectors[:, best]).abs()
        assert along == pytest.approx(1.0, abs=1e-3)


def test_a_ramp_has_no_curvature_of_its_own():
    found = Lanczos().of_logit(
        Evaluator(model=network(nn.ReLU), batch=4), images(3), torch.zeros(3).long(), generators(3)
    )
    assert found.eigenvalue.tolist() == found.residual.tolist() == [0.0] * 3
    assert not found.vector.any()


@pytest.mark.parametrize("classes", [2, 10, 200])
def test_loss_curvature_is_the_closed_form(classes):
    model, x = network(nn.ReLU, classes=classes), images(5)
    found = Lanczos(tolerance=1e-6).of_loss(Evaluator(model=model, batch=3), x, generators(5))
    exact = loss_hessian_eigenvalue(model, x, max_classes=classes).eigenvalue
    torch.testing.assert_close(found.eigenvalue, exact, rtol=1e-8, atol=0)
    leading = loss_hessian_eigenvalue(model, x, max_classes=2).eigenvalue
    assert (found.eigenvalue >= leading * (1 - 1e-8)).all()


class NoForwardRule(torch.autograd.Function):
    """The identity, which cannot be differentiated forward."""

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        return gradient


def test_a_model_without_forward_rules_gives_the_same():
    plain, x = network(nn.ReLU), images(3)
    blocked = Evaluator(model=lambda v: plain(NoForwardRule.apply(v)), batch=4)
    found = Lanczos().of_loss(blocked, x, generators(3))
    expected = Lanczos().of_loss(Evaluator(model=plain, batch=4), x, generators(3))
    torch.testing.assert_close(found.eigenvalue, expected.eigenvalue, rtol=1e-10, atol=0)


def test_curvature_does_not_depend_on_the_batch():
    model, x = network(nn.Tanh), images(5)
    target = torch.arange(5)
    one, five = (
        Lanczos().of_logit(Evaluator(model=model, batch=b), x, target, generators(5))
        for b in (1, 5)
    )
    torch.testing.assert_close(one.eigenvalue, five.eigenvalue, rtol=1e-7, atol=0)


def test_a_surrogate_in_force_outside_is_seen():
    """The kept graph holds the smooth ramps, so that products outside of the mode are right."""
    model, x = network(nn.ReLU), images(2)
    with Surrogate(10.0):
        inside = Lanczos().of_logit(
            Evaluator(model=model, batch=2), x, torch.zeros(2).long(), generators(2)
        )
    smooth = smooth_evaluator(Evaluator(model=model, batch=2), 10.0)
    outside = Lanczos().of_logit(smooth, x, torch.zeros(2).long(), generators(2))
    torch.testing.assert_close(inside.eigenvalue, outside.eigenvalue)
