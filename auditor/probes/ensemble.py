"""How much of a map is the luck of training: the members of an ensemble against each other."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor

from auditor.metrics.drift import Reference
from auditor.probes.smoothing import norms
from auditor.records import Records, book


def ensemble_probe(plain: Tensor, shown: Tensor, *, sigma: float, k: int, name: str) -> Records:
    """Stability, fidelity and variance over M members at one σ, for each image.

    Parameters
    ----------
    plain, shown
        Raw maps (M, B, C, H, W) of all members for one class, unsmoothed and smoothed.
    name
        Of the ensemble.

    Notes
    -----
    ``stability_error`` = mean over pairs of ‖Aᵢ − Aⱼ‖ (S0 (12)); ``fidelity_error`` = mean over
    members of ‖smoothed Aᵢ − Aᵢ‖ (S0 (13)), which is the ``bias`` of S0 B; ``variance`` = mean of
    ‖Aᵢ − mean A‖² (S0 B). With M members it has (M − 1)/M of the variance of all trainings.
    ``map_norm`` is the mean norm of the smoothed maps, ``ssim``, ``topk_iou`` and
    ``topk_intersection`` are means over pairs. A metric that is undefined for one pair is undefined
    for the image.
    """
    if len(shown) < 2:
        raise ValueError("an ensemble has at least two members")
    records: Records = {}
    drifts = [
        (one.drift(shown[other]))
        for first in range(len(shown))
        for one in [Reference(shown[first], k)]
        for other in range(first + 1, len(shown))
    ]

    def over_pairs(metric: str) -> Tensor:
        return torch.stack([drift[metric] for drift in drifts]).mean(dim=0)

    values = {metric: over_pairs(metric) for metric in ("ssim", "topk_iou", "topk_intersection")}
    values["stability_error"] = over_pairs("l2")
    values["fidelity_error"] = _over_members(shown - plain)
    values["map_norm"] = _over_members(shown)
    centered = shown.double() - shown.double().mean(dim=0)
    values["variance"] = centered.flatten(2).square().sum(dim=2).mean(dim=0)
    book(records, values, probe="ensemble", sigma=sigma, partner=name)
    return records


def agreement(predicted: Tensor) -> Tensor:
    """Share of pairs (B,) that predict the same class, from predictions (M, B)."""
    pairs = itertools.combinations(predicted, 2)
    return torch.stack([one == other for one, other in pairs]).double().mean(dim=0)


def _over_members(maps: Tensor) -> Tensor:
    return torch.stack([norms(member) for member in maps]).mean(dim=0)
