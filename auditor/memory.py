"""Batches that fit into memory: chosen beforehand, or halved when they turn out too large."""

from __future__ import annotations

import os
import re
import resource
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

from auditor.errors import IncompleteRunError, InputError
from auditor.evaluation import Evaluator

T = TypeVar("T")

_UNITS = {"": 2**20, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}

BACKWARD = 1.5
"""What a gradient takes at its peak, in bytes that the forward pass saves for it: 0.6 to 1.3 on two
CPU cores with EfficientNet-Lite0 and ResNet-18 at 224×224 in batches of 2 and 8."""


def parse_memory(text: str) -> int:
    """Bytes of ``4G``, ``4GiB``, ``1.5G`` or ``800M``; a bare number counts MiB.

    >>> parse_memory("1.5G") == 1.5 * 2**30
    True

    Raises
    ------
    InputError
        If it is none of these.
    """
    found = re.fullmatch(r"(\d{1,9}(?:\.\d{1,9})?)\s*([kmgt]?)(?:i?b)?", text.strip().lower())
    size = int(float(found[1]) * _UNITS[found[2]]) if found else 0
    if size < 1:
        raise InputError(f"--memory {text}: not understood. Write 4G or 800M.")
    return size


def halving(batch: int, attempt: Callable[[int], T]) -> tuple[T, int]:
    """What the attempt returns, and the batch with which it did: half of it, where memory ran out.

    Raises
    ------
    IncompleteRunError
        If memory runs out for a single image.
    """
    while True:
        try:
            return attempt(batch), batch
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            if batch == 1:
                raise IncompleteRunError(
                    "Out of memory with a batch of one image. Free memory, use fewer workers, or "
                    "another --device, then --resume."
                ) from error
        # Outside of the handler, which would keep the failed attempt's tensors alive.
        batch //= 2
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out, of a GPU or of the machine."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    # The allocator of the CPU has no exception of its own.
    return "can't allocate memory" in str(error) or "not enough memory" in str(error)


def largest_batch(evaluator: Evaluator, x: Tensor, *, memory: int, resident: int) -> int:
    """The largest batch, up to the evaluator's own, whose gradient stays within ``memory`` bytes.

    Parameters
    ----------
    x
        At least one image.
    resident
        Bytes that are taken already.

    Raises
    ------
    InputError
        If a single image is too much.
    """
    each = BACKWARD * saved_bytes(evaluator, x[:1])
    batch = int((memory - resident) / each)
    if batch < 1:
        needed = (resident + each) / 2**20
        raise InputError(
            f"--memory: {memory / 2**20:.0f} MiB are too little. The models and one image take "
            f"about {needed:.0f} MiB in each process."
        )
    return min(batch, evaluator.batch)


def memory_in_use(device: str) -> int:
    """Bytes that this process has: of the GPU if it computes there, else of the machine."""
    if device.startswith("cuda"):
        return torch.cuda.memory_allocated(device)
    if os.path.isfile("/proc/self/statm"):
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak * (1 if sys.platform == "darwin" else 1024)


def saved_bytes(evaluator: Evaluator, x: Tensor) -> int:
    """Bytes that the forward pass of images keeps for their gradient, each storage once."""
    sizes: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        sizes[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        evaluator.gradients(x, torch.zeros(len(x), dtype=torch.long))
    own = {p.untyped_storage().data_ptr() for p in _parameters(evaluator)}
    return max(1, sum(size for place, size in sizes.items() if place not in own))


def _parameters(evaluator: Evaluator) -> list[Tensor]:
    model = evaluator.model
    if not isinstance(model, torch.nn.Module):
        return []
    return [*model.parameters(), *model.buffers()]
