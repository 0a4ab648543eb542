"""What is known of how a model was trained, for the bounds of algorithmic stability."""

from __future__ import annotations

import math
from dataclasses import dataclass

from auditor.errors import InputError

FORM = "--training n=…,T=…,c=…[,beta=…][,L=…][,kappa=…]"


@dataclass(frozen=True, kw_only=True)
class Training:
    """Record of a run of stochastic gradient descent (S0, section 4).

    Attributes
    ----------
    n
        Training samples, ≥ 2.
    T
        Steps, ≥ 1.
    c
        Scale of the step sizes: α_t ≤ c/t, > 0.
    beta, L
        Smoothness and Lipschitz constants of the loss in the weights; ``None``: bounded from the
        layers (S0 Lemma D.8).
    kappa
        Standard deviation of the noise on the weights in noisy SGD (S0 (3)); ``None`` without.
    """

    n: int
    T: int
    c: float
    beta: float | None = None
    L: float | None = None
    kappa: float | None = None


def parse_training(text: str) -> Training:
    """Read ``n=60000,T=5000,c=0.1``.

    Raises
    ------
    InputError
        If a value is missing, unknown, given twice or out of range.
    """
    values: dict[str, float] = {}
    for part in text.split(","):
        name, equals, word = (piece.strip() for piece in part.partition("="))
        if name not in Training.__dataclass_fields__ or not equals or name in values:
            raise InputError(f"{part.strip()!r} is not understood. Write {FORM}.")
        try:
            value = float(word)
        except ValueError:
            value = math.nan
        if not 0 < value < math.inf:
            raise InputError(f"{name}={word}: not a positive number. Write {FORM}.")
        values[name] = value
    missing = [name for name in ("n", "T", "c") if name not in values]
    if missing:
        raise InputError(f"{missing[0]} is missing. Write {FORM}.")
    for name, least in (("n", 2), ("T", 1)):
        if values[name] != int(values[name]) or values[name] < least:
            raise InputError(f"{name}={values[name]:g}: give a whole number from {least}.")
    n, steps = (int(values.pop(name)) for name in ("n", "T"))
    return Training(n=n, T=steps, c=values.pop("c"), **values)
