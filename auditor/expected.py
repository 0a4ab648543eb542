"""What each kind of task is expected to take, before any has been done."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from auditor.cost import gradients, predict_costs
from auditor.plan import Plan

_OF_IMAGES = ("smoothing", "attack", "twin", "control", "curvature", "natural")
"""Probes of the tasks that each σ has."""


@dataclass(frozen=True)
class Expected:
    """How many tasks there are of a kind, and the gradients that each takes."""

    tasks: int
    gradients: float


def expected_tasks(plan: Plan) -> dict[str, Expected]:
    """Kinds of tasks, as run folders name them without their part; an upper bound."""
    s, count = plan.settings, len(plan.images.names)
    parts = -(-count // s.chunk)
    probes = {cost.probe for cost in plan.estimate.costs}

    def total(sigmas: tuple[float, ...], *wanted: str) -> float:
        costs = predict_costs(
            dataclasses.replace(s, sigmas=sigmas),
            images=count,
            twins=len(plan.twins),
            classes=plan.classifier.classes,
            ensembles=len(plan.ensembles),
            method=plan.method,
        )
        return gradients([c for c in costs if c.probe in probes and c.probe in wanted])

    doubled = count * len(s.smooth_epsilons) * 2 * (s.smooth_budget + s.samples)
    plain = total((0.0,), *_OF_IMAGES) - doubled
    smooth = len(s.sigmas) - 1
    each = (total(s.sigmas, *_OF_IMAGES) - plain - doubled) / smooth if smooth else 0.0
    shown = -(-min(count, s.quality_images) // s.chunk)
    bounded = -(-min(count, s.bound_images) // s.chunk)
    kinds = {
        "clean": (1, count / 3 * (1 + len(plan.twins))),
        **{f"sigma-{i}": (parts, each if i else plain) for i in range(smooth + 1)},
        "transfer": (1, total(s.sigmas, "transfer_matrix")),
        "quality": (shown, total(s.sigmas, "quality")),
        "doubled": (parts * len(s.smooth_epsilons), float(doubled)),
        "draws": (1, total(s.sigmas, "follow_up")),
        "gallery": (1, total(s.sigmas, "gallery")),
        "bounds": (bounded, total(s.sigmas, "bounds")),
    }
    return {
        kind: Expected(tasks, round(max(all_of, 0.0) / tasks, 1))
        for kind, (tasks, all_of) in kinds.items()
        if tasks and all_of
    }


def kind_of(task: str) -> str:
    """The kind that a task belongs to."""
    first, *rest = task.split("-")
    return f"{first}-{rest[0]}" if first == "sigma" and rest else first
