"""Whether a perturbation found for one map moves another one too."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from attacks import overlap, top_set
from auditor.attributions import FRESH, Method
from auditor.evaluation import Evaluator
from auditor.metrics.drift import Reference
from auditor.metrics.views import is_zero
from auditor.probes.subject import Subject, clean_maps
from auditor.records import Records, book

MOST = 4
"""Most maps of the matrix: its cost grows with the square."""


def corners(sigmas: Sequence[float]) -> tuple[float, ...]:
    """At most four σ of an ascending grid, its ends among them, spread evenly by index."""
    count = min(MOST, len(sigmas))
    if count == 1:
        return (sigmas[0],)
    last = len(sigmas) - 1
    return tuple(sigmas[round(i * last / (count - 1))] for i in range(count))


def transfer_matrix(
    evaluator: Evaluator,
    subject: Subject,
    *,
    deltas: Mapping[float, Tensor],
    samples: int,
    epsilon: float,
) -> Records:
    """Top-k overlap of the map at one σ under the perturbation found for the map at another.

    Source: S3, Experiment III and Table 6. ``deltas`` holds for each σ the perturbations
    (B, C, H, W) found for its map at ``epsilon`` (1/255), ``nan`` where there is none. The clean
    map is the one that users are shown; the moved one has noise of its own.
    """
    records: Records = {}
    rows = torch.arange(len(subject.x))
    for sigma in deltas:
        draws = samples if sigma > 0 else 1
        shown = clean_maps(evaluator, subject, sigma=sigma, samples=draws).shown
        top = top_set(shown, subject.k)
        explain = subject.explainer(evaluator, sigma=sigma, samples=draws, stream=FRESH)
        for found_at, delta in deltas.items():
            moved, _ = explain(subject.x + delta.nan_to_num(), rows=rows, draw=0)
            lost = delta.flatten(1).isnan().any(dim=1)
            kept = overlap(moved, top).masked_fill(lost | is_zero(shown), torch.nan)
            book(
                records,
                {"topk_intersection": kept, "infeasible": lost.double()},
                probe="transfer_matrix",
                sigma=sigma,
                epsilon=epsilon,
                partner=f"σ = {found_at:g}",
            )
    return records


def method_matrix(
    evaluator: Evaluator,
    subject: Subject,
    *,
    methods: Mapping[str, Method],
    deltas: Mapping[str, Tensor],
) -> dict[tuple[str, str], dict[str, Tensor]]:
    """Drift of one method's maps under the perturbation found for another's.

    Source: S3, Experiment III and Table 6. ``deltas`` holds perturbations (B, C, H, W) by what they
    were found for, ``nan`` where there is none, and ``methods`` those that are explained, each with
    its own smoothing. A delta of zero shows how far a random method moves by itself.

    Returns
    -------
    dict
        (found for, method) → metric of :class:`~auditor.metrics.drift.Reference` → values (B,),
        ``nan`` where there is no perturbation or it does not keep the label. A map that was turned
        to zeros keeps none of its top pixels.
    """
    found = {}
    rows = torch.arange(len(subject.x))
    for name, method in methods.items():
        explained = dataclasses.replace(subject, method=method)
        shown = clean_maps(evaluator, explained, sigma=0, samples=1).shown
        reference = Reference(shown, subject.k)
        explain = explained.explainer(evaluator, sigma=0, samples=1, stream=FRESH)
        for found_for, delta in deltas.items():
            x = subject.x + delta.nan_to_num()
            moved, _ = explain(x, rows=rows, draw=0)
            kept = evaluator.logits(x).argmax(dim=1) == subject.target
            lost = delta.flatten(1).isnan().any(dim=1) | ~kept
            drift = reference.drift(moved)
            gone = is_zero(moved) & ~is_zero(shown)
            for metric in ("topk_intersection", "topk_iou", "topk_mass"):
                drift[metric] = drift[metric].masked_fill(gone, 0.0)
            found[found_for, name] = {m: v.masked_fill(lost, torch.nan) for m, v in drift.items()}
    return found
