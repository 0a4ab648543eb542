"""What an attack is given of the user's model: two callables, and nothing else."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor


class Explain(Protocol):
    """Raw attribution maps and logits of perturbed images."""

    def __call__(self, x: Tensor, *, rows: Tensor, draw: int) -> tuple[Tensor, Tensor]:
        """Maps (B, C, H, W) and logits (B, classes) at ``x`` (B, C, H, W), pixel space.

        ``rows`` (B,) tells which of the attacked images each row is, ``draw`` which noise a
        smoothed map uses: equal draws share their noise, different ones are independent.
        """


class Margin(Protocol):
    """Direction that keeps the label."""

    def __call__(self, x: Tensor, *, rows: Tensor) -> Tensor:
        """Gradient (B, C, H, W) of the explained logit minus the largest other logit."""
