"""Find the user's model from what the user typed: a factory, a library's name, or a file."""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from auditor.errors import InputError
from auditor.formats import Loaded
from auditor.formats.exported import load_exported
from auditor.formats.huggingface import load_huggingface
from auditor.formats.library import load_timm, load_torchvision
from auditor.formats.onnx import load_onnx
from auditor.formats.torchscript import load_torchscript
from auditor.models import Classifier, Loading, Size, wrap
from auditor.preprocess import Preprocess, load_preprocess
from auditor.specs import parse_twin
from auditor.training.smoothing import read_insertion
from auditor.usercode import UserCode, plain_errors, user_factory
from auditor.weights import load_weights

_TORCHSCRIPT = (".pt", ".ts", ".pth", ".torchscript")


def load_model(
    spec: str,
    *,
    weights: str | Path | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    input_size: Size | None = None,
    labels: str | Path | Sequence[str] | None = None,
    output: str | None = None,
    preprocess: object = None,
    trust_pickle: bool = False,
    name: str | None = None,
    device: str | torch.device = "cpu",
    dtype: str = "float32",
) -> Classifier:
    """Load a classifier from code, from a library or from a file.

    Parameters
    ----------
    spec
        ``package.module:factory``, ``path/file.py:factory``, ``torchvision:NAME``, ``timm:NAME``,
        ``FILE.pt2`` (torch.export), ``FILE.pt`` or ``.ts`` (TorchScript), ``FILE.onnx``, or the
        folder of a Hugging Face image classifier. A factory takes no argument and returns a
        :class:`torch.nn.Module`. Nothing is ever downloaded.
    weights
        Safetensors, or a state dict that ``torch.load(weights_only=True)`` reads; for a factory,
        torchvision and timm.
    mean, std
        Normalization in units of [0, 1] pixels, one number or one per channel; what the file or
        library tells if None, else 0 and 1.
    input_size
        ``S``, ``(H, W)`` or ``(C, H, W)`` in pixels. Without it: what the file or library tells,
        or the network's attribute ``input_size``. The channels come from the first layer.
    labels
        Class names in the order of the logits, or a text file with one on each line.
    output
        Entry of what the network returns that holds the logits: a name, or an index from 0.
    preprocess
        The user's own preprocessing in place of size, mean and std; what
        :func:`auditor.preprocess.load_preprocess` takes. Its part for pictures has to be given to
        :func:`auditor.images.load_images` too, as ``preprocess=model.preprocess``; so has that of
        a Hugging Face folder, whose own processor is used unless this or ``input_size`` is given.
    trust_pickle
        Load a file that could run code: pickles, and archives that are more than a network.
    dtype
        What the network computes in: ``float32``, or ``float64`` to see what rounding does. Pixels
        and maps are float32 outside of it.

    Raises
    ------
    InputError
        If anything of this is wrong, the user's code raises, or the weights do not fit.
    """
    given: dict[str, Any] = {
        "mean": mean,
        "std": std,
        "input_size": input_size,
        "labels": labels,
    }
    common: dict[str, Any] = {
        "output": output,
        "trust_pickle": trust_pickle,
        "name": name,
        "device": device,
        "dtype": dtype,
    }
    found = None if preprocess is None else load_preprocess(preprocess)
    classifier = _load(
        spec,
        dict(given),
        None,
        preprocess=found,
        weights=None if weights is None else Path(weights),
        **common,
    )
    classifier.loading = Loading(
        functools.partial(load_model, spec, weights=weights, preprocess=found, **given, **common)
    )
    return classifier


def load_twin(
    spec: str,
    *,
    like: Classifier,
    trust_pickle: bool = False,
    device: str | torch.device = "cpu",
    dtype: str = "float32",
) -> Classifier:
    """Load a twin of a classifier from ``SPEC,key=value,...``, as ``--twin`` takes it.

    Input size and normalization are those of the audited classifier ``like`` unless given, or
    told by the twin's own file. So is the differentiable part of its preprocessing: a twin with
    mean or std of its own has that in its place. The part for pictures was done before, since a
    twin is explained in the audited model's pixel space. See :func:`auditor.specs.parse_twin` for
    the keys and :func:`load_model` for errors.
    """
    asked = parse_twin(spec)
    given = {key: asked.get(key) for key in ("mean", "std", "input_size", "labels")}
    twin = _load(
        asked["spec"],
        given,
        like,
        weights=asked.get("weights"),
        output=asked.get("output"),
        trust_pickle=trust_pickle,
        name=asked.get("name"),
        device=device,
        dtype=dtype,
    )
    again: dict[str, Any] = {"trust_pickle": trust_pickle, "device": device, "dtype": dtype}
    twin.loading = Loading(functools.partial(load_twin, spec, like=like, **again))
    return twin


