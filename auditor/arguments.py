"""Check what a user says of a model against the network: size, normalization, class names."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TypeGuard

from torch import Tensor, nn

from auditor.errors import InputError
from auditor.results import Check
from auditor.usercode import plain_errors

Size = int | Sequence[int]


def input_shape_of(network: nn.Module, size: Size | None, name: str) -> tuple[int, int, int]:
    """(C, H, W) from ``S``, ``(H, W)`` or ``(C, H, W)``; the first layer tells the channels.

    Raises
    ------
    InputError
        If there is no size, or the first layer does not tell the channels.
    """
    numbers = tuple(size or ()) if isinstance(size, Sequence | None) else (size,)
    if not numbers:
        raise InputError(f"{name}: unknown input size. Pass --input-size, for example 224.")
    if len(numbers) > 3 or not all(isinstance(n, int) and n >= 1 for n in numbers):
        raise InputError(f"{name}: input size {size!r} is not S, (H, W) or (C, H, W) in pixels.")
    if len(numbers) == 3:
        return numbers[0], numbers[1], numbers[2]
    height, width = numbers[0], numbers[-1]
    layers = (nn.Conv2d, nn.Linear)
    first = next((module for module in network.modules() if isinstance(module, layers)), None)
    if isinstance(first, nn.Conv2d):
        return first.in_channels, height, width
    if isinstance(first, nn.Linear) and first.in_features in (height * width, 3 * height * width):
        return first.in_features // (height * width), height, width
    # A graph has no layers, but the first four-dimensional weight is its first convolution's.
    kernel = next((p for p in network.state_dict().values() if _is_kernel(p)), None)
    if first is None and kernel is not None:
        return kernel.shape[1], height, width
    raise InputError(
        f"{name}: the first layer does not tell the channels. Pass --input-size "
        f"3x{height}x{width} (or 1x{height}x{width})."
    )


def per_channel(what: str, values: Sequence[float], channels: int) -> tuple[float, ...]:
    """One number for each channel, of one for all or one for each.

    Raises
    ------
    InputError
        If there are too many or too few, one is not finite, or a std is not positive.
    """
    numbers = tuple(float(v) for v in values)
    if len(numbers) == 1:
        numbers *= channels
    if len(numbers) != channels:
        raise InputError(f"--{what} has {len(numbers)} numbers. Give 1 or {channels} (channels).")
    if not all(map(math.isfinite, numbers)) or (what == "std" and min(numbers) <= 0):
        rule = "positive" if what == "std" else "finite"
        raise InputError(f"--{what} {numbers} must be {rule}, in units of pixels in [0, 1].")
    return numbers


def normalization(
    mean: Sequence[float] | None, std: Sequence[float] | None, channels: int
) -> tuple[tuple[float, ...], tuple[float, ...], tuple[Check, ...]]:
    """Mean and std of each channel, with a remark where they are assumed.

    Both stay empty where they are: then a user's preprocessing takes their place.

    Raises
    ------
    InputError
        As :func:`per_channel`.
    """
    if mean is not None and std is not None and not (*mean, *std):
        return (), (), ()
    assumed = " and ".join(
        text for text, value in (("mean 0", mean), ("std 1", std)) if value is None
    )
    message = f"Not given, so {assumed} is assumed: pass --mean and --std as in training."
    return (
        per_channel("mean", mean if mean is not None else (0.0,), channels),
        per_channel("std", std if std is not None else (1.0,), channels),
        (Check(name="normalization", status="note", message=message),) if assumed else (),
    )


def class_names(labels: str | Path | Sequence[str] | None) -> tuple[str, ...] | None:
    """Class names, or a text file with one on each line.

    Raises
    ------
    InputError
        If the file cannot be read, or a name is empty.
    """
    if labels is None:
        return None
    if isinstance(labels, str | Path):
        with plain_errors(f"--labels {labels}: cannot be read as UTF-8 text"):
            labels = Path(labels).read_text(encoding="utf-8-sig").splitlines()
    names = tuple(str(label).strip() for label in labels)
    if not names or not all(names):
        raise InputError("--labels: empty, or has an empty line. Give one class name on each line.")
    return names


def _is_kernel(value: object) -> TypeGuard[Tensor]:
    return isinstance(value, Tensor) and value.is_floating_point() and value.ndim == 4
