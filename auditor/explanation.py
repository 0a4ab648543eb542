"""The user's own explanation: found, tried out, and measured before it is audited."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import math

import torch
from torch import Tensor, nn

from auditor.attributions import SimpleGrad
from auditor.attributions.custom import Custom
from auditor.attributions.foreign import from_object
from auditor.attributions.gradient import Method
from auditor.attributions.noise import FRESH, Noise
from auditor.attributions.registry import METHODS, find_method
from auditor.counting import Count, counting
from auditor.errors import InputError
from auditor.evaluation import Evaluator, Meter
from auditor.probes.surrogates import has_surrogate, smooth_evaluator
from auditor.results import Check
from auditor.usercode import user_object

SAME = 1e-5
"""Two maps of one image are the same within this share of their norm: float32 summation order."""

AGREE = 0.5
"""A derivative by autograd may differ from differences by this share: enough to tell one that
misses a term of the map from one that is merely taken across kinks."""

BETA = 10.0
"""Sharpness of the surrogate on which derivatives are compared: smooth enough for differences."""


def load_explanation(spec: object) -> Method:
    """An attribution method from what the user gives.

    Parameters
    ----------
    spec
        ``path/file.py:fn`` or ``package.module:fn``, a method of ours by its name such as
        ``integrated_gradients,points=50``, a function ``fn(model, x, target) -> map``
        (see :class:`auditor.attributions.custom.Custom`), a captum ``Attribution``, a
        pytorch-grad-cam object, or ``None`` for the plain gradient.

    Raises
    ------
    InputError
        If there is no such function, or the object is none of these.
    """
    if spec is None:
        return SimpleGrad()
    if isinstance(spec, str):
        known = spec.partition(",")[0].strip() in METHODS
        return find_method(spec) if known else _from_code(spec)
    return spec if isinstance(spec, Method) else from_object(spec)


def examine(method: Method, evaluator: Evaluator, x: Tensor) -> tuple[Method, tuple[Check, ...]]:
    """Try a user's explanation on a few images, and find out what an audit needs to know of it.

    Parameters
    ----------
    x
        Images (B, C, H, W) in pixel space; the predicted classes are explained.

    Returns
    -------
    The method with its price, and whether it is random and differentiable; and a line on each.

    Raises
    ------
    InputError
        If it fails, returns something else than finite maps that are not all zero, or explains an
        image otherwise in a batch than alone; :class:`NotApplicableError` if the model cannot
        support it.
    """
    evaluator = dataclasses.replace(evaluator, meter=Meter(), probe="explanation")
    if not isinstance(method, Custom):
        if not isinstance(method, SimpleGrad):
            try_on(method, evaluator, x[:1])
        return method, ()
    images, target = range(len(x)), evaluator.logits(x).argmax(dim=1)
    method = dataclasses.replace(method, random=False, price=1)
    count = _asked(method, evaluator, x, target)
    explain = functools.partial(method, evaluator, images=images, draw=0)
    maps, _ = explain(x, target)
    price = max(1, math.ceil((count.gradients + count.only_forwards / 3) / len(x)))
    again, _ = explain(x, target)
    _check_maps(method, maps)
    random = not _same(maps, again)
    method = dataclasses.replace(method, price=price, random=random)
    if not random:
        alone = torch.cat(
            [
                method(evaluator, x[i : i + 1], target[i : i + 1], images=[i], draw=0)[0]
                for i in images
            ]
        )
        if not _same(maps, alone, tolerance=1e-3):
            raise InputError(
                f"--explain {method.name}: explains an image otherwise in a batch of {len(x)} than "
                "alone. Remove what mixes images, e.g. scaling by the batch's largest value."
            )
    differentiable, why = _differentiable(method, evaluator, x, target)
    method = dataclasses.replace(method, differentiable=differentiable)
    return method, (_cost_check(method, count), _random_check(method, maps, again), why)


def try_on(method: Method, evaluator: Evaluator, x: Tensor) -> None:
    """See whether an explanation explains another model too, such as a twin.

    Raises
    ------
    InputError
        If it fails there, or its maps are not finite; :class:`NotApplicableError` if the model
        cannot support it.
    """
    if not isinstance(method, SimpleGrad):
        evaluator = dataclasses.replace(evaluator, meter=Meter())
        target = evaluator.logits(x).argmax(dim=1)
        maps, _ = method(evaluator, x, target, images=range(len(x)), draw=0)
        if isinstance(method, Custom):
            _check_maps(method, maps)


def _from_code(spec: str) -> Custom:
    target, _, name = spec.rpartition(":")
    if not target or not name.isidentifier():
        raise InputError(
            f"--explain {spec}: not understood. Write path/file.py:fn or package.module:fn, with "
            "fn(model, x, target) -> map."
        )
    function, _, content = user_object(target, name, where=f"--explain {spec}")
    if not callable(function):
        raise InputError(
            f"--explain {spec}: {name} is no function. Name one that takes (model, x, target)."
        )
    identity = hashlib.sha256(content).hexdigest()
    return Custom(function=function, name=name, identity=identity, source=spec)


def _asked(method: Custom, evaluator: Evaluator, x: Tensor, target: Tensor) -> Count:
    """What one map of each image asks of the model."""
    if not isinstance(evaluator.model, nn.Module):
        return Count()
    with counting(evaluator.model) as count, torch.enable_grad():
        method.call(evaluator, x.to(evaluator.device, copy=True), target.to(evaluator.device))
    return count


def _check_maps(method: Custom, maps: Tensor) -> None:
    if not maps.isfinite().all():
        raise InputError(
            f"--explain {method.name}: the map is not finite. Guard divisions and logarithms."
        )
    if not maps.any():
        raise InputError(
            f"--explain {method.name}: the map is zero on all {len(maps)} images. Does it use the "
            "model and the class that it is given?"
        )


def _cost_check(method: Custom, count: Count) -> Check:
    if not count.forwards:
        message = (
            f"{method.name} was not seen calling the model as a whole: each map counts as one "
            "gradient. If it uses another model than the one it is given, nothing here is right."
        )
        return Check(name="explanation", status="note", message=message)
    plural = "" if method.price == 1 else "s"
    message = f"A map by {method.name} takes {method.price} gradient{plural} of the model."
    return Check(name="explanation", status="ok", message=message)


def _random_check(method: Custom, maps: Tensor, again: Tensor) -> Check:
    if not method.random:
        message = "Two calls give the same map."
        return Check(name="explanation is repeatable", status="ok", message=message)
    share = float((maps - again).norm() / maps.norm())
    message = (
        f"{method.name} is random (two calls differ by {share:.0%} of the map): it is seeded for "
        "each image, and its own noise is part of what is measured."
    )
    return Check(name="explanation is repeatable", status="note", message=message)


def _differentiable(
    method: Custom, evaluator: Evaluator, x: Tensor, target: Tensor
) -> tuple[bool, Check]:
    name = "explanation can be differentiated"
    weaker = "it is attacked by random search and transfer, which are weaker"
    if not has_surrogate(evaluator.model):
        message = f"The model's format has no smooth surrogate: {weaker}."
        return False, Check(name=name, status="note", message=message)
    try:
        error = _derivative_error(method, smooth_evaluator(evaluator, BETA), x, target)
    except Exception as failure:  # a user's code may refuse to be differentiated in many ways
        message = f"{method.name} cannot be differentiated ({failure}): {weaker}."
        return False, Check(name=name, status="note", message=message)
    if error > AGREE:
        message = (
            f"The derivative of {method.name} is not that of its map (off by {error:.0%}): "
            f"{weaker}. Should it have one, use create_graph=True and leave detach out."
        )
        return False, Check(name=name, status="note", message=message)
    message = f"The derivative of {method.name} agrees with differences of its map ({error:.0%})."
    return True, Check(name=name, status="ok", message=message)


def _derivative_error(method: Custom, smooth: Evaluator, x: Tensor, target: Tensor) -> float:
    """|⟨Jᵀv, u⟩ − ⟨v, Ju⟩| over the second, which differences give; both on the surrogate.

    The smaller of two step lengths' errors, and the median over images.
    """
    generator = torch.Generator().manual_seed(0)
    images = range(len(x))
    v = torch.randn(x.shape, generator=generator)
    explain = functools.partial(method.seeded(Noise(seed=0, stream=FRESH)), smooth, draw=0)

    def maps(at: Tensor) -> Tensor:
        return explain(at, target, images=images)[0]

    v *= maps(x).abs()  # where there is no map there is nothing to differentiate
    bent = method.seeded(Noise(seed=0, stream=FRESH)).pullback(
        smooth, x, target, v, images=images, draw=0
    )
    size = bent.flatten(1).norm(dim=1).reshape(-1, 1, 1, 1)
    u = torch.where(size > 0, bent / size, torch.randn(x.shape, generator=generator))
    exact = (bent * u).flatten(1).sum(dim=1)
    errors = []
    for length in (0.1, 0.01):
        difference = (maps(x + length * u) - maps(x - length * u)) / (2 * length)
        measured = (difference * v).flatten(1).sum(dim=1)
        off = (exact - measured).abs() / measured.abs().clamp_min(torch.finfo(x.dtype).tiny)
        errors.append(float(off.median()))
    return min(errors)


def _same(a: Tensor, b: Tensor, *, tolerance: float = SAME) -> bool:
    return bool((a - b).norm() <= tolerance * a.norm())
