"""Parse what a user types about a model: numbers, sizes, twins."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from auditor.errors import InputError


def parse_floats(text: str) -> tuple[float, ...]:
    """Numbers or fractions separated by commas, as for ``--mean`` and ``--std``.

    >>> parse_floats("0.5, 51/255")
    (0.5, 0.2)

    Raises
    ------
    InputError
        If a part is not a finite number.
    """
    numbers = []
    for part in text.split(","):
        top, slash, bottom = part.partition("/")
        try:
            number = float(top) / float(bottom) if slash else float(top)
        except (ValueError, ZeroDivisionError):
            number = math.nan
        if not math.isfinite(number):
            raise InputError(f"{text!r}: {part.strip()!r} is no number. Write 0.5 or 127/255.")
        numbers.append(number)
    return tuple(numbers)


def parse_size(text: str) -> tuple[int, ...]:
    """An input size ``S``, ``HxW`` or ``CxHxW`` (``,`` serves as well as ``x``), in pixels.

    >>> parse_size("3x224x224")
    (3, 224, 224)

    Raises
    ------
    InputError
        If it is not one to three positive whole numbers.
    """
    try:
        size = tuple(int(part) for part in text.replace("x", ",").split(","))
    except ValueError:
        size = ()
    if not 1 <= len(size) <= 3 or min(size) < 1:
        raise InputError(f"{text!r}: no input size. Write 224, 224x224 or 3x224x224.")
    return size


def parse_samples(text: str) -> int | str:
    """Read a number of draws, or ``auto``.

    >>> parse_samples("64")
    64

    Raises
    ------
    InputError
        If it is neither.
    """
    if text == "auto":
        return text
    try:
        return int(text)
    except ValueError:
        raise InputError(
            f"--samples {text}: not understood. Write a number from 2, or auto."
        ) from None


def parse_target(text: str) -> str | int:
    """The class to explain: ``predicted``, ``label``, or an index from 0.

    >>> parse_target("7")
    7

    Raises
    ------
    InputError
        If it is none of these.
    """
    if text.isascii() and text.isdigit():
        return int(text)
    if text not in ("predicted", "label"):
        raise InputError(f"--target {text}: not understood. Write predicted, label or an index.")
    return text


def parse_twin(spec: str) -> dict[str, Any]:
    """Split ``SPEC,key=value,...`` of ``--twin`` into the arguments of ``load_model``.

    Keys are ``weights``, ``mean``, ``std``, ``input-size``, ``labels``, ``output``, ``name`` and
    ``setting``.
    A part without ``=`` continues the value before it.

    >>> parse_twin("net.py:make,weights=b.safetensors,mean=0.4,0.5,0.6,input-size=240")["mean"]
    (0.4, 0.5, 0.6)

    Raises
    ------
    InputError
        If a key is unknown or given twice, or a value cannot be read.
    """
    model, *parts = spec.split(",")
    values: dict[str, str] = {}
    key = None
    for part in parts:
        name, equals, value = part.partition("=")
        if equals:
            key = name.strip().replace("-", "_")
            if key not in _READERS:
                known = ", ".join(k.replace("_", "-") for k in _READERS)
                raise InputError(f"--twin {spec}: unknown key {name.strip()!r}. Known: {known}.")
            if key in values:
                raise InputError(f"--twin {spec}: {name.strip()!r} is given twice. Give it once.")
            values[key] = value.strip()
        elif key is None:
            raise InputError(f"--twin {spec}: {part!r} has no key. Write MODEL,key=value,...")
        else:
            values[key] += "," + part.strip()
    return {"spec": model.strip(), **{k: _READERS[k](v) for k, v in values.items()}}


_READERS: dict[str, Any] = {
    "weights": Path,
    "mean": parse_floats,
    "std": parse_floats,
    "input_size": parse_size,
    "labels": Path,
    "output": str,
    "name": str,
    "setting": str,
}
