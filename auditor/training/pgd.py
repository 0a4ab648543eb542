"""Projected gradient descent: images that the network gets wrong, near those it is given."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attacks.ball import L2, Linf
from auditor.errors import InputError

BALLS: dict[str, Linf | L2] = {"linf": Linf(), "l2": L2()}


@dataclass(frozen=True, kw_only=True)
class Pgd:
    """Steps up the cross-entropy loss from a random start, each projected into ball and box.

    Attributes
    ----------
    epsilon
        Radius of the ball in pixel units, positive: of each pixel (ℓ∞) or in all (ℓ₂).
    steps
        How many.
    step
        Length of a step in pixel units. 0 stands for S2's ε/10 or, where so few steps would not
        get through the ball, for 2.5·ε/steps (Madry et al.).
    norm
        ``"linf"`` or ``"l2"``.

    Raises
    ------
    InputError
        If a setting is out of range.

    References
    ----------
    Madry et al. 2018, *Towards Deep Learning Models Resistant to Adversarial Attacks*; S2 A.1.
    """

    epsilon: float = 0.1
    steps: int = 40
    step: float = 0.0
    norm: Literal["linf", "l2"] = "linf"

    def __post_init__(self) -> None:
        if self.norm not in BALLS:
            raise InputError(f"norm {self.norm}: choose linf or l2.")
        if not 0 < self.epsilon <= (1 if self.norm == "linf" else 1e6):
            raise InputError(
                f"epsilon {self.epsilon:g}: out of range. Pixels lie in [0, 1]: give a positive "
                "number, for linf at most 1 (8/255 is 0.031)."
            )
        if self.steps < 1 or self.step < 0:
            raise InputError("PGD takes at least one step, of a length that is not negative.")

    @property
    def length(self) -> float:
        """Length of a step in pixel units."""
        return self.step or self.epsilon * max(0.1, 2.5 / self.steps)

    def __call__(
        self, model: nn.Module, x: Tensor, y: Tensor, *, generator: torch.Generator
    ) -> Tensor:
        """Adversarial images for images (B, C, H, W) in [0, 1] of classes ``y`` (B,).

        The network is in eval mode meanwhile, so that dropout does not blur the gradient and
        batch normalization learns nothing from the attack. Its weights get no gradient.
        """
        ball, radius = BALLS[self.norm], torch.tensor(self.epsilon, device=x.device)
        with evaluating(model):
            delta = ball.start(x.cpu(), radius.cpu(), [generator] * len(x)).to(x.device)
            for _ in range(self.steps):
                gradient = _ascent(model, x + delta, y)
                delta = ball.project(x, delta + self.length * ball.unit(gradient), radius)
        return x + delta

    def survivors(
        self, model: nn.Module, x: Tensor, y: Tensor, *, generator: torch.Generator
    ) -> Tensor:
        """Which images (B,) are classified right at the start and at *every* step.

        Stricter than looking at the last step only, and faster: an image that is lost is not
        attacked any further.
        """
        ball, radius = BALLS[self.norm], torch.tensor(self.epsilon, device=x.device)
        with evaluating(model), torch.no_grad():
            alive = (model(x).argmax(dim=1) == y).nonzero()[:, 0]
            start = ball.start(x.cpu(), radius.cpu(), [generator] * len(x)).to(x.device)
            delta = start[alive]
            for _ in range(self.steps):
                if not len(alive):
                    break
                near, classes = x[alive], y[alive]
                gradient, right = _ascent_and_right(model, near + delta, classes)
                moved = delta + self.length * ball.unit(gradient)
                alive, delta = alive[right], ball.project(near, moved, radius)[right]
            if len(alive):
                alive = alive[model(x[alive] + delta).argmax(dim=1) == y[alive]]
        return torch.zeros(len(x), dtype=torch.bool).index_fill(0, alive.cpu(), True)


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put a network into eval mode for a while; each of its parts is then as it was."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


def _ascent(model: Callable[[Tensor], Tensor], x: Tensor, y: Tensor) -> Tensor:
    return _ascent_and_right(model, x, y)[0]


def _ascent_and_right(
    model: Callable[[Tensor], Tensor], x: Tensor, y: Tensor
) -> tuple[Tensor, Tensor]:
    """Gradient of the loss by the images, and which of them (B,) are classified right."""
    with torch.enable_grad():
        leaf = x.detach().requires_grad_()
        logits = model(leaf)
        (gradient,) = torch.autograd.grad(F.cross_entropy(logits, y, reduction="sum"), leaf)
    return gradient, logits.detach().argmax(dim=1) == y
