"""Grad-CAM and Grad-CAM++: which places of a layer speak for the class."""

from __future__ import annotations

import contextlib
import math
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from auditor.attributions.traced import NotApplicableError, Traced, positive, scores

_LAST: weakref.WeakKeyDictionary[nn.Module, str] = weakref.WeakKeyDictionary()
"""Last convolution of each model that was asked, so that it is looked for once."""


@dataclass(frozen=True, kw_only=True)
class GradCam(Traced):
    """relu(Σ_k α_k A_k), α_k the mean gradient of channel k. Source: Selvaraju 2017; S0 C.2.

    The map of the layer's size is scaled up bilinearly and shared equally among the image's
    channels, so that its magnitude is the heat map itself.

    Attributes
    ----------
    layer
        Name of the layer, as ``model.named_modules()`` has it. Empty: the last convolution that
        sees more than one place, found for each model by itself. The layer's output may be (B, K,
        H, W), (B, H, W, K) of a plain ``LayerNorm``, or tokens (B, N, K) of a square grid, with or
        without a class token in front.
    """

    layer: str = ""

    name: ClassVar[str] = "grad_cam"

    @property
    def identity(self) -> str:
        """The layer, if it was named."""
        return f"layer={self.layer}" if self.layer else ""

    def trace(self, model: Any, x: Tensor, target: Tensor, *, graph: bool) -> tuple[Tensor, Tensor]:
        """See :class:`Traced`."""
        layer, owner = self._layer(model, x)
        with _kept(layer) as seen:
            logits = model(x)
        if len(seen) != 1:
            times = "never runs" if not seen else f"runs {len(seen)} times"
            raise NotApplicableError(
                f"{self.name}: layer {owner} {times} in a pass. Name another: layer=NAME."
            )
        if not seen[0].requires_grad:
            raise NotApplicableError(
                f"{self.name}: no gradient reaches layer {owner}. Name another: layer=NAME."
            )
        (gradient,) = torch.autograd.grad(
            scores(logits, target), seen[0], create_graph=graph, materialize_grads=True
        )
        channels_last = type(layer) is nn.LayerNorm
        activation, slope = (_grid(t, channels_last, owner) for t in (seen[0], gradient))
        heat = positive((self.weights(activation, slope) * activation).sum(dim=1, keepdim=True))
        heat = F.interpolate(heat, size=x.shape[2:], mode="bilinear", align_corners=False)
        return (heat / x.shape[1]).expand_as(x), logits

    def weights(self, activation: Tensor, gradient: Tensor) -> Tensor:
        """Weights (B, K, 1, 1) of the channels of a layer (B, K, h, w)."""
        return gradient.mean(dim=(2, 3), keepdim=True)

    def _layer(self, model: Any, x: Tensor) -> tuple[nn.Module, str]:
        if not isinstance(model, nn.Module):
            raise NotApplicableError(f"{self.name}: the model is a function, without layers.")
        abilities = getattr(model, "capabilities", None)
        if abilities is not None and not abilities.layers.able:
            raise NotApplicableError(f"{self.name}: {abilities.layers.reason}")
        inner = getattr(model, "network", model)
        name = self.layer or _last_convolution(model, inner, x)
        if not name:
            raise NotApplicableError(
                f"{self.name}: the model has no convolution that sees more than one place. Name "
                "a layer with a grid of places: layer=NAME."
            )
        try:
            return inner.get_submodule(name), name
        except AttributeError:
            raise NotApplicableError(
                f"{self.name}: {type(inner).__name__} has no layer {name!r}. Name one that it has."
            ) from None


@dataclass(frozen=True, kw_only=True)
class GradCamPlusPlus(GradCam):
    """Grad-CAM with weights Σ α relu(∂f/∂A), α = g²/(2g² + ΣA g³). Source: Chattopadhyay 2018."""

    name: ClassVar[str] = "grad_cam_pp"

    def weights(self, activation: Tensor, gradient: Tensor) -> Tensor:
        """Weights (B, K, 1, 1), equation (19) of the paper; α is 0 where the gradient is."""
        # α with g at unit scale, for the squares of small gradients underflow.
        size = gradient.abs().amax(dim=(1, 2, 3), keepdim=True)
        g = gradient / size.clamp_min(torch.finfo(gradient.dtype).tiny)
        total = activation.sum(dim=(2, 3), keepdim=True) * size
        below = 2 * g.square() + total * g.pow(3)
        share = torch.where(below != 0, g.square() / torch.where(below != 0, below, 1.0), 0.0)
        return (share * positive(gradient)).sum(dim=(2, 3), keepdim=True)


@contextlib.contextmanager
def _kept(layer: nn.Module) -> Iterator[list[Tensor]]:
    """Outputs of a layer, each safe from what is done to it in place afterwards."""
    seen: list[Tensor] = []

    def keep(_: nn.Module, __: Any, output: Any) -> Any:
        if not isinstance(output, Tensor):
            return None
        seen.append(output)
        return output.clone()

    handle = layer.register_forward_hook(keep)
    try:
        yield seen
    finally:
        handle.remove()


def _last_convolution(model: nn.Module, inner: nn.Module, x: Tensor) -> str:
    """Name of the last convolution that gives more than one place; empty if there is none."""
    if model not in _LAST:
        found: list[str] = []
        handles = []

        def watch(name: str) -> Any:
            def see(_: nn.Module, __: Any, output: Tensor) -> None:
                if output.shape[2:].numel() > 1:
                    found.append(name)

            return see

        for name, module in inner.named_modules():
            if isinstance(module, nn.Conv2d):
                handles.append(module.register_forward_hook(watch(name)))
        try:
            with torch.no_grad():
                model(x[:1].detach())
        finally:
            for handle in handles:
                handle.remove()
        _LAST[model] = found[-1] if found else ""
    return _LAST[model]


def _grid(values: Tensor, channels_last: bool, layer: str) -> Tensor:
    """Values (B, K, h, w) of a layer's output."""
    if values.ndim == 4:
        return values.movedim(3, 1) if channels_last else values
    if values.ndim == 3:
        tokens = values.shape[1]
        for extra in (0, 1):
            side = math.isqrt(tokens - extra)
            if side > 1 and side * side == tokens - extra:
                return values[:, extra:].transpose(1, 2).reshape(len(values), -1, side, side)
    raise NotApplicableError(
        f"Grad-CAM: layer {layer} returns {tuple(values.shape)}, which is no grid of places. "
        "Name another: layer=NAME."
    )
