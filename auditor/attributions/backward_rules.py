"""Guided backpropagation and DeepLIFT: another rule for the way back through nonlinearities."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from attacks.surrogate import operation
from auditor.attributions.path import BASELINES
from auditor.attributions.traced import NotApplicableError, Traced, positive, scores

CURVES = frozenset(
    (
        *("relu", "relu6", "hardtanh", "leaky_relu", "threshold", "elu", "selu", "celu", "gelu"),
        *("silu", "mish", "softplus", "sigmoid", "logsigmoid", "tanh", "hardswish", "hardsigmoid"),
        *("hardshrink", "softshrink", "softsign", "tanhshrink"),
    )
)
"""What DeepLIFT's rescale rule applies to: functions of each value by itself."""

NEAR = 1e-6
"""Below this difference from the baseline DeepLIFT takes the derivative, as captum does."""


@dataclass(frozen=True, kw_only=True)
class GuidedBackprop(Traced):
    """The gradient, but at each ReLU only what is positive goes back. Source: Springenberg 2014."""

    name: ClassVar[str] = "guided_backprop"
    identity: ClassVar[str] = ""

    def trace(self, model: Any, x: Tensor, target: Tensor, *, graph: bool) -> tuple[Tensor, Tensor]:
        """See :class:`Traced`."""
        _need_eager(model, self.name)
        guided = {"relu": _guided, "relu6": _guided, "hardtanh": _guided_if_ramp}
        rules = _Rules(guided, graph=graph)
        with rules:
            logits = model(x)
        if not rules.calls:
            raise NotApplicableError(
                f"{self.name}: the model has no ReLU, and without one this is the gradient. Use "
                "simple_grad."
            )
        return rules.gradient(scores(logits, target), x), logits


@dataclass(frozen=True, kw_only=True)
class DeepLift(Traced):
    """DeepLIFT, rescale rule: changes from a baseline instead of slopes. Source: Shrikumar 2017.

    (x − x₀) ⊙ m; m is the gradient with the slope at every nonlinearity replaced by (f(z) − f(z₀))/
    (z − z₀), z₀ its input for the baseline. In max-pooling the change of each maximum is shared
    between the places of both maxima. Products of activations, as in attention and in
    squeeze-and-excitation, have no rule: there the gradient is taken, and the map does not add up
    to f(x) − f(x₀) as it does elsewhere. captum's differs where max-pooling and a nonlinearity
    follow each other directly: there it does not add up.

    Attributes
    ----------
    baseline
        x₀: one of :data:`auditor.attributions.path.BASELINES`.
    """

    baseline: str = "black"

    name: ClassVar[str] = "deep_lift"
    price: ClassVar[int] = 2

    @property
    def identity(self) -> str:
        """The baseline."""
        return f"baseline={self.baseline}"

    def trace(self, model: Any, x: Tensor, target: Tensor, *, graph: bool) -> tuple[Tensor, Tensor]:
        """See :class:`Traced`."""
        _need_eager(model, self.name)
        start = BASELINES[self.baseline](x)
        both = torch.cat([x, start])
        curves = dict.fromkeys(CURVES, _rescaled)
        rules = _Rules({"max_pool2d": _pooled, **curves}, graph=graph)
        with rules:
            logits = model(both)[: len(x)]
        multipliers = rules.gradient(scores(logits, target), both)
        return (x - start) * multipliers[: len(x)], logits


