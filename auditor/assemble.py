"""From the arrays of finished tasks to measurements over all images."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import torch

from auditor.metrics.drift import AUC_GRID, RANGES, UNITS, auc_over_eps, chance, iou_k
from auditor.quality import METRICS
from auditor.records import Key, Records, Values
from auditor.results import Measurement
from auditor.statistics import bootstrap_estimate
from auditor.store import Arrays

_RANGES = {
    **RANGES,
    **dict.fromkeys(
        ("topk_intersection_common", "self_overlap", "label_kept", "agreement", "accuracy"),
        (0.0, 1.0),
    ),
    **dict.fromkeys(("planted_topk", "planted_mass"), (0.0, 1.0)),
}
_INTERNAL = {"map_norm", "infeasible", "sampled"}
_NORMALIZED = {
    "stability_error": "normalized_stability_error",
    "fidelity_error": "normalized_fidelity_error",
}
_UNITS = {
    **UNITS,
    "fidelity_error": "map units",
    "stability_error": "map units",
    "variance": "map units²",
    "hessian_eigenvalue": "1/pixel²",
    "hessian_residual": "1/pixel²",
    "loss_gradient_drift": "1/pixel²",
    "rho": "pixel units",
    "auc_over_eps": "ratio × ε steps",
    "skipped": "perturbed images",
    **{name: metric.unit for name, metric in METRICS.items()},
}


def gather(tasks: Iterable[tuple[Sequence[int], Arrays]], count: int) -> Records:
    """Put the per-task arrays into one array (count,) per condition; ``nan`` where unmeasured."""
    records: Records = {}
    for rows, arrays in tasks:
        for name, values in arrays.items():
            if name.startswith(("delta|", "map|", "meter|")):
                continue
            full = records.setdefault(Key.decode(name), np.full(count, np.nan))
            full[list(rows)] = values
    return records


def measurements(
    records: Records,
    *,
    misclassified: Values,
    k: int,
    input_shape: tuple[int, int, int],
    seed: int,
    method: str = "simple_grad",
) -> tuple[Measurement, ...]:
    """Every condition with its mean, interval and counts of what was excluded.

    ``misclassified`` (n,) is true where an image counts apart. Errors are also divided by the
    mean map norm over the images at that σ (math section 4), and top-k overlaps of the
    unsmoothed map integrated over ε.
    """
    complete = dict(records)
    for key, values in records.items():
        if key.metric in _NORMALIZED:
            norm = np.nanmean(records[dataclasses.replace(key, metric="map_norm")])
            ratio = values / norm if norm > 0 else np.full_like(values, np.nan)
            complete[dataclasses.replace(key, metric=_NORMALIZED[key.metric])] = ratio
    complete |= _areas(records)
    level = {
        "topk_intersection": chance(k, *input_shape[1:]),
        "topk_intersection_common": chance(k, *input_shape[1:]),
        "topk_mass": chance(k, *input_shape[1:]),
    }
    small = chance(min(iou_k(*input_shape[1:]), k), *input_shape[1:])
    level["topk_iou"] = small / (2 - small)
    level |= dict.fromkeys(("planted_topk", "planted_mass"), 0.5)
    found = []
    for key, values in complete.items():
        if key.metric in _INTERNAL:
            continue
        lost = records.get(dataclasses.replace(key, metric="infeasible"))
        seen = records.get(dataclasses.replace(key, metric="sampled", partner=None))
        unit = _UNITS.get(key.metric, "ratio")
        plain = tuple(None if np.isnan(v) else float(v) for v in values)
        found.append(
            Measurement(
                probe=key.probe,
                metric=key.metric,
                unit=unit,
                values=plain,
                estimate=bootstrap_estimate(plain, seed=seed, bounds=_RANGES.get(key.metric)),
                excluded=_excluded(key, values, lost, misclassified, seen),
                method=method,
                sigma=key.sigma,
                epsilon=key.epsilon,
                attack=key.attack,
                partner=key.partner,
                chance=level.get(key.metric),
            )
        )
    return tuple(found)


def _excluded(
    key: Key,
    values: Values,
    lost: Values | None,
    misclassified: Values,
    seen: Values | None,
) -> Mapping[str, int]:
    missing = np.isnan(values)
    attacked = {"attack", "curvature", "natural", "transfer_matrix", "quality", "planted"}
    apart = missing & (misclassified > 0) & (key.probe in attacked)
    infeasible = missing & ~apart & (lost == 1 if lost is not None else False)
    rest = missing & ~apart & ~infeasible
    outside = rest & (np.isnan(seen) if seen is not None else key.probe == "transfer_matrix")
    counts = {
        "misclassified": int(apart.sum()),
        "label not kept": int(infeasible.sum()),
        "outside the sample": int(outside.sum()),
        "undefined": int((rest & ~outside).sum()),
    }
    return {reason: count for reason, count in counts.items() if count}


def _areas(records: Records) -> Records:
    """``auc_over_eps`` of the top-k intersection, where the whole grid of ε was attacked."""
    areas: Records = {}
    conditions = {
        dataclasses.replace(key, epsilon=None)
        for key in records
        if key.probe == "attack" and key.metric == "topk_intersection" and key.attack
    }
    for condition in sorted(conditions, key=Key.encode):
        by_epsilon = {
            epsilon: records.get(dataclasses.replace(condition, epsilon=epsilon))
            for epsilon in AUC_GRID
        }
        whole = {float(e): torch.from_numpy(v) for e, v in by_epsilon.items() if v is not None}
        if len(whole) == len(AUC_GRID):
            key = dataclasses.replace(condition, metric="auc_over_eps")
            areas[key] = auc_over_eps(whole).numpy()
    return areas