def _load(
    spec: str,
    given: dict[str, Any],
    like: Classifier | None,
    *,
    weights: Path | None,
    output: str | None,
    trust_pickle: bool,
    name: str | None,
    device: str | torch.device,
    dtype: str,
    preprocess: Preprocess | None = None,
) -> Classifier:
    """What the user gives comes before what the file tells, and that before what ``like`` has."""
    loaded, code = _read(spec, weights, trust_pickle=trust_pickle)
    network, remarks, factory = loaded.network, loaded.remarks, loaded.factory
    block = read_insertion(weights) if weights is not None else None
    if weights is not None and block is not None:
        with plain_errors(f"{weights}: its smoothing block does not fit"):
            block.apply(network)
        factory = factory and block.after_making(factory)
    if weights is not None:
        with code.active():  # a trusted pickle names the user's own classes
            load_weights(network, weights, trust_pickle=trust_pickle)
    precision = _precision(spec, loaded, dtype, str(device))
    with plain_errors(f"{spec}: cannot be moved to device {device}"):
        network = network.to(device=device, dtype=precision)

    usual: dict[str, Any] = {}
    if like is not None:
        usual = {"input_size": like.input_shape}
        scales = (given["mean"], given["std"], loaded.mean, loaded.std)
        if like.mean:
            usual |= {"mean": like.mean, "std": like.std}
        elif all(scale is None for scale in scales):
            usual |= {"mean": (), "std": ()}
            preprocess = like.preprocess
    elif preprocess is not None:
        asked = preprocess.merged(
            input_size=given["input_size"], mean=given["mean"], std=given["std"]
        )
        given |= dict(zip(("input_size", "mean", "std"), asked, strict=True))
        remarks = tuple(check for check in remarks if check.name == "weights")
    elif given["input_size"] is None:
        preprocess = loaded.preprocess

    def settled(key: str) -> Any:
        values = (given.get(key), getattr(loaded, key), usual.get(key))
        return next((value for value in values if value is not None), None)

    return wrap(
        network,
        input_size=settled("input_size") or loaded.usual_size,
        mean=settled("mean"),
        std=settled("std"),
        labels=settled("labels"),
        name=name or (f"{loaded.name} ({weights.name})" if weights else loaded.name),
        format=loaded.format,
        factory=factory,
        remarks=remarks,
        output=output,
        capabilities=loaded.capabilities,
        digest=loaded.digest,
        preprocess=preprocess,
    )


def _precision(spec: str, loaded: Loaded, dtype: str, device: str) -> torch.dtype | None:
    """The precision to give a network; an exported graph and TorchScript keep their own."""
    known = {"float32": torch.float32, "float64": torch.float64}
    if dtype not in known:
        raise InputError(f"--dtype {dtype}: not understood. Write {' or '.join(known)}.")
    if dtype == "float64" and device.startswith("mps"):
        raise InputError("--dtype float64: mps has none. Use --device cpu.")
    if loaded.capabilities.surrogate == "eager mode":
        return known[dtype]
    if dtype == "float64":
        raise InputError(
            f"--dtype float64: {spec} has its precision written into it. Audit the network from "
            "its code (--model package.module:factory)."
        )
    return None


def _read(spec: str, weights: Path | None, *, trust_pickle: bool) -> tuple[Loaded, UserCode]:
    library, _, name = spec.partition(":")
    if library == "torchvision":
        return load_torchvision(name, weights=weights), UserCode()
    if library == "timm":
        return load_timm(name, weights=weights, trust_pickle=trust_pickle), UserCode()
    path = Path(spec)
    kind = "folder" if os.path.isdir(path) else path.suffix.lower()
    if weights is not None and kind in ("folder", ".pt2", ".onnx", *_TORCHSCRIPT):
        raise InputError(f"--weights {weights}: {spec} holds its own. Leave --weights out.")
    if kind == "folder":
        return load_huggingface(path, trust_pickle=trust_pickle), UserCode()
    if kind == ".pt2":
        return load_exported(path, trust_pickle=trust_pickle), UserCode()
    if kind == ".onnx":
        return load_onnx(path), UserCode()
    if kind in _TORCHSCRIPT:
        return load_torchscript(path, trust_pickle=trust_pickle), UserCode()
    return _from_code(spec)


def _from_code(spec: str) -> tuple[Loaded, UserCode]:
    target, _, short = spec.rpartition(":")
    if not target or not short.isidentifier():
        raise InputError(
            f"--model {spec}: not understood. Write package.module:factory, path/file.py:factory, "
            "torchvision:NAME, timm:NAME, FILE.pt2, FILE.ts, FILE.onnx or a Hugging Face folder."
        )
    factory, code = user_factory(target, short)
    network = factory()
    if not isinstance(network, nn.Module):
        raise InputError(
            f"{spec}: returned {type(network).__name__}. Return the network, a torch.nn.Module."
        )
    own = getattr(network, "input_size", None)
    size = own if isinstance(own, int | tuple | list) else None
    return (
        Loaded(network=network, format="factory", name=short, factory=factory, usual_size=size),
        code,
    )
