"""Closed-form input Hessian of the cross-entropy loss, for networks that are linear in pieces."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True, eq=False)
class LossCurvature:
    """Largest eigenvalue of the loss Hessian of every image.

    Attributes
    ----------
    eigenvalue
        float64, shape (B,), not negative, in loss per squared pixel unit. Exact where
        `neglected_mass` is zero, else a lower bound.
    neglected_mass
        float64, shape (B,): probability of the classes that were left out, a ratio in [0, 1].
    eigenvector
        Unit eigenvector (B, c) of the Gram matrix BᵀB to that eigenvalue, zero at the classes
        that were left out.
    classes_used
        Backward passes made: the most classes that any image of the batch needed.
    """

    eigenvalue: Tensor
    eigenvector: Tensor
    neglected_mass: Tensor
    classes_used: int


def loss_hessian_eigenvalue(
    model: Callable[[Tensor], Tensor],
    x: Tensor,
    *,
    max_classes: int = 20,
    tolerance: float = 1e-3,
) -> LossCurvature:
    """Largest eigenvalue of the input Hessian of the cross-entropy loss (S3 Prop. 3, B1).

    Where the logits are linear around `x` (a ReLU network away from its kinks), the Hessian is
    H̃ = W(diag p − ppᵀ)Wᵀ, W the d×c Jacobian of the logits, whichever class the loss aims at; for
    a smooth network this is only its Gauss–Newton part. Its non-zero eigenvalues are those of
    the small Gram matrix BᵀB, B's columns being √pᵢ(wᵢ − w̄) with w̄ = Σ pᵢwᵢ. It concerns the
    gradient of the *loss*, is near zero for confident predictions, and says nothing of the map of
    a logit.

    Up to `max_classes` classes all are used and the value is exact. Of more classes each image
    keeps its leading ones S until the neglected probability is below `tolerance`, at least two
    and at most `max_classes`. H̃ is the covariance of the class gradients under p, so by the law
    of total variance H̃ ⪰ P(S)·Cov(w | S): the eigenvalue of the kept part is a lower bound.

    Parameters
    ----------
    model
        Images (B, C, H, W) → logits (B, c), each row from its own image only.
    x
        Images in pixel space.
    max_classes
        Most backward passes for a batch; memory is that many gradients of every image.
    tolerance
        Probability that may be neglected where there are more classes, in [0, 1].

    Raises
    ------
    ValueError
        If `max_classes` is below 2 or `tolerance` outside of [0, 1].
    """
    if max_classes < 2 or not 0 <= tolerance <= 1:
        raise ValueError("max_classes is at least 2 and tolerance lies in [0, 1]")
    with torch.enable_grad():
        inputs = x.detach().requires_grad_()
        logits = model(inputs)
        order, mass, neglected = _leading_classes(logits.detach(), max_classes, tolerance)
        chosen = logits.gather(1, order).sum(dim=0)
        last = len(chosen) - 1
        rows = [
            torch.autograd.grad(score, inputs, retain_graph=j < last)[0].flatten(1)
            for j, score in enumerate(chosen)
        ]
    jacobian = torch.stack(rows, dim=1)
    mass = mass.to(jacobian.dtype)[:, :, None]
    # The mean is removed before any product is formed, lest nearly equal gradients cancel.
    centered = mass.sqrt() * (jacobian - (mass * jacobian).sum(1, True) / mass.sum(1, True))
    values, vectors = torch.linalg.eigh((centered @ centered.mT).double())
    return LossCurvature(
        eigenvalue=values[:, -1].clamp(min=0),
        eigenvector=torch.zeros_like(logits, requires_grad=False).scatter(
            1, order, vectors[:, :, -1].to(logits.dtype)
        ),
        neglected_mass=neglected,
        classes_used=len(rows),
    )


def _leading_classes(
    logits: Tensor, max_classes: int, tolerance: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Classes to use (B, r), their probabilities (zero: not used), the mass left out (B,)."""
    p, order = logits.double().softmax(dim=1).sort(dim=1, descending=True, stable=True)
    place = torch.arange(p.shape[1], device=p.device)
    if p.shape[1] <= max_classes:
        kept = torch.ones_like(p, dtype=torch.bool)
    else:
        # Every image decides for itself, so that its value does not depend on its batch.
        left_before = p.flip(1).cumsum(1).flip(1)
        kept = (left_before >= tolerance) & (place < max_classes) | (place < 2)
    used = int(kept.sum(dim=1).max())
    return order[:, :used], p.where(kept, 0.0)[:, :used], p.where(~kept, 0.0).sum(dim=1)


def loss_gradient(model: Callable[[Tensor], Tensor], x: Tensor, target: Tensor) -> Tensor:
    """Input gradient of the cross-entropy loss at class `target`.

    Parameters
    ----------
    model
        Images (B, C, H, W) → logits (B, c), each row from its own image only.
    x
        Images in pixel space, shape (B, C, H, W).
    target
        Class of every image, shape (B,), integer.

    Returns
    -------
    Tensor
        Shape (B, C, H, W), in loss per pixel unit.
    """
    with torch.enable_grad():
        inputs = x.detach().requires_grad_()
        loss = functional.cross_entropy(model(inputs), target, reduction="sum")
        return torch.autograd.grad(loss, inputs)[0]
