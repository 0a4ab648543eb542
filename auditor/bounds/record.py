"""The one form in which every bound is reported, whatever it bounds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

STATUSES = ("met", "not met", "not checkable")
KINDS = ("upper", "lower", "estimate")


@dataclass(frozen=True, kw_only=True)
class Assumption:
    """What a bound takes for granted, and whether this model grants it.

    Attributes
    ----------
    text
        The assumption.
    status
        ``met``, ``not met`` or ``not checkable``.
    reason
        Why, in a sentence; may be empty where it is met by construction.

    Raises
    ------
    ValueError
        If the status is none of the three.
    """

    text: str
    status: str
    reason: str = ""

    def __post_init__(self) -> None:
        if self.status not in STATUSES:
            raise ValueError(f"status {self.status!r} is none of {STATUSES}")


@dataclass(frozen=True, kw_only=True)
class Bound:
    """A bound beside the quantity that it bounds, as measured.

    Attributes
    ----------
    name
        Identifier, e.g. ``topk_certificate``.
    title
        What it bounds, for people.
    source
        Where it is proved, with the number of the equation or theorem.
    kind
        ``upper`` or ``lower`` for what holds under the assumptions, ``estimate`` for what holds to
        first order only.
    unit
        Of values and measurements.
    values
        One for each of ``images``, or a single one that is a property of the model; ``None`` where
        it cannot be computed.
    measured
        The measured counterpart of each value; ``None`` where nothing was measured.
    vacuous
        Whether each value says less than is true of any model; ``None`` where that is not known.
    log10
        Whether values and measurements are logarithms to base 10, because they may overflow.
    images
        Index of each image in the audit; empty for a property of the model.
    sigma, radius
        Smoothing, and ℓ₂ length of the perturbation, in pixel units of [0, 1].
    method
        The map that is bounded, e.g. ``sparsified smooth_grad``.
    note
        What a reader must know beside the number, e.g. why there is none.

    Raises
    ------
    ValueError
        If the kind is unknown or the lengths differ.
    """

    name: str
    title: str
    source: str
    kind: str
    unit: str
    values: tuple[float | None, ...]
    measured: tuple[float | None, ...]
    vacuous: tuple[bool | None, ...]
    assumptions: tuple[Assumption, ...] = ()
    log10: bool = False
    images: tuple[int, ...] = ()
    sigma: float | None = None
    radius: float | None = None
    method: str | None = None
    note: str = ""

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"kind {self.kind!r} is none of {KINDS}")
        count = len(self.images) or 1
        if not len(self.values) == len(self.measured) == len(self.vacuous) == count:
            raise ValueError(f"{self.name}: values for {len(self.values)} of {count} images")

    @property
    def crossed(self) -> tuple[int, ...]:
        """Places where the measurement contradicts the bound: a fault, or an assumption not met.

        An estimate can't be contradicted.
        """
        sign = {"upper": 1.0, "lower": -1.0, "estimate": 0.0}[self.kind]
        pairs = zip(self.values, self.measured, strict=True)
        return tuple(
            place
            for place, (value, seen) in enumerate(pairs)
            if value is not None and seen is not None and sign * (seen - value) > 0
        )


def numbers(values: Sequence[float]) -> tuple[float | None, ...]:
    """Plain values for a record, ``None`` for those that are not finite."""
    return tuple(float(v) if abs(float(v)) < float("inf") else None for v in values)
