"""Count what a user's code asks of a model."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves


@dataclass
class Count:
    """Images that went through a network: ``forwards`` into it, ``backwards`` out of it again."""

    forwards: int = 0
    backwards: int = 0

    @property
    def gradients(self) -> int:
        """Forward passes that were followed by a backward pass, at least."""
        return self.backwards

    @property
    def only_forwards(self) -> int:
        """Forward passes without a backward pass."""
        return max(0, self.forwards - self.backwards)


@contextlib.contextmanager
def counting(model: nn.Module) -> Iterator[Count]:
    """Count the images that pass through the user's network while this lasts.

    Calls of single layers alone are not seen.
    """
    count = Count()

    def forward(_: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        images = _first(inputs)
        returned = _first(output)
        size = 1 if images is None else len(images)
        count.forwards += size
        if returned is not None and returned.requires_grad:
            returned.register_hook(_backward(count, size))  # type: ignore[no-untyped-call]

    network = getattr(model, "network", model)
    handle = network.register_forward_hook(forward)
    try:
        yield count
    finally:
        handle.remove()


def _backward(count: Count, size: int) -> Callable[[Tensor], None]:
    def add(_: Tensor) -> None:
        count.backwards += size

    return add


def _first(values: Any) -> Tensor | None:
    return next((leaf for leaf in tree_leaves(values) if isinstance(leaf, torch.Tensor)), None)
