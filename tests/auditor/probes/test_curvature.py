from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from auditor.evaluation import Evaluator
from auditor.probes.curvature import curvature
from auditor.probes.subject import Subject
from auditor.records import Key, Records

SHAPE = (1, 4, 4)


def network(classes: int = 5) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(
            nn.Flatten(), nn.Linear(16, 12), nn.ReLU(), nn.Linear(12, classes)
        ).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(2)
    return model.requires_grad_(False)


def subject(model: nn.Module, count: int = 5) -> Subject:
    x = torch.rand(count, *SHAPE, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return Subject(x=x, target=model(x).argmax(dim=1), images=tuple(range(count)), k=3, seed=0)


def value(records: Records, metric: str, epsilon: float | None = None) -> np.ndarray:
    return records[Key(probe="curvature", metric=metric, epsilon=epsilon)]


@pytest.mark.parametrize("batch", [1, 2, 64])
def test_the_eigenvalue_is_that_of_the_dense_hessian(batch):
    model = network()
    images = subject(model)
    evaluator = Evaluator(model=model, batch=batch, probe="curvature")
    records = curvature(evaluator, images, {}, classes=5, max_classes=20)
    expected = []
    for image, label in zip(images.x, images.target, strict=True):

        def loss(flat: Tensor, label: Tensor = label) -> Tensor:
            return functional.cross_entropy(model(flat.view(1, *SHAPE)), label[None])

        hessian = torch.autograd.functional.hessian(loss, image.flatten())
        expected.append(torch.linalg.eigvalsh(hessian)[-1].item())
    # Double precision, eigenvalues of 16 × 16 and 5 × 5 matrices.
    assert value(records, "hessian_eigenvalue").tolist() == pytest.approx(expected, rel=1e-9)
    # Five classes for the closed form, one gradient of the loss at the clean image.
    assert evaluator.meter.gradients == {"curvature": 5 * 5 + 5}


def test_many_classes_are_exact_by_lanczos():
    model = network(classes=30)
    images = subject(model)
    evaluator = Evaluator(model=model, batch=64)
    found = curvature(evaluator, images, {}, classes=30, max_classes=3)
    exact = curvature(evaluator, images, {}, classes=30, max_classes=30)
    values = value(found, "hessian_eigenvalue")
    assert values.tolist() == pytest.approx(value(exact, "hessian_eigenvalue").tolist(), rel=1e-4)
    assert (value(found, "hessian_residual") <= 1e-4 * values).all()


def test_loss_gradient_drift_of_a_linear_model_by_hand():
    """∇L = Wᵀ(p − y) for logits Wx."""
    weight = torch.randn(3, 16, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    linear = nn.Linear(16, 3, bias=False).double()
    linear.weight.data = weight
    model = nn.Sequential(nn.Flatten(), linear).requires_grad_(False)
    images = subject(model, 4)
    generator = torch.Generator().manual_seed(3)
    delta = 0.05 * torch.randn(images.x.shape, generator=generator, dtype=torch.float64)
    delta[1], delta[2] = torch.nan, 0
    records = curvature(
        Evaluator(model=model, batch=3),
        images,
        {2.0: delta, 8.0: delta * 2},
        classes=5,
        max_classes=20,
    )

    def gradient(x: np.ndarray, label: int) -> np.ndarray:
        z = weight.numpy() @ x
        p = np.exp(z - z.max()) / np.exp(z - z.max()).sum()
        return weight.numpy().T @ (p - np.eye(3)[label])

    for epsilon, factor in ((2.0, 1), (8.0, 2)):
        slopes, sizes = (
            value(records, "loss_gradient_drift", epsilon),
            value(records, "rho", epsilon),
        )
        for row in (0, 3):
            x, d = (t[row].flatten().numpy() for t in (images.x, delta * factor))
            label = int(images.target[row])
            rho = np.linalg.norm(d)
            drift = np.linalg.norm(gradient(x + d, label) - gradient(x, label)) / rho
            assert sizes[row] == pytest.approx(rho, rel=1e-12)
            assert slopes[row] == pytest.approx(drift, rel=1e-9)
        # Nothing kept the label: excluded. Nothing was moved: no slope.
        assert np.isnan([slopes[1], sizes[1], slopes[2]]).all()
        assert sizes[2] == 0
        assert value(records, "infeasible", epsilon).tolist() == [0, 1, 0, 0]


def test_small_steps_along_the_leading_eigenvector_reach_the_eigenvalue():
    """The measured drift and the eigenvalue are one quantity to first order (S3 Thm 3)."""
    model = network()
    images = subject(model)
    steps = []
    for image, label in zip(images.x, images.target, strict=True):
        hessian = torch.autograd.functional.hessian(
            lambda flat, c=label: functional.cross_entropy(model(flat.view(1, *SHAPE)), c[None]),
            image.flatten(),
        )
        steps.append(1e-6 * torch.linalg.eigh(hessian).eigenvectors[:, -1].view(SHAPE))
    records = curvature(
        Evaluator(model=model, batch=64),
        images,
        {1.0: torch.stack(steps)},
        classes=5,
        max_classes=20,
    )
    # Second order in a step of 1e-6, and rounding 1e-16/1e-6.
    np.testing.assert_allclose(
        value(records, "loss_gradient_drift", 1.0),
        value(records, "hessian_eigenvalue"),
        rtol=1e-4,
    )
