"""Every attribution method in one table, and how a user names one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from auditor.attributions.gradient import Method, SimpleGrad
from auditor.errors import InputError

Reader = Callable[[str], Any]
"""Reads the value of an option; raises ValueError with what would be right."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One method, and what a user may set of it.

    Attributes
    ----------
    name
        As in ``--method NAME`` and in the tables of a report.
    make
        Makes the method; takes ``options`` as keyword arguments.
    formula
        In one line; f is the explained class's logit.
    source
        Where it is defined.
    options
        What may be set, and how to read it. Defaults are attributes of what ``make`` returns.
    needs
        What it asks of the model beyond logits and gradients.
    """

    name: str
    make: Callable[..., Method]
    formula: str
    source: str
    options: Mapping[str, Reader] = field(default_factory=dict)
    needs: str = ""


METHODS: Mapping[str, Entry] = MappingProxyType(
    {
        entry.name: entry
        for entry in (Entry(name="simple_grad", make=SimpleGrad, formula="∇f(x)", source="S0 (4)"),)
    }
)
"""Name → method."""


def find_method(spec: str) -> Method:
    """The method that a user names: ``NAME`` or ``NAME,key=value,...``.

    >>> find_method("simple_grad").name
    'simple_grad'

    Raises
    ------
    InputError
        If there is no such method or option, or a value cannot be read.
    """
    name, *parts = (part.strip() for part in spec.split(","))
    if name not in METHODS:
        raise InputError(f"method {name!r} is unknown. Choose one of {', '.join(METHODS)}.")
    entry = METHODS[name]
    values: dict[str, Any] = {}
    for part in parts:
        key, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals or key not in entry.options:
            known = ", ".join(f"{option}=…" for option in entry.options) or "it has none"
            raise InputError(f"method {spec}: option {part!r} is unknown. Known: {known}.")
        if key in values:
            raise InputError(f"method {spec}: {key} is given twice. Give it once.")
        try:
            values[key] = entry.options[key](value)
        except ValueError as error:
            raise InputError(f"method {spec}: {key}={value}: {error}") from None
    return entry.make(**values)
