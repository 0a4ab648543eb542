"""The measurements as a decision reads them: values per image, σ by σ, half by half."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from auditor.results import Estimate, Measurement
from auditor.statistics import bootstrap_estimate
from profiles import Quantity
from profiles.records import FEWEST
from profiles.schema import AT_ZERO

Values = tuple[float | None, ...]

FEWEST_IMAGES = FEWEST
"""Images that must count in each half before anything is decided."""

# What smoothing with σ = 0 is by definition, where nobody measured it.
_UNSMOOTHED = {**AT_ZERO, "norm_ratio": 1.0}


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """Everything measured, and the images on which it is screened and confirmed.

    Attributes
    ----------
    measurements
        All records of the audit, at every σ.
    screen, confirm
        Indices of images; they do not overlap.
    height, width
        Size of the images in pixels.
    chance
        Top-k overlap of two unrelated maps, k/(H·W).
    seed
        Seed of every bootstrap.
    not_applicable
        Probes that the model cannot have, each with the reason.
    """

    measurements: tuple[Measurement, ...]
    screen: tuple[int, ...]
    confirm: tuple[int, ...]
    height: int
    width: int
    chance: float
    seed: int
    not_applicable: Mapping[str, str] = field(default_factory=dict)

    @property
    def enough(self) -> bool:
        """Whether both halves have enough images for a verdict."""
        return min(len(self.screen), len(self.confirm)) >= FEWEST_IMAGES

    def half(self, name: str) -> tuple[int, ...]:
        """Indices of the half called ``screening`` or ``confirmation``."""
        return {"screening": self.screen, "confirmation": self.confirm}[name]

    def find(
        self,
        quantity: Quantity,
        *,
        sigma: float,
        worst: str,
        compared_to: str | None = None,
    ) -> Values | None:
        """Values per image of a quantity at one σ, ``None`` if it was not measured.

        Of several partners (twins, controls) the worst counts: the one with the ``smallest`` or
        ``largest`` mean over the screening half, for all images and both halves alike. With
        `compared_to` the values are differences to those at σ = 0 with the same partner.
        """
        found = self._matching(quantity, sigma)
        if compared_to is not None:
            plain = self._matching(quantity, 0.0)
            found = {
                partner: _minus(values, plain[partner])
                for partner, values in found.items()
                if partner in plain
            }
        if not found:
            return None
        sign = 1.0 if worst == "smallest" else -1.0

        def badness(partner: str | None) -> tuple[float, str]:
            counted = self.column(found[partner])  # a partner with no map at all is the worst
            return sign * float(np.mean(counted)) if counted else -np.inf, str(partner)

        return found[min(found, key=badness)]

    def _matching(self, quantity: Quantity, sigma: float) -> dict[str | None, Values]:
        epsilon = quantity.epsilon_at(self.height, self.width)
        wanted = (quantity.probe, quantity.metric, quantity.attack, epsilon, sigma)
        found: dict[str | None, Values] = {}
        for m in self.measurements:
            if (m.probe, m.metric, m.attack, m.epsilon, m.sigma) == wanted:
                if m.partner in found:
                    raise ValueError(f"measured twice: {wanted} with partner {m.partner}")
                found[m.partner] = m.values
        if not found and quantity.probe == "smoothing" and sigma == 0:
            value = _UNSMOOTHED.get(quantity.metric)
            images = max((*self.screen, *self.confirm), default=-1) + 1
            return {} if value is None else {None: (value,) * images}
        return found

    def column(self, values: Values, half: str = "screening") -> list[float]:
        """Values of one half that count."""
        return [v for v in take(values, self.half(half)) if v is not None]

    def estimate(self, values: Values, half: str, confidence: float) -> Estimate | None:
        """Mean over one half with its two-sided bootstrap interval; ``None`` if nothing counts."""
        return bootstrap_estimate(
            take(values, self.half(half)), confidence=confidence, seed=self.seed
        )


def take(values: Values, indices: Sequence[int]) -> Values:
    """Values of some images, in the order of the indices."""
    return tuple(values[i] for i in indices)


def array(values: Values) -> npt.NDArray[np.float64]:
    """Values as an array, NaN where an image is excluded."""
    return np.array([np.nan if v is None else v for v in values], dtype=np.float64)


def _minus(a: Values, b: Values) -> Values:
    pairs = zip(a, b, strict=True)
    return tuple(None if x is None or y is None else x - y for x, y in pairs)
