"""What a network makes of an image before its last linear layer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from auditor.capabilities import EAGER
from auditor.evaluation import Evaluator


@dataclass(frozen=True, kw_only=True, eq=False)
class Representation:
    """Where to look, or why there is nothing to look at.

    Attributes
    ----------
    layer
        The linear layer that the network calls last; ``None`` if there is none.
    reason
        Why there is none, in one sentence.
    """

    layer: nn.Linear | None = None
    reason: str = ""

    def watch(self, evaluator: Evaluator, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Logits (B, classes) of images (B, C, H, W), and the layer's input (B, features)."""
        if self.layer is None:
            return evaluator.logits(x), None
        with _inputs(self.layer) as seen:
            logits = evaluator.logits(x)
        return logits, torch.cat([part.flatten(1) for part in seen.inputs])


def last_linear(evaluator: Evaluator, x: Tensor) -> Representation:
    """The linear layer that the model calls last on the first of the images (B, C, H, W)."""
    model = evaluator.model
    if not isinstance(model, nn.Module):
        return Representation(reason="the model is a function: it has no layers to look into.")
    layers = getattr(model, "capabilities", EAGER).layers
    if not layers.able:
        return Representation(reason=layers.reason)
    called: list[tuple[nn.Linear, int]] = []

    def note(layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        assert isinstance(layer, nn.Linear)
        called.append((layer, len(_argument(args, kwargs))))

    with ExitStack() as stack:
        for module in model.modules():
            if isinstance(module, nn.Linear):
                stack.callback(module.register_forward_pre_hook(note, with_kwargs=True).remove)
        evaluator.logits(x[:1])
    if not called:
        return Representation(reason="the network calls no linear layer.")
    layer, rows = called[-1]
    if rows != 1 or sum(other is layer for other, _ in called) > 1:
        return Representation(reason="its last linear layer is not called once for each image.")
    return Representation(layer=layer)


@dataclass(frozen=True, eq=False)
class _Seen:
    inputs: list[Tensor] = field(default_factory=list)


@contextmanager
def _inputs(layer: nn.Linear) -> Iterator[_Seen]:
    seen = _Seen()

    def note(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        seen.inputs.append(_argument(args, kwargs).detach().cpu())

    handle = layer.register_forward_pre_hook(note, with_kwargs=True)
    try:
        yield seen
    finally:
        handle.remove()


def _argument(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    found = args[0] if args else kwargs["input"]
    assert isinstance(found, Tensor)
    return found
