"""Plain JSON values back into annotated frozen dataclasses, refusing what does not fit."""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from typing import Any


def build(kind: Any, value: Any) -> Any:
    """Turn a value of plain JSON into the annotated type.

    Raises
    ------
    KeyError, TypeError, ValueError
        If a type differs, a key is unknown or missing, or a number is not finite.
    """
    origin = typing.get_origin(kind)
    arguments = typing.get_args(kind)
    if kind is Any:
        return value
    if origin in (types.UnionType, typing.Union):
        if value is None and type(None) in arguments:
            return None
        return build(next(a for a in arguments if a is not type(None)), value)
    if dataclasses.is_dataclass(kind):
        if not isinstance(value, dict):
            raise TypeError(f"expected an object for {kind}")
        hints = typing.get_type_hints(kind)
        # Arrays are not compared, and not in the JSON either.
        unknown = set(value) - {f.name for f in dataclasses.fields(kind) if f.compare}
        if unknown:
            raise TypeError(f"unknown key {sorted(unknown)[0]!r}")
        return typing.cast(Any, kind)(**{k: build(hints[k], v) for k, v in value.items()})
    if origin is tuple:
        if not isinstance(value, list):
            raise TypeError(f"expected a list, got {type(value).__name__}")
        if len(arguments) == 2 and arguments[1] is Ellipsis:
            return tuple(build(arguments[0], item) for item in value)
        if len(value) != len(arguments):
            raise TypeError(f"expected {len(arguments)} items, got {len(value)}")
        return tuple(build(a, item) for a, item in zip(arguments, value, strict=True))
    if origin is not None:  # Mapping[str, X]
        if not isinstance(value, dict):
            raise TypeError(f"expected an object, got {type(value).__name__}")
        return {str(k): build(arguments[1], v) for k, v in value.items()}
    if kind is float and isinstance(value, int | float) and not isinstance(value, bool):
        if not math.isfinite(value):
            raise ValueError("number is not finite")
        return float(value)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise TypeError(f"expected {kind.__name__}, got {type(value).__name__}")
    return value
