# ruff: noqa: A002 -- twins take their arguments by torch's names, input, min and max
"""A smooth stand-in for a network with kinks, so that its map has a derivative to follow.

The second derivative of a ReLU network is zero almost everywhere: double backward through it
returns exactly zero. The surrogate runs the same model with every ramp replaced by a smooth twin.
It only proposes directions; candidates are scored on the true model.
"""

from __future__ import annotations

import inspect
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

Kind = Literal["softplus", "quadratic"]
Ramp = Callable[[Tensor], Tensor]

LIMIT = 1e12
"""A β at which the surrogate has to be the model, in float32 and in float64."""

_COMPARISONS = {
    *("gt", "ge", "lt", "le", "eq", "ne", "heaviside"),
    *("greater", "greater_equal", "less", "less_equal", "not_equal"),
}
_KINKED_NODES = {
    *("Relu", "Hardtanh", "LeakyRelu", "Hardswish", "Hardsigmoid", "Clamp", "ClampMin", "ClampMax"),
    *("Maximum", "Minimum", "Fmax", "Fmin", "Threshold", "PreluKernel", "RreluWithNoise"),
    *("Hardshrink", "Softshrink", "Abs", "Sgn", "Sign", "Where"),
    *("Round", "Floor", "Ceil", "Trunc", "Frac", "Fmod", "Remainder"),
}


@dataclass(frozen=True, kw_only=True)
class Replaced:
    """What a surrogate replaces in a model, and what it leaves.

    Attributes
    ----------
    counts
        Calls replaced, by name of the operation, in-place forms included.
    missed
        One entry per sort of kink that is still there, and one when the surrogate's output at
        β → ∞ is not the model's. Empty: the surrogate has no kink but those of pooling, and
        tends to the model.
    deviation
        Largest difference at β → ∞ between surrogate and model, over the largest absolute
        output; around the float's rounding error when all is well.
    """

    counts: Mapping[str, int]
    missed: tuple[str, ...]
    deviation: float


