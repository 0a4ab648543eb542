"""Networks of torchvision and timm by their names; weights come from a file, never from the net."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

from torch import nn

from auditor.errors import InputError
from auditor.formats.loaded import Loaded
from auditor.formats.needed import needed
from auditor.results import Check
from auditor.weights import read_state

_UNTRAINED = Check(
    name="weights",
    status="note",
    message="No weights were given: this network is untrained. Pass --weights.",
)


def load_torchvision(name: str, *, weights: Path | None) -> Loaded:
    """A torchvision classifier with its initial weights.

    Raises
    ------
    InputError
        If there is no classifier of that name.
    """
    from torchvision import models  # a second to import, and only this format needs it

    if name not in (known := models.list_models(module=models)):
        raise InputError(
            f"torchvision:{name}: no classifier of that name. Known: {', '.join(known[:4])}, ... "
            "(torchvision.models.list_models)."
        )

    def factory() -> nn.Module:
        with warnings.catch_warnings():  # two of them announce that their initialization changes
            warnings.simplefilter("ignore", FutureWarning)
            network: nn.Module = models.get_model(name, weights=None)
            return network

    transforms = models.get_model_weights(name).DEFAULT.transforms
    return Loaded(
        network=factory(),
        format="torchvision",
        name=name,
        factory=factory,
        usual_size=int(transforms.keywords["crop_size"]),
        remarks=() if weights else (_UNTRAINED,),
    )


def load_timm(name: str, *, weights: Path | None, trust_pickle: bool = False) -> Loaded:
    """A timm classifier (extra ``timm``) with its initial weights and its own normalization.

    The number of classes and of input channels are those of the weights, where they say so.

    Raises
    ------
    InputError
        If the extra is missing, there is no model of that name, or the weights cannot be read.
    """
    timm = needed("timm", extra="timm")
    if name not in timm.list_models():  # not a hub's address, nor a folder
        raise InputError(f"timm:{name}: no model of that name. See timm.list_models().")
    config = timm.get_pretrained_cfg(name)
    state = {} if weights is None else read_state(weights, trust_pickle=trust_pickle)
    sizes = _sizes(config, state)

    def factory() -> nn.Module:
        network: nn.Module = timm.create_model(name, pretrained=False, **sizes)
        return network

    network = factory()
    usual = timm.data.resolve_model_data_config(network)
    mean, std = usual["mean"], usual["std"]
    message = f"Taken from timm: mean {_row(mean)}, std {_row(std)}."
    own = (Check(name="normalization", status="note", message=message),)
    grayscale = sizes.get("in_chans", 3) != len(mean)  # timm knows RGB only
    return Loaded(
        network=network,
        format="timm",
        name=name,
        factory=factory,
        usual_size=tuple(usual["input_size"][1:]),
        mean=None if grayscale else mean,
        std=None if grayscale else std,
        remarks=(*(() if weights else (_UNTRAINED,)), *(() if grayscale else own)),
    )


def _sizes(config: Any, state: dict[str, Any]) -> dict[str, int]:
    found = {}
    for name, layer, axis in (
        ("num_classes", config.classifier, 0),
        ("in_chans", config.first_conv, 1),
    ):
        weight = state.get(f"{layer}.weight") if isinstance(layer, str) else None
        if weight is not None and weight.ndim > axis:
            found[name] = int(weight.shape[axis])
    return found


def _row(values: tuple[float, ...]) -> str:
    return ", ".join(f"{value:g}" for value in values)
