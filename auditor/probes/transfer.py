"""Whether a perturbation found for one map moves another one too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from attacks import overlap, top_set
from auditor.attributions import FRESH
from auditor.evaluation import Evaluator
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
