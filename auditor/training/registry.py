"""Every training recipe in one table, and how a user names one."""

from __future__ import annotations

import dataclasses
import math
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from auditor.errors import InputError
from auditor.specs import parse_floats
from auditor.training.adversarial import Adversarial
from auditor.training.filters import FILTERS
from auditor.training.gaussian_noise import GaussianNoise
from auditor.training.ig_norm import IgNorm
from auditor.training.noisy_sgd import NoisySgd
from auditor.training.recipe import Natural, Recipe
from auditor.training.ssr import Ssr


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One recipe, for people.

    Attributes
    ----------
    name
        As in ``--recipe NAME``.
    make
        Class of its settings.
    formula
        The loss, in one line; ℓ is the cross-entropy.
    source
        Where it is defined.
    cost
        Gradients for each image and epoch with the default settings, in words.
    """

    name: str
    make: type[Any]
    formula: str
    source: str
    cost: str

    @property
    def settings(self) -> dict[str, Any]:
        """Settings with their defaults."""
        return {field.name: field.default for field in dataclasses.fields(self.make)}


def _entry(make: type[Any], formula: str, source: str, cost: str) -> Entry:
    return Entry(name=make.name, make=make, formula=formula, source=source, cost=cost)


_IG = IgNorm()
RECIPES: Mapping[str, Entry] = MappingProxyType(
    {
        entry.name: entry
        for entry in (
            _entry(Natural, "ℓ(x, y)", "S2 4.1", "1"),
            _entry(GaussianNoise, "E_z ℓ(x + σz, y)", "S2 3.2; Bishop 1995", "1"),
            _entry(NoisySgd, "E_V ℓ(W + V, x, y), V ~ N(0, κ²I)", "S0 (3)", "1"),
            _entry(
                Adversarial,
                "max ℓ(x + δ, y), ‖δ‖ ≤ ε, by projected gradient descent",
                "Madry 2018; S2 A.1; S3 B2; S4 A.3",
                str(Adversarial().steps + 1),
            ),
            _entry(
                Ssr,
                "(1 − β)·ℓ + β·s·λ_max of the loss's input Hessian",
                "S3 Def. 7 and B1",
                "3 more than classes",
            ),
            _entry(
                IgNorm,
                "ℓ + γ·max ‖IG of ℓ from x to x + δ‖₁, ‖δ‖∞ ≤ ε",
                "Chen 2019; S3 C1",
                f"about {2 * (_IG.steps * _IG.search_points + _IG.points)}",
            ),
        )
    }
)
"""Name → recipe."""

BLOCK = ("filter", "after")
"""What can be asked of every recipe: a smoothing block."""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What a user asked for: a recipe, and a smoothing block or none.

    Attributes
    ----------
    recipe
        The loss.
    filter
        One of :data:`auditor.training.filters.FILTERS`; empty: no block.
    after
        Name of the layer that the block follows, or the number of a block of the network.
    """

    recipe: Recipe
    filter: str = ""
    after: str | int = 1

    def settings(self) -> dict[str, Any]:
        """Name of the recipe and all of its settings, defaults included."""
        entry = RECIPES[self.recipe.name]
        return {"name": entry.name, **{key: getattr(self.recipe, key) for key in entry.settings}}


def find_recipe(spec: str) -> Asked:
    """The recipe that a user names: ``NAME`` or ``NAME,key=value,...``.

    Keys are the recipe's settings, as numbers or fractions, and ``filter`` and ``after`` for a
    smoothing block.

    >>> find_recipe("adversarial,epsilon=8/255,steps=7,filter=median").recipe.steps
    7

    Raises
    ------
    InputError
        If there is no such recipe, setting or filter, or a value is out of range.
    """
    name, *parts = (part.strip() for part in spec.split(","))
    if name not in RECIPES:
        raise InputError(f"--recipe {name}: unknown. Choose one of {', '.join(RECIPES)}.")
    entry = RECIPES[name]
    kinds = typing.get_type_hints(entry.make)
    block: dict[str, Any] = {}
    values: dict[str, Any] = {}
    for part in parts:
        key, equals, text = (piece.strip() for piece in part.partition("="))
        if not equals or key not in (*entry.settings, *BLOCK):
            known = ", ".join((*entry.settings, *BLOCK))
            raise InputError(f"--recipe {spec}: {part!r} is no setting. Known: {known}.")
        if key in values or key in block:
            raise InputError(f"--recipe {spec}: {key} is given twice. Give it once.")
        if key in BLOCK:
            block[key] = int(text) if key == "after" and text.isdecimal() else text
        else:
            values[key] = _read(text, kinds[key], f"--recipe {spec}: {key}")
    if "after" in block and "filter" not in block:
        raise InputError(f"--recipe {spec}: after needs filter, one of {', '.join(FILTERS)}.")
    if "filter" in block and block["filter"] not in FILTERS:
        raise InputError(
            f"--recipe {spec}: filter {block['filter']!r} is unknown. Choose one of "
            f"{', '.join(FILTERS)}."
        )
    return Asked(recipe=entry.make(**values), **block)


def _read(text: str, kind: Any, where: str) -> Any:
    if kind not in (int, float):
        return text
    (number,) = parse_floats(text)
    if kind is int and not math.isclose(number, round(number)):
        raise InputError(f"{where} {text}: give a whole number.")
    return kind(number)
