"""How far a smoothed map is from the unsmoothed one, and whether it is a map at all."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from auditor.metrics.drift import Reference, topk_intersection
from auditor.probes.subject import CleanMaps
from auditor.records import Records, book


def norms(maps: Tensor) -> Tensor:
    """ℓ₂ norms (B,) of raw maps, float64, in map units."""
    sizes: Tensor = torch.linalg.vector_norm(maps.double().flatten(1), dim=1)
    return sizes


def map_error(shown: Tensor, fresh: Tensor) -> Tensor:
    """Monte-Carlo standard error (B,) of one map by its norm, ≥ 0, from two with independent noise.

    ‖shown − fresh‖ / (√2 · ‖(shown + fresh)/2‖): a difference has twice the variance of a map. The
    draws of one map may depend on each other, so its error shows only between whole maps. ``nan``
    where the mean map is zero.
    """
    difference, mean = norms(shown.double() - fresh), norms((shown.double() + fresh) / 2)
    return torch.where(mean > 0, difference / (math.sqrt(2) * mean), torch.nan)


def smoothing(plain: Tensor, maps: CleanMaps, *, sigma: float, k: int) -> Records:
    """Drift of the smoothed against the unsmoothed map, and the validity of the smoothed one.

    ``self_overlap`` is the top-k intersection of two smoothed maps with independent noise, the
    floor below which no drift can be seen; ``label_kept`` the share of noisy copies with the
    explained class; ``map_error`` the standard error of a smoothed map (:func:`map_error`);
    ``norm_ratio`` = ‖smoothed‖/‖plain‖; ``fidelity_error`` = ‖smoothed − plain‖ (S0 (13) for one
    member), with ``map_norm`` = ‖smoothed‖ to normalize it by.
    """
    records: Records = {}
    drift = Reference(plain, k).drift(maps.shown)
    size, plain_size = norms(maps.shown), norms(plain)
    validity = {
        "self_overlap": topk_intersection(maps.shown, maps.fresh, k),
        "label_kept": maps.kept.double(),
        "map_error": map_error(maps.shown, maps.fresh),
        "norm_ratio": torch.where(plain_size > 0, size / plain_size, torch.nan),
        "fidelity_error": drift["l2"],
        "map_norm": size,
    }
    book(records, drift | validity, probe="smoothing", sigma=sigma)
    return records
