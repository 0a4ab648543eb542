"""What an audit will cost, before it starts."""

from __future__ import annotations

import resource
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from auditor.evaluation import Evaluator
from auditor.results import Cost
from auditor.settings import Settings
from auditor.tasks import GALLERY

FORWARD = 1 / 3
"""Cost of a forward pass in gradients (forward and backward pass)."""


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """Predicted cost.

    Attributes
    ----------
    costs
        Model evaluations by probe.
    seconds
        Predicted time on this machine, from a few timed batches of every model.
    memory_mib
        Peak memory of this process after those batches, in MiB; an audit needs little more.
    """

    costs: tuple[Cost, ...]
    seconds: float
    memory_mib: float


def predict_costs(settings: Settings, *, images: int, twins: int, classes: int) -> tuple[Cost, ...]:
    """Model evaluations by probe; an upper bound but for images that lose their label."""
    s = settings
    smooth = len(s.sigmas) - 1
    n, per_sigma = s.samples, len(s.smooth_epsilons)
    plain_attack = len(s.epsilons) * (3 * s.steps + 1 + 3 + 2) - 1
    rounds = 3 * s.smooth_steps + 1
    # The pool of three, the last iterate, the transferred perturbation, and a smaller ε's.
    scored = per_sigma * 5 + max(0, per_sigma - 1)
    smooth_attack = per_sigma * (rounds * s.search_samples + 3 * n) + scored * s.select_samples
    doubled = (
        per_sigma * ((6 * s.smooth_steps + 1) * s.search_samples + 5 * s.select_samples + n)
        + per_sigma * 2 * n
    )
    labels = per_sigma * (3 * s.smooth_steps + 1 + 4) + scored
    forwards = len(s.epsilons) + smooth * labels + per_sigma * (6 * s.smooth_steps + 8)
    members = 1 + smooth * (n + 1)
    shown = min(GALLERY, images)
    rows = [
        Cost(probe="smoothing", gradients=images * (1 + smooth * (2 * n + 1)), forwards=images),
        Cost(
            probe="attack",
            gradients=images * (plain_attack + smooth * smooth_attack + doubled),
            forwards=images * forwards,
        ),
        Cost(
            probe="twin",
            gradients=images * twins * members,
            forwards=images * twins * (1 + smooth),
        ),
        Cost(probe="control", gradients=images * (1 + smooth * n), forwards=images * smooth),
        Cost(
            probe="curvature",
            gradients=images * (min(classes, s.hessian_classes) + 1 + len(s.epsilons)),
            forwards=0,
        ),
        Cost(probe="gallery", gradients=shown * (2 + 3 * n), forwards=shown),
    ]
    return tuple(row for row in rows if row.gradients)


def gradients(costs: Sequence[Cost]) -> float:
    """Total in gradients of the audited model."""
    return sum(cost.gradients + FORWARD * cost.forwards for cost in costs)


def estimate(
    settings: Settings, *, x: Tensor, images: int, models: Sequence[Evaluator], classes: int
) -> Estimate:
    """Predict evaluations, and minutes from timed batches of each model (the audited one first).

    ``x`` holds some of the images; they are repeated to a full batch.
    """
    costs = predict_costs(settings, images=images, twins=len(models) - 1, classes=classes)
    per_gradient = [_seconds_per_gradient(model, x) for model in models]
    total = sum(
        gradients([cost])
        * (statistics.fmean(per_gradient[1:]) if cost.probe == "twin" else per_gradient[0])
        for cost in costs
    )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return Estimate(
        costs=costs, seconds=total, memory_mib=peak / (2**20 if sys.platform == "darwin" else 1024)
    )


def _seconds_per_gradient(evaluator: Evaluator, x: Tensor, *, repeats: int = 3) -> float:
    batch = x.repeat(-(-evaluator.batch // len(x)), 1, 1, 1)[: evaluator.batch]
    target = torch.zeros(len(batch), dtype=torch.long)
    evaluator.gradients(batch[:1], target[:1])
    taken = []
    for _ in range(repeats):
        start = time.perf_counter()
        evaluator.gradients(batch, target)
        taken.append((time.perf_counter() - start) / len(batch))
    return min(taken)
