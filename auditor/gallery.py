"""Which images the report shows, and their pictures and maps at every σ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from auditor.ensembles import Ensemble
from auditor.metrics.drift import Reference
from auditor.metrics.views import magnitude
from auditor.probes.subject import shown_map
from auditor.records import Values
from auditor.store import Arrays
from auditor.tasks import Bench, moved_map

WORST = 4
MEDIAN = 2
"""Images shown: those whose map moves most, and those in the middle."""
PAIRS = 3
"""Images shown of each ensemble: those on which its members' unsmoothed maps differ most."""


def gallery_rows(overlap: Values) -> tuple[int, ...]:
    """The images with the lowest overlap, then those nearest to the median, each once.

    ``overlap`` (n,) is that of the unsmoothed maps, ``nan`` where an image does not count.
    """
    counted = [int(row) for row in np.argsort(overlap, kind="stable") if np.isfinite(overlap[row])]
    worst, rest = counted[:WORST], counted[WORST:]
    if not rest:
        return tuple(worst)
    median = np.median(overlap[counted])
    nearest = sorted(rest, key=lambda row: (abs(overlap[row] - median), row))[:MEDIAN]
    return (*worst, *nearest)


def gallery_task(
    bench: Bench, rows: Sequence[int], deltas: Mapping[float, Tensor], *, epsilon: float
) -> Arrays:
    """Clean and attacked pictures and maps of the images, at each σ that ``deltas`` has.

    ``deltas`` (g, C, H, W) are the perturbations found for the map at that σ, at ``epsilon``.
    """
    subject = bench.subject(rows)
    evaluator = bench.evaluator("gallery")
    befores, afters, overlaps = [], [], []
    for sigma, delta in deltas.items():
        samples = bench.budget(sigma).samples
        before = shown_map(evaluator, subject, sigma=sigma, samples=samples)
        after = moved_map(bench, evaluator, subject, delta, sigma)
        overlaps.append(Reference(before, subject.k).drift(after)["topk_intersection"])
        befores.append(magnitude(before))
        afters.append(magnitude(after))
    tensors = {
        "index": torch.tensor(list(rows)),
        "worst": torch.tensor(min(WORST, len(rows))),
        "sigmas": torch.tensor(list(deltas), dtype=torch.float64),
        "epsilon": torch.tensor(epsilon),
        "image": subject.x,
        "perturbed": torch.stack([subject.x + delta.nan_to_num() for delta in deltas.values()]),
        "before": torch.stack(befores),
        "after": torch.stack(afters),
        "overlap": torch.stack(overlaps),
    }
    return {name: tensor.numpy().astype(np.float32) for name, tensor in tensors.items()}


def pair_rows(stability_error: Values) -> tuple[int, ...]:
    """The images on which members differ most; those without a value come last."""
    return tuple(np.argsort(-stability_error, kind="stable")[:PAIRS].tolist())


def pairs_task(
    bench: Bench, ensembles: Sequence[tuple[Ensemble, Sequence[int]]], *, sigma: float
) -> Arrays:
    """Maps of the first two members of each ensemble, unsmoothed and smoothed, for some images.

    The ensembles have equally many images each.
    """
    models = (bench.classifier, *bench.twins)
    maps = []
    for ensemble, rows in ensembles:
        subject = bench.subject(rows)
        at = [
            [
                magnitude(
                    shown_map(
                        bench.evaluator("gallery", models[place]),
                        subject,
                        sigma=level,
                        samples=bench.budget(level).samples,
                    )
                )
                for place in ensemble.members[:2]
            ]
            for level in (0.0, sigma)
        ]
        maps.append(torch.stack([torch.stack(pair, dim=1) for pair in at], dim=1))
    tensors = {
        "member_index": torch.tensor([list(rows) for _, rows in ensembles]),
        "member_place": torch.tensor([ensemble.members[:2] for ensemble, _ in ensembles]),
        "member_sigma": torch.tensor(sigma, dtype=torch.float64),
        "member_image": torch.stack([bench.images.batch(rows) for _, rows in ensembles]),
        "member_maps": torch.stack(maps),
    }
    return {name: tensor.numpy().astype(np.float32) for name, tensor in tensors.items()}
