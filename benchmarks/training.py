"""Speed of the training recipes' inner parts against the plain way to compute the same.

    python benchmarks/training.py [--quick] [--json FILE]

Both sides give the same values and the same gradients; tests/auditor/training checks that.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parent.parent))

from auditor.training.architectures import lenet
from auditor.training.filters import Median
from auditor.training.ssr import curvature
from benchmarks.timing import Row, main, race


def ssr(quick: bool) -> list[Row]:
    """One step's gradient of SSR's regularizer: S2's network, 10 classes."""
    model, x = lenet(), torch.rand(16 if quick else 64, 1, 28, 28)

    def ours() -> None:
        torch.autograd.grad(curvature(model, x).mean(), _weights(model), materialize_grads=True)

    def whole() -> None:
        value = through_every_class(model, x).mean()
        torch.autograd.grad(value, _weights(model), materialize_grads=True)

    name = f"SSR, {len(x)} images, s"
    peer = "eigvalsh of the Gram matrix, differentiated"
    return [race(name, ours, peer, whole, target=1.3, repeats=3 if quick else 7)]


def median(quick: bool) -> list[Row]:
    """Forward and backward pass of the 3×3 median of S2's first feature map."""
    x = torch.randn(16 if quick else 64, 32, 14, 14).relu_().requires_grad_()

    def ours() -> None:
        torch.autograd.grad(Median()(x).sum(), x)

    def unfolded() -> None:
        padded = nn.functional.pad(x, (1, 1, 1, 1), mode="reflect")
        windows = padded.unfold(2, 3, 1).unfold(3, 3, 1).flatten(4)
        torch.autograd.grad(windows.median(dim=4).values.sum(), x)

    name = f"3×3 median, {len(x)} maps of 32×14×14, s"
    peer = "torch.median of unfolded windows"
    return [race(name, ours, peer, unfolded, target=2.0, repeats=3 if quick else 7)]


def through_every_class(model: nn.Module, x: Tensor) -> Tensor:
    """The largest eigenvalue (B,) with a derivative through the gradients of all classes."""
    inputs = x.detach().requires_grad_()
    logits = model(inputs)
    rows = [
        torch.autograd.grad(score, inputs, create_graph=True)[0].flatten(1)
        for score in logits.sum(dim=0)
    ]
    jacobian, p = torch.stack(rows, dim=1), logits.softmax(dim=1)[:, :, None]
    centered = p.sqrt() * (jacobian - (p * jacobian).sum(dim=1, keepdim=True))
    return torch.linalg.eigvalsh(centered @ centered.mT)[:, -1]


def _weights(model: nn.Module) -> list[nn.Parameter]:
    return list(model.parameters())


if __name__ == "__main__":
    torch.manual_seed(0)
    torch.set_num_threads(1)
    main(__doc__, [ssr, median])
