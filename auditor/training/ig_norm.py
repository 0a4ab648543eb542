"""IG-NORM: train a network whose loss has small attributions for the worst change nearby."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from attacks.ball import Linf
from auditor.errors import InputError
from auditor.training.pgd import evaluating


@dataclass(frozen=True, kw_only=True)
class IgNorm:
    """Cross-entropy + γ·max ‖IG of the loss from x to x′‖₁ over ‖x′ − x‖∞ ≤ ε.

    Attributes
    ----------
    weight
        γ, positive.
    epsilon, step
        Radius of the ball and length of a step in pixel units.
    steps
        Of the search for x′.
    points
        On the path, for the norm that is trained.
    search_points
        On the path, for the norm that the search climbs.

    References
    ----------
    Chen et al. 2019, *Robust Attribution Regularization*; settings of S3, Table 1 of C1.
    """

    name: ClassVar[str] = "ig_norm"

    weight: float = 0.1
    epsilon: float = 8 / 255
    step: float = 2 / 255
    steps: int = 7
    points: int = 50
    search_points: int = 5

    def __post_init__(self) -> None:
        if not 0 < self.epsilon <= 1:
            raise InputError(f"epsilon {self.epsilon:g}: out of range. Give a number in (0, 1].")
        if not (self.weight > 0 and self.step > 0):
            raise InputError("weight and step of ig_norm must be positive.")
        if min(self.steps, self.points, self.search_points) < 1:
            raise InputError("steps and points of ig_norm must be at least 1.")

    def loss(self, model: nn.Module, x: Tensor, y: Tensor, generator: torch.Generator) -> Tensor:
        """Loss (a scalar) of images (B, C, H, W) in [0, 1] of classes ``y`` (B,)."""
        ball, radius = Linf(), torch.tensor(self.epsilon, device=x.device)
        # The other kernels of attention have no second derivative.
        with evaluating(model), sdpa_kernel(SDPBackend.MATH):
            delta = ball.start(x.cpu(), radius.cpu(), [generator] * len(x)).to(x.device)
            for _ in range(self.steps):
                delta.requires_grad_()
                found = loss_attribution(model, x, x + delta, y, points=self.search_points)
                (climb,) = torch.autograd.grad(found.abs().sum(), delta)
                delta = ball.project(x, delta.detach() + self.step * climb.sign(), radius)
            found = loss_attribution(model, x, x + delta, y, points=self.points)
        norm = found.abs().flatten(1).sum(dim=1).mean()
        return F.cross_entropy(model(x), y) + self.weight * norm


def loss_attribution(model: nn.Module, x: Tensor, end: Tensor, y: Tensor, *, points: int) -> Tensor:
    """Integrated gradients (B, C, H, W) of the loss from ``x`` to ``end``, differentiable.

    (end − x) ⊙ ∫ ∇ℓ(x + α(end − x), y) dα by the midpoint rule; they sum to the change of the loss.
    """
    alphas = (torch.arange(points, device=x.device, dtype=x.dtype) + 0.5) / points
    way = end - x
    path = (x + alphas.reshape(-1, 1, 1, 1, 1) * way).flatten(0, 1)
    if not path.requires_grad:
        path.requires_grad_()
    value = F.cross_entropy(model(path), y.repeat(points), reduction="sum")
    (gradients,) = torch.autograd.grad(value, path, create_graph=True)
    return way * gradients.reshape(points, *x.shape).mean(dim=0)
