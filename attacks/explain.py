"""What an attack is given of the user's model: a few callables, and nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor


class Explain(Protocol):
    """Raw attribution maps and logits of perturbed images."""

    def __call__(self, x: Tensor, *, rows: Tensor, draw: int) -> tuple[Tensor, Tensor]:
        """Maps (B, C, H, W) and logits (B, classes) at ``x`` (B, C, H, W), pixel space.

        ``rows`` (B,) tells which of the attacked images each row is, ``draw`` which noise a
        smoothed map uses: equal draws share their noise, different ones are independent.
        """


class Predict(Protocol):
    """What the model says."""

    def __call__(self, x: Tensor) -> Tensor:
        """Logits (B, classes) at ``x`` (B, C, H, W), pixel space."""


class Margin(Protocol):
    """Direction that keeps the label."""

    def __call__(self, x: Tensor, *, rows: Tensor) -> Tensor:
        """Gradient (B, C, H, W) of the explained logit minus the largest other logit."""


class Pullback(Protocol):
    """Exact second derivative."""

    def __call__(self, x: Tensor, v: Tensor, *, rows: Tensor, draw: int) -> Tensor:
        """Gradient (B, C, H, W) of ⟨a(x), v⟩ by ``x``, a(x) the raw map: Jᵀv."""


class DifferencedPullback(Protocol):
    """Jᵀv with every second derivative taken as a difference of gradients of the true model."""

    def __call__(self, x: Tensor, v: Tensor, *, rows: Tensor, draw: int, length: Tensor) -> Tensor:
        """As :class:`Pullback`; a difference goes ``length`` (B,) to each side of a point."""


class Generators(Protocol):
    """Where the randomness of each image comes from."""

    def __call__(self, rows: Tensor, restart: int) -> list[torch.Generator]:
        """One generator for each of ``rows`` (B,); it depends on image and restart alone."""


@dataclass(frozen=True, kw_only=True)
class Twin:
    """The model with every kink smoothed, as a surrogate to differentiate.

    Attributes
    ----------
    explain
        Maps of the surrogate.
    pullback
        Its exact second derivative.
    """

    explain: Explain
    pullback: Pullback


class MakeTwin(Protocol):
    """Surrogates of growing faithfulness."""

    def __call__(self, beta: float) -> Twin:
        """The surrogate whose ramps have sharpness β; it tends to the model as β grows."""
