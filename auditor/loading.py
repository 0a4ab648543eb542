"""Find the user's model from what the user typed: a factory or a torchvision name, and weights."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import nn

from auditor.errors import InputError
from auditor.models import Classifier, Size, wrap
from auditor.results import Check
from auditor.specs import parse_twin
from auditor.usercode import UserCode, plain_errors, user_factory
from auditor.weights import load_weights


def load_model(
    spec: str,
    *,
    weights: str | Path | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    input_size: Size | None = None,
    labels: str | Path | Sequence[str] | None = None,
    trust_pickle: bool = False,
    name: str | None = None,
    device: str | torch.device = "cpu",
) -> Classifier:
    """Load a classifier from a user's own code or from torchvision, in float32.

    Parameters
    ----------
    spec
        ``package.module:factory``, ``path/file.py:factory`` or ``torchvision:NAME``. A factory
        takes no argument and returns a :class:`torch.nn.Module`. Nothing is ever downloaded.
    weights
        Safetensors, or a state dict that ``torch.load(weights_only=True)`` reads.
    mean, std
        Normalization in units of [0, 1] pixels, one number or one per channel; 0 and 1 if None.
    input_size
        ``S``, ``(H, W)`` or ``(C, H, W)`` in pixels. Without it: torchvision's own size, or the
        network's attribute ``input_size``. The channels come from the first layer.
    labels
        Class names in the order of the logits, or a text file with one on each line.
    trust_pickle
        Unpickle a weights file that is no plain state dict, which runs code that it names.

    Raises
    ------
    InputError
        If anything of this is wrong, the user's code raises, or the weights do not fit.
    """
    code = None
    if spec.startswith("torchvision:"):
        format_, short = "torchvision", spec.partition(":")[2]
        factory, size = _torchvision(short)
        input_size = input_size or size
    else:
        format_, (target, _, short) = "factory", spec.rpartition(":")
        if not target or not short.isidentifier():
            raise InputError(
                f"--model {spec}: not understood. Write package.module:factory, "
                "path/file.py:factory or torchvision:NAME."
            )
        factory, code = user_factory(target, short)
    network = factory()
    if not isinstance(network, nn.Module):
        raise InputError(
            f"{spec}: returned {type(network).__name__}. Return the network, a torch.nn.Module."
        )
    if weights is not None:
        with (code or UserCode()).active():  # a trusted pickle names the user's own classes
            load_weights(network, Path(weights), trust_pickle=trust_pickle)
    with plain_errors(f"{spec}: cannot be moved to device {device}"):
        network = network.to(device=device, dtype=torch.float32)
    remarks: tuple[Check, ...] = ()
    if weights is None and format_ == "torchvision":
        message = "No weights were given: this network is untrained. Pass --weights."
        remarks = (Check(name="weights", status="note", message=message),)
    own_size = getattr(network, "input_size", None)
    return wrap(
        network,
        input_size=input_size or (own_size if isinstance(own_size, int | tuple | list) else None),
        mean=mean,
        std=std,
        labels=labels,
        name=name or (f"{short} ({Path(weights).name})" if weights else short),
        format=format_,
        factory=factory,
        remarks=remarks,
    )


def load_twin(
    spec: str,
    *,
    like: Classifier,
    trust_pickle: bool = False,
    device: str | torch.device = "cpu",
) -> Classifier:
    """Load a twin of a classifier from ``SPEC,key=value,...``, as ``--twin`` takes it.

    Input size and normalization are those of the audited classifier ``like`` unless given; see
    :func:`auditor.specs.parse_twin` for the keys and :func:`load_model` for errors.
    """
    usual = {"input_size": like.input_shape, "mean": like.mean, "std": like.std}
    return load_model(**(usual | parse_twin(spec)), trust_pickle=trust_pickle, device=device)


def _torchvision(name: str) -> tuple[Callable[[], nn.Module], int]:
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
    return factory, int(transforms.keywords["crop_size"])
