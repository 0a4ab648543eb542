"""Our batched Lanczos against eigsh image by image and curvlinops; many classes, no Jacobian.

    python benchmarks/curvature.py [--quick] [--json FILE]

The network of the demo (S2's CNN on MNIST) with softplus ramps: the dominant eigenvalue of a
logit's input Hessian. scipy gets a Hessian-vector product by double backward, curvlinops its own
operator with the image as the parameter; ``scipy.sparse.linalg.eigsh`` solves both, with the same
tolerance. EfficientNet-Lite0 with photographs: the loss's largest eigenvalue over all 1,000
classes, and how many gradient evaluations it takes.
"""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

import numpy as np
import torch
from scipy.sparse.linalg import LinearOperator, eigsh
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parent.parent))

from attacks import Surrogate
from auditor.bounds.curvature import Lanczos
from auditor.bounds.hessian import loss_hessian_eigenvalue
from auditor.evaluation import Evaluator, Meter
from auditor.probes.surrogates import smooth_evaluator
from benchmarks.attacks import photographs, subjects
from benchmarks.timing import Row, bounded, main, race

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # it imports torch.jit
    from curvlinops import HessianLinearOperator

BETA = 30.0
TOLERANCE = 1e-4
EVALUATIONS = 60


class Pictured(nn.Module):
    """A network whose only parameter is its image, as curvlinops wants it."""

    def __init__(self, network: nn.Module, image: Tensor) -> None:
        super().__init__()
        self.network = [network]  # in a list, so that its weights are no parameters
        self.image = nn.Parameter(image[None].clone())

    def forward(self, _: Tensor) -> Tensor:
        """Logits (1, classes) of the image, ramps smoothed."""
        with Surrogate(BETA):
            return self.network[0](self.image)


class Chosen(nn.Module):
    """The logit of the explained class in the place of a loss."""

    reduction = "sum"

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Sum of the chosen logits."""
        return logits.gather(1, target[:, None]).sum()


def scipy_eigenvalue(network: nn.Module, image: Tensor, target: int) -> float:
    """The dominant eigenvalue by eigsh with double backward."""
    size = image.numel()

    def product(v: np.ndarray) -> np.ndarray:
        leaf = image[None].clone().requires_grad_()
        with Surrogate(BETA):
            score = network(leaf)[0, target]
            (slope,) = torch.autograd.grad(score, leaf, create_graph=True)
        weight = torch.from_numpy(v.astype(np.float32)).reshape(slope.shape)
        return torch.autograd.grad((slope * weight).sum(), leaf)[0].flatten().double().numpy()

    return _eigsh(LinearOperator((size, size), matvec=product, dtype=np.float64))


def curvlinops_eigenvalue(network: nn.Module, image: Tensor, target: int) -> float:
    """The same with the operator of curvlinops."""
    model = Pictured(network, image)
    operator = HessianLinearOperator(
        model,
        Chosen(),
        list(model.parameters()),
        [(torch.zeros(1, 1), torch.tensor([target]))],
        check_deterministic=False,
    )
    return _eigsh(operator.to_scipy())


def _eigsh(operator: LinearOperator) -> float:
    start = np.random.default_rng(0).normal(size=operator.shape[0]).astype(operator.dtype)
    values = eigsh(operator, k=1, which="LM", tol=TOLERANCE, v0=start, return_eigenvectors=False)
    return float(values[0])


def generators(count: int) -> list[torch.Generator]:
    """One for each image."""
    return [torch.Generator().manual_seed(i) for i in range(count)]


def logit(quick: bool) -> list[Row]:
    """Time an image, and that both sides agree."""
    network, x, target = subjects()
    count = 16 if quick else 64
    x, target = x[:count], target[:count]
    smooth = smooth_evaluator(Evaluator(model=network, batch=64), BETA)
    lanczos = Lanczos(tolerance=TOLERANCE)
    ours = lanczos.of_logit(smooth, x, target, generators(count)).eigenvalue.numpy()
    rows = []
    for name, solve, goal in (
        ("scipy eigsh", scipy_eigenvalue, 5.0),
        ("curvlinops + eigsh", curvlinops_eigenvalue, 5.0),
    ):

        def theirs(solve: object = solve) -> np.ndarray:
            pairs = zip(x, target.tolist(), strict=True)
            return np.array([solve(network, image, label) for image, label in pairs])

        difference = np.abs(theirs() / ours - 1).max()
        rows.append(
            race(
                f"dominant eigenvalue of a logit, {count} digits, an image",
                lambda: lanczos.of_logit(smooth, x, target, generators(count)),
                name,
                theirs,
                target=goal,
                repeats=3,
                per=count,
            )
        )
        rows.append(
            bounded(
                "largest relative difference of eigenvalues",
                float(difference),
                "ratio",
                peer=name,
                target=10 * TOLERANCE,
                n=count,
            )
        )
    return rows


def loss(quick: bool) -> list[Row]:
    """All classes of EfficientNet-Lite0 without its Jacobian, against the full Gram matrix."""
    network, x, _ = photographs()
    x = x[: 2 if quick else 4]
    meter = Meter()
    evaluator = Evaluator(model=network, batch=4, meter=meter)
    found = Lanczos(steps=20, tolerance=TOLERANCE).of_loss(evaluator, x, generators(len(x)))
    spent = meter.gradients["audit"] / len(x)
    exact = loss_hessian_eigenvalue(network, x, max_classes=1000).eigenvalue
    error = (found.eigenvalue / exact - 1).abs().max().item()
    return [
        bounded(
            "gradient evaluations an image, 1,000 classes",
            spent,
            "gradients",
            peer="closed form: 1,000",
            target=EVALUATIONS,
            n=len(x),
        ),
        bounded(
            "relative error of the loss's eigenvalue, 1,000 classes",
            error,
            "ratio",
            peer="full Gram matrix",
            target=TOLERANCE,
            n=len(x),
        ),
    ]


if __name__ == "__main__":
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    main(__doc__, [logit, loss])
