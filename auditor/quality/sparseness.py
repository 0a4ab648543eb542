"""How few pixels hold the map: the Gini index."""

from __future__ import annotations

import torch
from torch import Tensor

from auditor.metrics.views import magnitude
from auditor.quality.scores import Scores, faults, without

UNITS = {"gini": "ratio"}


def gini(magnitudes: Tensor) -> Tensor:
    """Gini index of magnitudes (B, H, W): 1 − 2 Σₖ a₍ₖ₎/‖a‖₁ · (d − k + ½)/d, a₍ₖ₎ ascending.

    Returns
    -------
    Tensor
        float64 (B,), a ratio from 0 (all pixels equal) to 1 − 1/d (a single pixel), d = H·W;
        NaN for an all-zero map.

    References
    ----------
    S2 (36); Chalasani et al. 2020; Hurley and Rickard 2009.
    """
    ordered = magnitudes.double().flatten(1).sort(dim=1).values
    # By the largest value first: the sum of huge values leaves the floating-point range.
    ordered = ordered / ordered[:, -1:]
    d = ordered.shape[1]
    weight = (d - torch.arange(1, d + 1, dtype=torch.float64) + 0.5) / d
    return (1 - 2 * (ordered @ weight) / ordered.sum(dim=1)).clamp(0, 1)


def sparseness(maps: Tensor) -> Scores:
    """Gini index of raw maps (B, C, H, W), taken on the magnitude; higher is sparser."""
    wrong = faults(maps)
    value = without(gini(magnitude(maps)), *wrong.values())
    return Scores(values={"gini": value}, units=UNITS, undefined=wrong)