class Surrogate(TorchFunctionMode):
    """Within this context, ramps are smooth: relu, relu6, hardtanh, leaky_relu, hardswish, ….

    Modules, functions, methods and in-place forms are reached alike, also under ``torch.func``;
    TorchScript and custom autograd functions are not. ``clamp`` is a ramp when its bounds are
    numbers, but for a positive lower bound alone: that guards a division.

    Parameters
    ----------
    beta
        Sharpness, > 0; the twin of relu has curvature β/4 at 0.
    kind
        ``"softplus"``: log(1 + exp βx)/β. ``"quadratic"``: 0 below −w, (x + w)²/4w up to w,
        x above, with w = 2/β; no exponentials, and equal to the ramp outside [−w, w].

    Attributes
    ----------
    counts
        Calls replaced so far, by name of the operation.

    Raises
    ------
    ValueError
        ``beta`` is not positive, or ``kind`` is unknown.

    References
    ----------
    Dombrowski et al. 2019, *Explanations can be manipulated and geometry is to blame*.
    """

    def __init__(self, beta: float, kind: Kind = "softplus") -> None:
        super().__init__()
        self.ramp = ramp(beta, kind)
        self.counts: Counter[str] = Counter()

    def __torch_function__(
        self,
        func: Any,
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        tensors = [a for a in (*args, *kwargs.values()) if isinstance(a, Tensor)]
        twin = None
        if tensors and tensors[0].is_floating_point():
            twin = smooth_call(func, args, kwargs, self.ramp)
        if twin is None:
            return func(*args, **kwargs)
        self.counts[operation(func)] += 1
        return twin


def smooth(
    model: Callable[[Tensor], Tensor], *, beta: float, kind: Kind = "softplus"
) -> Callable[[Tensor], Tensor]:
    """The model with smooth ramps: a function from images (B, C, H, W) to logits."""
    ramp(beta, kind)  # complain now, not at the first image

    def run(x: Tensor) -> Tensor:
        with Surrogate(beta, kind):
            return model(x)

    return run


def report(model: Callable[[Tensor], Tensor], x: Tensor) -> Replaced:
    """Run the model once as it is and once as surrogate at β → ∞, and compare.

    Parameters
    ----------
    model
        In eval mode; images (B, C, H, W) to logits. Called twice.
    x
        Images (B, C, H, W); kinks on paths that they do not take are not seen.
    """
    surrogate = Surrogate(LIMIT)

    def limit(x: Tensor) -> Tensor:
        with surrogate:
            return model(x)

    missed, deviation = examine(model, limit, x)
    return Replaced(counts=dict(surrogate.counts), missed=missed, deviation=deviation)


def examine(
    model: Callable[[Tensor], Tensor], limit: Callable[[Tensor], Tensor], x: Tensor
) -> tuple[tuple[str, ...], float]:
    """Kinks left in ``limit``, the surrogate at β → ∞, and its deviation from the model."""
    with torch.no_grad():
        truth = model(x.clone())
    watch = _Comparisons()
    with torch.enable_grad(), watch:
        # A copy of the leaf: the model's first operation may be in place.
        output = limit(x.detach().requires_grad_().clone())
    scale = truth.abs().max().clamp_min(torch.finfo(truth.dtype).tiny)
    deviation = float((output.detach() - truth).abs().max() / scale)
    missed = [*sorted(watch.seen), *sorted(_kinks(output))]
    # Not `>`: an output that is nan deviates as well.
    if not deviation <= torch.finfo(truth.dtype).eps ** 0.5:
        missed.append(f"the surrogate does not tend to the model (off by {deviation:.1g})")
    return tuple(missed), deviation


def ramp(beta: float, kind: Kind) -> Ramp:
    """The smooth twin of relu with curvature ``beta``/4 at 0; see `Surrogate`."""
    if not beta > 0:
        raise ValueError(f"beta must be positive, got {beta}")
    if kind == "softplus":
        return lambda x: F.softplus(x, beta)
    if kind == "quadratic":
        width = 2 / beta
        # (|x|, rounded off within the width, + x)/2: one fused kernel each way, where the three
        # pieces written out cost several.
        return lambda x: (x + _huber(x, width)) / 2 + width / 4
    raise ValueError(f"kind must be 'softplus' or 'quadratic', got {kind!r}")


def operation(func: Any) -> str:
    """The name that all forms of an operation share: ``relu`` of ``aten.relu_.default``."""
    return str(getattr(func, "__name__", "")).split(".")[0].strip("_")


def smooth_call(
    func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], ramp: Ramp
) -> Any | None:
    """The smooth twin of the call, or ``None`` where the call is not a ramp.

    Works on tensors and on the proxies of `torch.fx`. An in-place call writes its result into
    the tensor, so that a result that is thrown away and other names of the tensor are right too.
    """
    twin = _TWINS.get(operation(func))
    if twin is None:
        return None
    kwargs = {"input" if name == "self" else name: value for name, value in kwargs.items()}
    try:
        bound = inspect.signature(twin).bind(ramp, *args, **kwargs)
    except TypeError:  # another form of the operation, such as max along an axis or out=
        return None
    name = str(func.__name__).split(".")[0]
    if not (name.endswith("_") or bound.arguments.get("inplace", False)):
        return twin(*bound.args, **bound.kwargs)
    target = bound.arguments["input"]
    bound.arguments["input"] = target.clone()  # the twin's derivative needs the old values
    result = twin(*bound.args, **bound.kwargs)
    return None if result is None else target.copy_(result)


def _huber(x: Tensor, width: float) -> Tensor:
    zero = x.new_zeros(()).expand_as(x)
    return F.smooth_l1_loss(x, zero, reduction="none", beta=width)


def _relu(ramp: Ramp, input: Tensor, inplace: bool = False) -> Tensor:
    return ramp(input)


def _between(ramp: Ramp, x: Tensor, low: float, high: float) -> Tensor:
    return _above(ramp, x, low) - ramp(x - high)


