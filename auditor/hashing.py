"""The hash that recognizes a network's weights."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor


def state_sha256(state: Mapping[str, Any]) -> str:
    """SHA-256 of a state dict: names, dtypes, shapes and bytes, sorted by name."""
    digest = hashlib.sha256()
    for name, value in sorted(state.items()):
        if isinstance(value, Tensor):
            digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
            flat = value.detach().cpu().contiguous().reshape(-1)
            digest.update(flat.view(torch.uint8).numpy().data)
        else:  # a module's own extra state
            digest.update(f"{name} {value!r}\n".encode())
    return digest.hexdigest()