class _Rules(TorchFunctionMode):
    """Within this context, some operations of the model go back by rules of their own.

    Only in :meth:`gradient`: a second derivative goes through the model as it is, and through the
    rules as functions of its activations. ``graph`` asks for what a second derivative needs.
    """

    def __init__(self, rules: Mapping[str, _Rule], *, graph: bool) -> None:
        super().__init__()
        self.rules = rules
        self.graph = graph
        self.calls = 0
        self.apply = False

    def __torch_function__(
        self,
        func: Any,
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = dict(kwargs or {})
        rule = self.rules.get(operation(func))
        if rule is None:
            return func(*args, **kwargs)
        z, *rest = args or (kwargs.pop("input"),)
        found = rule(self, z, lambda value: func(value, *rest, **kwargs), rest, kwargs)
        self.calls += found is not None
        return func(z, *rest, **kwargs) if found is None else found

    def gradient(self, score: Tensor, x: Tensor) -> Tensor:
        """What comes back to ``x`` by the rules."""
        self.apply = True
        try:
            return torch.autograd.grad(score, x, create_graph=self.graph)[0]
        finally:
            self.apply = False


_Call = Callable[[Tensor], Tensor]
_Rule = Callable[[_Rules, Tensor, _Call, Sequence[Any], Mapping[str, Any]], Tensor | None]
"""From the operation's input, the call as a function of it, and all other arguments; the output,
or ``None`` if the rule does not apply."""


def _guided(rules: _Rules, z: Tensor, call: _Call, args: Any, kwargs: Any) -> Tensor:
    found: Tensor = _PositiveOnly.apply(call(z), rules)
    return found


def _guided_if_ramp(rules: _Rules, z: Tensor, call: _Call, args: Any, kwargs: Any) -> Tensor | None:
    """For ReLU6, which calls hardtanh from 0 to 6."""
    lowest = args[0] if args else kwargs.get("min_val", -1)
    return _guided(rules, z, call, args, kwargs) if lowest == 0 else None


def _rescaled(rules: _Rules, z: Tensor, call: _Call, args: Any, kwargs: Any) -> Tensor | None:
    """f(z) whose slope is that from the baseline, the second half of the batch, to the image."""
    if not z.requires_grad:
        return None
    value = call(z.clone())  # the call may be in place
    (slope,) = torch.autograd.grad(value.sum(), z, create_graph=rules.graph, retain_graph=True)
    gap, change = _difference(z), _difference(value)
    far = gap.abs() >= NEAR
    # Both where's, so that no derivative passes through a division by zero.
    slope = torch.where(far, change / torch.where(far, gap, 1.0), slope)
    found: Tensor = _Slope.apply(z, value, slope, rules)
    return found


def _pooled(rules: _Rules, z: Tensor, call: _Call, args: Any, kwargs: Any) -> Tensor | None:
    if not z.requires_grad:
        return None
    found: Tensor = _SharedMaximum.apply(z, call(z), args, kwargs, rules)
    return found


def _difference(z: Tensor) -> Tensor:
    """Image minus baseline, for both halves of a batch."""
    image, baseline = z.chunk(2)
    return (image - baseline).repeat(2, *[1] * (z.ndim - 1))


class _PositiveOnly(torch.autograd.Function):
    """``z`` forward; back, only what is positive."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, rules: _Rules) -> Tensor:
        ctx.rules = rules
        return z.view_as(z)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return positive(gradient) if ctx.rules.apply else gradient, None


class _Slope(torch.autograd.Function):
    """``value`` forward; back, the gradient goes to ``z`` times ``slope``."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, value: Tensor, slope: Tensor, rules: _Rules) -> Tensor:
        ctx.save_for_backward(slope)
        ctx.rules = rules
        return value.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        if not ctx.rules.apply:
            return None, gradient, None, None
        (slope,) = ctx.saved_tensors
        return gradient * slope, None, None, None


class _SharedMaximum(torch.autograd.Function):
    """Max-pooling whose change goes back to the places of the image's and the baseline's maxima."""

    @staticmethod
    def forward(
        ctx: Any, z: Tensor, value: Tensor, args: Any, kwargs: Any, rules: _Rules
    ) -> Tensor:
        ctx.save_for_backward(z)
        ctx.args, ctx.kwargs, ctx.rules = args, {**kwargs, "return_indices": True}, rules
        return value.clone()

    @staticmethod
    def backward(
        ctx: Any, gradient: Tensor
    ) -> tuple[Tensor | None, Tensor | None, None, None, None]:
        if not ctx.rules.apply:
            return None, gradient, None, None, None
        (z,) = ctx.saved_tensors
        highest, places = F.max_pool2d(z, *ctx.args, **ctx.kwargs)
        (y, y0), (here, there) = highest.chunk(2), places.chunk(2)
        coming, gap = gradient.chunk(2)[0], z.chunk(2)[0] - z.chunk(2)[1]
        top = torch.where(y > y0, y, y0)

        def spread(values: Tensor, where: Tensor) -> Tensor:
            flat = torch.zeros_like(gap).flatten(2)
            sums: Tensor = flat.scatter_add(2, where.flatten(2), values.flatten(2))
            return sums.view_as(gap)

        shared = spread(coming * (top - y0), here) + spread(coming * (y - top), there)
        far = gap.abs() >= NEAR
        back = torch.where(far, shared / torch.where(far, gap, 1.0), spread(coming, here))
        return torch.cat([back, torch.zeros_like(back)]), None, None, None, None


def _need_eager(model: Any, name: str) -> None:
    abilities = getattr(model, "capabilities", None)
    if abilities is not None and abilities.surrogate != "eager mode":
        raise NotApplicableError(
            f"{name}: the operations of a model in this format cannot be reached one by one. Load "
            "the network from code."
        )
