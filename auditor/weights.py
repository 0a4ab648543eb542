"""Read a file of weights into a network, without running anything that the file contains."""

from __future__ import annotations

import os
import pickle
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from auditor.errors import InputError
from auditor.usercode import describe

# Checkpoints often wrap the state dict, and DataParallel prefixes every name.
WRAPPERS = ("state_dict", "model_state_dict")
PREFIX = "module."
REMEDY = "Give the weights of this very network."


def load_weights(network: torch.nn.Module, path: Path, *, trust_pickle: bool = False) -> None:
    """Fill ``network`` in place with the state dict in ``path``; every name and shape must agree.

    Parameters
    ----------
    path
        ``.safetensors``, or anything else that ``torch.load(weights_only=True)`` accepts.
    trust_pickle
        Unpickle a file that ``weights_only`` refuses, which runs code that the file names.

    Raises
    ------
    InputError
        If the file is missing, unreadable, a pickle that is not trusted, or does not fit.
    """
    state = read_state(path, trust_pickle=trust_pickle)
    own = network.state_dict()
    if all(name.startswith(PREFIX) for name in state) and not any(n in own for n in state):
        state = {name.removeprefix(PREFIX): value for name, value in state.items()}
    shapes = {name: (_shape(state[name]), _shape(own[name])) for name in own if name in state}
    misfits = [
        f"{name} is {given}, the network has {wanted}"
        for name, (given, wanted) in shapes.items()
        if given != wanted
    ]
    if misfits:
        raise InputError(f"{path}: shapes do not fit the network: {_first(misfits)}. {REMEDY}")
    try:
        missing, unexpected = network.load_state_dict(state, strict=False)
    except Exception as error:  # a network's own loading hooks may raise anything
        raise InputError(f"{path}: cannot be loaded ({describe(error)}). {REMEDY}") from error
    if missing or unexpected:
        parts = [("missing", missing), ("not in the network", unexpected)]
        text = "; ".join(f"{what}: {_first(names)}" for what, names in parts if names)
        raise InputError(f"{path}: names do not fit the network: {text}. {REMEDY}")


def read_state(path: Path, *, trust_pickle: bool = False) -> dict[str, Tensor]:
    """Read a state dict from a file; parameters as in :func:`load_weights`."""
    if not os.path.isfile(path):
        raise InputError(f"{path}: no such file. Give the file with the model's weights.")
    try:
        loaded = _read(path, trust_pickle=trust_pickle)
    except InputError:
        raise
    except (Exception, SystemExit) as error:  # hostile bytes raise anything
        raise InputError(f"{path}: cannot be read as weights ({describe(error)}).") from error
    if isinstance(loaded, torch.nn.Module):
        loaded = loaded.state_dict()
    for key in WRAPPERS:
        if isinstance(loaded, Mapping) and isinstance(loaded.get(key), Mapping):
            loaded = loaded[key]
    if not isinstance(loaded, Mapping) or not any(isinstance(v, Tensor) for v in loaded.values()):
        raise InputError(f"{path}: holds no state dict (name → tensor). Save model.state_dict().")
    return {str(name): value for name, value in loaded.items()}


def packed(state: Mapping[str, Any], *, header: Mapping[str, str] | None = None) -> bytes:
    """A state dict as the bytes of a safetensors file.

    Tensors that share memory are written twice, and what is no tensor is left out: it is a
    module's own extra state, which was not learned.
    """
    tensors = {
        name: value.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, value in state.items()
        if isinstance(value, Tensor)
    }
    return safetensors.torch.save(tensors, metadata=dict(header) if header else None)


def _read(path: Path, *, trust_pickle: bool) -> Any:  # checked by read_state
    if path.suffix == ".safetensors":
        return safetensors.torch.load_file(path)
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if not trust_pickle:
            raise InputError(
                f"{path}: not a plain state dict, and unpickling it could run code. Save "
                "model.state_dict() as .safetensors, or pass --trust-pickle if you made the file."
            ) from error
        return torch.load(path, map_location="cpu", weights_only=False)


def _shape(value: object) -> str:
    return "×".join(map(str, value.shape)) or "scalar" if isinstance(value, Tensor) else "no tensor"


def _first(items: Iterable[str]) -> str:
    items = list(items)
    return ", ".join(items[:3]) + (f" and {len(items) - 3} more" if len(items) > 3 else "")