def _above(ramp: Ramp, x: Tensor, low: float) -> Tensor:
    return ramp(x - low) + low if low else ramp(x)


def _relu6(ramp: Ramp, input: Tensor, inplace: bool = False) -> Tensor:
    return _between(ramp, input, 0, 6)


def _hardtanh(
    ramp: Ramp, input: Tensor, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False
) -> Tensor:
    return _between(ramp, input, min_val, max_val)


def _hardsigmoid(ramp: Ramp, input: Tensor, inplace: bool = False) -> Tensor:
    return _between(ramp, input + 3, 0, 6) / 6


def _hardswish(ramp: Ramp, input: Tensor, inplace: bool = False) -> Tensor:
    return input * _between(ramp, input + 3, 0, 6) / 6


def _leaky_relu(
    ramp: Ramp, input: Tensor, negative_slope: float = 0.01, inplace: bool = False
) -> Tensor:
    return negative_slope * input + (1 - negative_slope) * ramp(input)


def _clamp(ramp: Ramp, input: Tensor, min: Any = None, max: Any = None) -> Tensor | None:
    if not all(bound is None or isinstance(bound, int | float) for bound in (min, max)):
        return None
    if max is None:
        # A positive lower bound alone guards a division, as in clamp(min=1e-6): no activation.
        return None if min is None or min > 0 else _above(ramp, input, min)
    if min is None:
        return -_above(ramp, -input, -max)
    return _between(ramp, input, min, max) if min < max else None


def _clamp_max(ramp: Ramp, input: Tensor, max: Any) -> Tensor | None:
    return _clamp(ramp, input, max=max)


def _clamp_min(ramp: Ramp, input: Tensor, min: Any) -> Tensor | None:
    return _clamp(ramp, input, min)


def _maximum(ramp: Ramp, input: Tensor, other: Tensor | int | str) -> Tensor | None:
    if isinstance(other, int | str):  # an axis
        return None
    return other + ramp(input - other)


def _minimum(ramp: Ramp, input: Tensor, other: Tensor | int | str) -> Tensor | None:
    if isinstance(other, int | str):
        return None
    return input - ramp(input - other)


_TWINS: dict[str, Callable[..., Any]] = {
    "relu": _relu,
    "relu6": _relu6,
    "hardtanh": _hardtanh,
    "hardsigmoid": _hardsigmoid,
    "hardswish": _hardswish,
    "leaky_relu": _leaky_relu,
    "clamp": _clamp,
    "clip": _clamp,
    "clamp_min": _clamp_min,
    "clamp_max": _clamp_max,
    "maximum": _maximum,
    "max": _maximum,
    "fmax": _maximum,
    "minimum": _minimum,
    "min": _minimum,
    "fmin": _minimum,
}


class _Comparisons(TorchFunctionMode):
    """Notes comparisons of what depends on the image: where and masks leave no other trace."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[str] = set()

    def __torch_function__(
        self,
        func: Any,
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if operation(func) in _COMPARISONS and any(
            isinstance(a, Tensor) and a.requires_grad for a in (*args, *kwargs.values())
        ):
            self.seen.add(f"{operation(func)} (comparison)")
        return func(*args, **kwargs)


def _kinks(output: Tensor) -> set[str]:
    """Operations with a kink, or with a derivative of their own, behind ``output``."""
    found: set[str] = set()
    visited: set[Any] = set()
    waiting: list[Any] = [output.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is None or node in visited:
            continue
        visited.add(node)
        waiting += [parent for parent, _ in node.next_functions]
        name = re.sub(r"Backward(Base)?\d*$", "", node.name().rpartition("::")[2])
        if isinstance(node, torch.autograd.function.BackwardCFunction):
            found.add(f"{name} (custom autograd function)")
        elif "DifferentiableGraph" in name:
            found.add("TorchScript block")
        elif name in _KINKED_NODES:
            found.add(re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower())
        elif name == "Elu" and abs(node._saved_alpha * node._saved_input_scale - 1) > 1e-6:
            found.add("elu")  # its slopes at 0 differ, as in selu
    return found
