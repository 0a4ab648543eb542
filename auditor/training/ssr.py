"""SSR: train a network whose loss is hardly curved, so that its gradients keep their direction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from auditor.bounds.hessian import loss_hessian_eigenvalue
from auditor.errors import InputError
from auditor.training.pgd import evaluating


@dataclass(frozen=True, kw_only=True)
class Ssr:
    """Smooth surface regularization: (1 − β)·cross-entropy + β·s·mean λ_max (S3 Def. 7).

    Attributes
    ----------
    beta
        Share of the regularizer, from 0 (natural training) to below 1.
    scale
        s, positive; 1 suits pixels in [0, 1] (S3 C2; its 1e6 is for pixels in [0, 255]).
    """

    name: ClassVar[str] = "ssr"

    beta: float = 0.3
    scale: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.beta < 1:
            raise InputError(f"beta {self.beta:g}: out of range. Give a number in [0, 1).")
        if not self.scale > 0:
            raise InputError(f"scale {self.scale:g}: out of range. Give a positive number.")

    def loss(self, model: nn.Module, x: Tensor, y: Tensor, generator: torch.Generator) -> Tensor:
        """Loss (a scalar) of images (B, C, H, W) in [0, 1] of classes ``y`` (B,)."""
        fit = F.cross_entropy(model(x), y)
        return (1 - self.beta) * fit + self.beta * self.scale * curvature(model, x).mean()


def curvature(model: nn.Module, x: Tensor) -> Tensor:
    """Largest eigenvalue (B,) of the closed-form loss Hessian, differentiable by the weights.

    The eigenvalue is ‖Bu‖², u the top eigenvector of the small Gram matrix BᵀB that
    :func:`loss_hessian_eigenvalue` finds, and by the Hellmann–Feynman theorem its derivative is
    that of ‖Bu‖² with u held fixed. Bu is one backward pass, so that one is differentiated
    instead of one for each class. The network is in eval mode meanwhile.

    Notes
    -----
    **Choice**: no surrogate for ReLU. The Jacobian of the logits depends on the weights also
    where the pattern of active units is fixed, and that derivative is exact wherever there is one.

    References
    ----------
    S3 Prop. 3 and B1; math section 9.
    """
    # The other kernels of attention have no second derivative.
    with evaluating(model), sdpa_kernel(SDPBackend.MATH):
        u = loss_hessian_eigenvalue(model, x).eigenvector
        inputs = x.detach().requires_grad_()
        logits = model(inputs)
        root = (logits.log_softmax(dim=1) / 2).exp()  # √p, whose derivative stays finite at p = 0
        of_logits = root * u - root.square() * (root * u).sum(dim=1, keepdim=True)
        (along,) = torch.autograd.grad(logits, inputs, of_logits, create_graph=True)
    squared: Tensor = along.flatten(1).square().sum(dim=1)
    return squared
