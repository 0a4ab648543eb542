"""Explanations that are objects of captum or of pytorch-grad-cam."""

from __future__ import annotations

import copy
import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from captum.attr import Attribution
from torch import Tensor, nn

from auditor.attributions.custom import Custom
from auditor.errors import InputError


def from_captum(attribution: Attribution, **arguments: Any) -> Custom:
    """A captum attribution as a method to audit.

    Parameters
    ----------
    attribution
        Made for the network that is audited, e.g. ``IntegratedGradients(network)``. It is asked
        of twins and of the control too, so wherever it holds the network, or a layer of it, a
        copy holds that of the model in question, which takes pixels in [0, 1].
    arguments
        Of its ``attribute``, but for inputs and target: ``baselines`` (in pixel units), …

    Raises
    ------
    InputError
        If it is no attribution, or holds a layer that is not the network's.
    """
    if not isinstance(attribution, Attribution):
        raise InputError(f"{type(attribution).__name__} is no captum Attribution.")
    network = getattr(attribution, "forward_func", None)
    if not isinstance(network, nn.Module):
        raise InputError(
            f"{type(attribution).__name__}: made for {_kind(network)}. Make it for the network, "
            "a torch.nn.Module, or pass a function fn(model, x, target)."
        )
    layers = {id(module): name for name, module in network.named_modules()}

    def explain(model: nn.Module, x: Tensor, target: Tensor) -> Tensor:
        asked = _transplant(attribution, network, layers, model)
        found: Tensor = asked.attribute(x.requires_grad_(), target=target, **arguments)
        if found.shape[2:] != x.shape[2:]:  # of a layer, such as LayerGradCam
            found = nn.functional.interpolate(
                found.sum(dim=1, keepdim=True), size=x.shape[2:], mode="bilinear"
            )
        return found

    name = type(attribution).__name__
    return Custom(function=explain, name=name, identity=f"captum {name} {arguments!r}")


def from_cam(cam: Any) -> Custom:
    """An object of pytorch-grad-cam as a method to audit; not differentiable.

    Raises
    ------
    InputError
        If it holds a layer that is not its network's.
    """
    network, kind = cam.model, type(cam)
    names = {id(module): name for name, module in network.named_modules()}
    layers = [_name(layer, names, kind.__name__) for layer in cam.target_layers]
    # Every model gets a new object, for hooks are set on making one. It is made once.
    made: dict[int, Any] = {}

    def explain(model: nn.Module, x: Tensor, target: Tensor) -> Tensor:
        inner = getattr(model, "network", model)
        if id(model) not in made:
            found = [_layer(inner, name, kind.__name__) for name in layers]
            made[id(model)] = kind(
                model=model, target_layers=found, reshape_transform=cam.reshape_transform
            )
        asked = [_Score(int(c)) for c in target]
        # The network's weights have no gradient, so the image must.
        found = made[id(model)](input_tensor=x.requires_grad_(), targets=asked)
        return torch.from_numpy(np.asarray(found))

    return Custom(function=explain, name=kind.__name__, identity=f"{kind.__name__} {layers}")


def from_object(given: object) -> Custom:
    """Whatever a user passes in Python: a captum attribution, a CAM object, or a function.

    Raises
    ------
    InputError
        If it is none of these.
    """
    if isinstance(given, Attribution):
        return from_captum(given)
    if isinstance(getattr(given, "model", None), nn.Module) and hasattr(given, "target_layers"):
        return from_cam(given)
    if not callable(given):
        raise InputError(
            f"explain={_kind(given)}: give a function fn(model, x, target), a captum Attribution "
            "or a pytorch-grad-cam object."
        )
    function: Callable[..., Any] = given
    try:
        inspect.signature(function).bind(None, None, None)
    except TypeError as error:
        raise InputError(
            f"explain={_kind(given)}: does not take (model, x, target) ({error})."
        ) from error
    except ValueError:  # a builtin without a signature
        pass
    inner = function.func if isinstance(function, functools.partial) else function
    name = getattr(inner, "__name__", type(inner).__name__)
    return Custom(function=function, name=name, identity=_source(inner))


class _Score:
    """The logit of one class, as pytorch-grad-cam asks for it."""

    def __init__(self, target: int) -> None:
        self.target = target

    def __call__(self, output: Tensor) -> Tensor:
        return output[self.target]


def _transplant(
    attribution: Any, network: nn.Module, layers: Mapping[int, str], model: nn.Module
) -> Any:
    """A copy of an attribution that holds another model, and its layers, in place of its own."""
    inner = getattr(model, "network", model)

    def moved(value: Any) -> Any:
        if value is network:
            return model
        if isinstance(value, nn.Module):
            return _layer(inner, _name(value, layers, type(attribution).__name__), "its")
        if isinstance(value, Attribution):
            return _transplant(value, network, layers, model)
        if isinstance(value, list | tuple):
            return type(value)(moved(item) for item in value)
        return value

    twin = copy.copy(attribution)
    twin.__dict__ = {name: moved(value) for name, value in vars(attribution).items()}
    return twin


def _name(layer: nn.Module, names: Mapping[int, str], owner: str) -> str:
    if id(layer) not in names:
        raise InputError(f"{owner}: its layer {type(layer).__name__} is none of its network's.")
    return names[id(layer)]


def _layer(network: nn.Module, name: str, owner: str) -> nn.Module:
    try:
        return network.get_submodule(name)
    except AttributeError as error:
        raise InputError(
            f"{owner}: {type(network).__name__} has no layer {name!r}. Leave this model out."
        ) from error


def _kind(given: object) -> str:
    return getattr(given, "__name__", type(given).__name__)


def _source(function: Any) -> str:
    """What tells a function from another of its name, as far as it can be told."""
    try:
        return inspect.getsource(function)
    except (OSError, TypeError):
        return repr(type(function))
