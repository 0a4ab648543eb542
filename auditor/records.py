"""Values per image under named conditions: what tasks produce and files hold."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

Values = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Key:
    """A condition; see :class:`auditor.results.Measurement` for the fields.

    ``radius`` is the ℓ₂ length of a perturbation in pixel units, for bounds.
    """

    probe: str
    metric: str
    # Not last: a name that ends like a file's, as "twin.npy", would confuse numpy's archives.
    partner: str | None = None
    sigma: float | None = None
    epsilon: float | None = None
    attack: str | None = None
    radius: float | None = None

    def encode(self) -> str:
        """Text that :meth:`decode` turns back into the same key; a name inside a file."""
        parts = ("" if v is None else str(v) for v in dataclasses.astuple(self))
        return "|".join(
            part.replace("%", "%25").replace("|", "%7C").replace("/", "%2F") for part in parts
        )

    @classmethod
    def decode(cls, text: str) -> Key:
        """Read what :meth:`encode` wrote."""
        parts = [
            part.replace("%2F", "/").replace("%7C", "|").replace("%25", "%")
            for part in text.split("|")
        ]
        probe, metric, partner, sigma, epsilon, attack, radius = parts
        return cls(
            probe=probe,
            metric=metric,
            sigma=float(sigma) if sigma else None,
            epsilon=float(epsilon) if epsilon else None,
            attack=attack or None,
            partner=partner or None,
            radius=float(radius) if radius else None,
        )


Records = dict[Key, Values]


def book(records: Records, values: dict[str, Tensor], **condition: Any) -> None:
    """Add metrics (name → tensor (B,)) measured under one condition."""
    for metric, tensor in values.items():
        records[Key(metric=metric, **condition)] = tensor.double().numpy()
