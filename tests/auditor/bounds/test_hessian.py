from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from auditor.bounds.hessian import loss_gradient, loss_hessian_eigenvalue

SHAPE = (2, 4, 4)


def network(
    seed: int, classes: int, activation: type[nn.Module] = nn.ReLU, gain: float = 2.0
) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = nn.Sequential(
            nn.Conv2d(2, 5, 3, padding=1),
            activation(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(20, 16),
            activation(),
            nn.Linear(16, classes),
        ).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(gain)
    return model.requires_grad_(False)


def images(seed: int, count: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(count, *SHAPE, generator=generator, dtype=torch.float64)


def dense_hessian(model: Callable[[Tensor], Tensor], image: Tensor, target: int = 0) -> Tensor:
    """Second derivative of the loss by double backward, (d, d)."""

    def loss(flat: Tensor) -> Tensor:
        return functional.cross_entropy(
            model(flat.view(1, *image.shape)), torch.tensor([target], device=flat.device)
        )

    return torch.autograd.functional.hessian(loss, image.flatten())


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("activation", [nn.ReLU, nn.LeakyReLU, nn.ReLU6, nn.Hardtanh])
@pytest.mark.parametrize("classes", [2, 10])
def test_equals_the_dense_hessian(seed, activation, classes):
    model, x = network(seed, classes, activation), images(seed)
    found = loss_hessian_eigenvalue(model, x)
    # Any target: the closed form does not contain it.
    expected = torch.stack(
        [torch.linalg.eigvalsh(dense_hessian(model, image, seed % classes))[-1] for image in x]
    )
    assert expected.min() > 1e-6  # otherwise the comparison would be empty
    torch.testing.assert_close(found.eigenvalue, expected, rtol=1e-10, atol=0)
    assert found.classes_used == classes
    assert found.neglected_mass.tolist() == [0.0] * 3


def test_two_classes_written_out():
    """Logits (w·x, 0): the Hessian is p(1 − p)wwᵀ, its eigenvalue p(1 − p)‖w‖²."""
    w = torch.tensor([1.0, -2.0, 2.0], dtype=torch.float64)
    x = torch.tensor([[[[0.3, 0.1, 0.4]]], [[[0.9, 0.2, 0.0]]]], dtype=torch.float64)

    def model(inputs: Tensor) -> Tensor:
        score = inputs.flatten(1) @ w
        return torch.stack([score, torch.zeros_like(score)], dim=1)

    p = torch.sigmoid(x.flatten(1) @ w)
    found = loss_hessian_eigenvalue(model, x).eigenvalue
    torch.testing.assert_close(found, p * (1 - p) * 9, rtol=1e-12, atol=0)


def test_confident_prediction_has_no_curvature():
    model, x = network(0, 10), images(0)
    plain = loss_hessian_eigenvalue(model, x).eigenvalue
    # A margin of 60 leaves e⁻⁶⁰ of probability, which the largest gradient cannot outweigh.
    shift = torch.zeros(10, dtype=torch.float64)
    shift[3] = 60 + 2 * model(x).abs().max().item()
    confident = loss_hessian_eigenvalue(lambda inputs: model(inputs) + shift, x).eigenvalue
    assert (confident >= 0).all()
    assert (confident < 1e-15 * plain).all()


def test_float32_agrees_even_where_confident():
    """Centering before multiplying keeps the digits that a small 1 − p would cost."""
    model, x = network(1, 10), images(1)
    shift = torch.zeros(10)
    shift[3] = 12 + 2 * model(x).abs().max().item()
    exact = loss_hessian_eigenvalue(lambda v: model(v) + shift.double(), x).eigenvalue
    single = network(1, 10).float()
    found = loss_hessian_eigenvalue(lambda v: single(v) + shift, x.float()).eigenvalue
    # The logits themselves are rounded to 1e-6 absolutely, and so is log p.
    torch.testing.assert_close(found, exact, rtol=1e-4, atol=0)


@pytest.mark.parametrize("seed", range(3))
def test_leading_classes_bound_from_below_and_tend_to_the_truth(seed):
    model, x = network(seed, 10, gain=1.0), images(seed, 8)
    full = loss_hessian_eigenvalue(model, x)
    assert full.neglected_mass.max() == 0
    previous = torch.zeros(8, dtype=torch.float64)
    for kept in range(2, 10):
        part = loss_hessian_eigenvalue(model, x, max_classes=kept, tolerance=0)
        p = model(x).softmax(1).sort(dim=1, descending=True).values
        torch.testing.assert_close(part.neglected_mass, p[:, kept:].sum(1))
        assert part.classes_used == kept
        rounding = 1e-12 * full.eigenvalue
        assert (part.eigenvalue <= full.eigenvalue + rounding).all()
        # Adding a class cannot lower the bound: the smaller set is a part of the larger.
        assert (part.eigenvalue >= previous - rounding).all()
        previous = part.eigenvalue
    assert (loss_hessian_eigenvalue(model, x, max_classes=2).eigenvalue < full.eigenvalue).all()


def test_bound_is_below_the_dense_matrix_in_every_direction():
    """The order of matrices, not only of their largest eigenvalues, for one kept set."""
    model, image = network(4, 10, gain=1.0), images(4, 1)[0]
    jacobian = torch.autograd.functional.jacobian(lambda v: model(v[None])[0], image).flatten(1)
    p = model(image[None]).softmax(1)[0]
    kept = p.argsort(descending=True)[:4]
    q = p[kept] / p[kept].sum()
    w = jacobian[kept]
    part = p[kept].sum() * (w.T @ (q.diag() - q.outer(q)) @ w)
    gap = torch.linalg.eigvalsh(dense_hessian(model, image) - part)
    assert gap[0] > -1e-12 * gap[-1]
    found = loss_hessian_eigenvalue(model, image[None], max_classes=4, tolerance=0)
    assert found.eigenvalue.item() == pytest.approx(torch.linalg.eigvalsh(part)[-1].item())


def test_tolerance_decides_image_by_image():
    """Fixed logits ±: 12 classes, of which the first image needs 2 and the second all it may."""
    sharp = torch.full((12,), -30.0)
    sharp[:2] = 0
    logits = torch.stack([sharp, torch.zeros(12)]).double()
    weight = torch.arange(48.0, dtype=torch.float64).sin().view(4, 12)

    def model(inputs: Tensor) -> Tensor:
        row = (inputs[:, 0, 0, 0] > 0.5).long()
        return logits[row] + inputs.flatten(1) @ weight * 1e-3

    x = torch.zeros(2, 1, 2, 2, dtype=torch.float64)
    x[1, 0, 0, 0] = 1
    found = loss_hessian_eigenvalue(model, x, max_classes=5, tolerance=1e-3)
    assert found.classes_used == 5
    assert found.neglected_mass[0] < 1e-12
    assert found.neglected_mass[1].item() == pytest.approx(7 / 12, abs=1e-3)
    alone = loss_hessian_eigenvalue(model, x[:1], max_classes=5, tolerance=1e-3)
    assert alone.classes_used == 2
    torch.testing.assert_close(alone.eigenvalue, found.eigenvalue[:1], rtol=1e-12, atol=0)


def test_two_classes_are_kept_however_confident():
    """One class alone has no covariance: its bound would be zero whatever the truth."""
    model, x = network(3, 10), images(3)
    shift = torch.zeros(10, dtype=torch.float64)
    shift[3] = 10 + 2 * model(x).abs().max().item()
    found = loss_hessian_eigenvalue(lambda v: model(v) + shift, x, max_classes=5)
    full = loss_hessian_eigenvalue(lambda v: model(v) + shift, x)
    assert found.classes_used == 2
    assert (found.eigenvalue > 0).all()
    assert (found.eigenvalue <= full.eigenvalue).all()


@pytest.mark.parametrize("max_classes", [20, 4])
def test_an_image_does_not_depend_on_its_batch(max_classes):
    model, x = network(5, 10), images(5, 7)
    together = loss_hessian_eigenvalue(model, x, max_classes=max_classes)
    for i in range(len(x)):
        alone = loss_hessian_eigenvalue(model, x[i : i + 1], max_classes=max_classes)
        # Only the order of float64 sums may differ.
        torch.testing.assert_close(
            alone.eigenvalue, together.eigenvalue[i : i + 1], rtol=1e-10, atol=0
        )
        assert alone.neglected_mass.item() == pytest.approx(
            together.neglected_mass[i].item(), abs=1e-14
        )


def test_loss_gradient_equals_central_differences():
    model, x = network(6, 10), images(6, 2)
    target = torch.tensor([3, 7])
    gradient = loss_gradient(model, x, target).flatten(1)
    assert not x.requires_grad
    step = 1e-6
    for pixel in range(0, gradient.shape[1], 5):
        moved = torch.zeros_like(x).flatten(1)
        moved[:, pixel] = step
        up, down = (
            functional.cross_entropy(model(x + s * moved.view_as(x)), target, reduction="none")
            for s in (1, -1)
        )
        # Truncation ~ step², rounding ~ 1e-16/step.
        torch.testing.assert_close((up - down) / (2 * step), gradient[:, pixel], rtol=0, atol=1e-7)


def test_loss_gradient_works_without_grad_mode():
    model, x = network(6, 10), images(6, 2)
    target = torch.tensor([3, 7])
    with torch.no_grad():
        inside = loss_gradient(model, x, target)
        value = loss_hessian_eigenvalue(model, x).eigenvalue
    assert torch.equal(inside, loss_gradient(model, x, target))
    assert torch.equal(value, loss_hessian_eigenvalue(model, x).eigenvalue)


@pytest.mark.parametrize("seed", range(3))
def test_taylor_drift_of_the_loss_gradient(seed):
    """S3 Thm 3: along the top eigenvector the gradient moves by λ‖δ‖, elsewhere by less."""
    model, x = network(seed, 10, gain=1.0), images(seed, 1)
    target = model(x).argmax(1)
    values, vectors = torch.linalg.eigh(dense_hessian(model, x[0]))
    found = loss_hessian_eigenvalue(model, x).eigenvalue.item()
    size = 1e-5  # small enough that these networks cross no kink, so the error is ~ size

    def moved_by(direction: Tensor) -> float:
        delta = size * direction / direction.norm()
        before, after = (loss_gradient(model, v, target) for v in (x, x + delta.view_as(x)))
        return (after - before).norm().item()

    assert values[-1].item() == pytest.approx(found, rel=1e-10)
    assert moved_by(vectors[:, -1]) == pytest.approx(found * size, rel=1e-3)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(5):
        direction = torch.randn(x.numel(), generator=generator, dtype=torch.float64)
        assert moved_by(direction) < found * size


@pytest.mark.parametrize("settings", [{"max_classes": 1}, {"tolerance": -0.1}, {"tolerance": 2}])
def test_bad_arguments_are_refused(settings):
    with pytest.raises(ValueError, match="max_classes is at least 2"):
        loss_hessian_eigenvalue(network(0, 3), images(0), **settings)
