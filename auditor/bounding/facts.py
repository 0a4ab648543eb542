"""What the bounds of an audit are made from."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from auditor.bounds.layers import Chain
from auditor.bounds.stability import Setting
from auditor.bounds.training import Training
from auditor.records import Records, Values
from auditor.results import Measurement

S0 = "Ye and Farnia 2024 (arXiv 2411.05837)"
S3 = "Wang et al. 2020 (arXiv 2006.06643)"


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What bounds need to know of an audit.

    Attributes
    ----------
    records
        Of the probe ``bounds``, over all images.
    rows
        Images that were looked at.
    measured
        Of all other probes.
    sigma, draws, k
        Smoothing, draws of each side of a bracket, top pixels.
    shape
        Of an image.
    method
        Name of the explanation.
    chain
        The network's layers; ``None`` where there is no code to read them from.
    std
        The model's normalization: layers of the network see pixels divided by it.
    training
        How the model was trained, if known.
    """

    records: Records
    rows: tuple[int, ...]
    measured: tuple[Measurement, ...]
    sigma: float
    draws: int
    k: int
    shape: tuple[int, int, int]
    method: str
    chain: Chain | None
    std: tuple[float, ...]
    training: Training | None

    def values(self, metric: str, radius: float | None = None) -> Values | None:
        """What was measured on each of the rows, ``None`` if it was not."""
        for key, values in self.records.items():
            if key.metric == metric and key.radius == radius:
                return values[list(self.rows)]
        return None

    def radii(self, metric: str) -> tuple[float, ...]:
        """The radii at which something was measured, ascending."""
        found = {key.radius for key in self.records if key.metric == metric}
        return tuple(sorted(radius for radius in found if radius is not None))

    def mean(self, probe: str, metric: str, sigma: float) -> float | None:
        """Mean over images of another probe's measurement, the largest over its partners."""
        found = [
            m.estimate.mean
            for m in self.measured
            if (m.probe, m.metric, m.sigma) == (probe, metric, sigma) and m.estimate is not None
        ]
        return max(found, default=None)

    def setting(self) -> Setting | None:
        """The layers as theorems take them, ``None`` if the network is no chain of layers."""
        chain = self.chain
        if chain is None or not chain.layers or chain.assumptions[0].status != "met":
            return None
        if not all(0 < norm < math.inf for norm in chain.norms):
            return None
        scale = (1 / min(self.std),) if self.std and min(self.std) != 1 else ()
        pixels = math.prod(self.shape)
        return Setting(norms=(*scale, *chain.norms), size=math.sqrt(pixels), pixels=pixels)


def largest(values: Values) -> float:
    """The largest finite value, ``nan`` if there is none."""
    return float(np.nanmax(values)) if np.isfinite(values).any() else math.nan


def log10(value: float) -> float:
    """log₁₀, −∞ for what is not positive."""
    return math.log10(value) if value > 0 else -math.inf
