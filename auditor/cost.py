"""What an audit will cost, before it starts."""

from __future__ import annotations

import dataclasses
import math
import resource
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from attacks import MassCenter
from attacks.pool import KEEP
from auditor.attributions import Method
from auditor.evaluation import Evaluator
from auditor.evidence import FEWEST_IMAGES
from auditor.follow_up import LESSONS, MOST, PICTURES
from auditor.gallery import MEDIAN, PAIRS, WORST
from auditor.probes.attack_drift import AttackBudget
from auditor.probes.bounds import Depth
from auditor.probes.bounds import cost as bounds_cost
from auditor.probes.curvature import LANCZOS
from auditor.probes.natural import CHANGES
from auditor.probes.planted import RATES
from auditor.probes.quality import ATTACKED, OF_MAPS, OF_MORE_MAPS
from auditor.probes.subject import SIMPLE_GRAD, fees
from auditor.probes.suite import aim, strongest
from auditor.probes.transfer import corners
from auditor.quality import METRICS
from auditor.quality.planted import PlantedTruth
from auditor.results import Cost
from auditor.settings import Settings

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
    seconds_per_gradient
        Of the audited model, for one image in such a batch.
    """

    costs: tuple[Cost, ...]
    seconds: float
    memory_mib: float
    seconds_per_gradient: float


def predict_costs(
    settings: Settings,
    *,
    images: int,
    twins: int,
    classes: int,
    ensembles: int = 0,
    method: Method = SIMPLE_GRAD,
) -> tuple[Cost, ...]:
    """Model evaluations by probe; an upper bound but for images that lose their label."""
    s = settings
    smooth = len(s.sigmas) - 1
    n, per_sigma = s.samples, len(s.smooth_epsilons)
    plain = _attack(s, sigma=0.0, budget=s.budget, objectives=False, method=method)
    aimed = _attack(s, sigma=0.0, budget=s.budget, objectives=True, method=method)
    smoothed = _attack(
        s, sigma=1.0, budget=s.smooth_budget, objectives=s.smooth_objectives, method=method
    )
    doubled = _attack(s, sigma=1.0, budget=2 * s.smooth_budget, objectives=False, method=method)
    members = 1 + smooth * (n + 1)
    shown = min(WORST + MEDIAN, images)
    pairs = 2 * ensembles * min(PAIRS, images) * (smooth > 0)
    rows = [
        Cost(probe="smoothing", gradients=images * (1 + smooth * (2 * n + 1)), forwards=images),
        Cost(
            probe="attack",
            gradients=images
            * (
                (len(s.epsilons) - per_sigma) * plain.gradients
                + per_sigma * aimed.gradients
                + 1
                + per_sigma * (smooth * smoothed.gradients + doubled.gradients + 2 * n)
                + smooth * n * s.smooth_objectives
            ),
            forwards=images
            * (
                (len(s.epsilons) - per_sigma) * plain.forwards
                + per_sigma * aimed.forwards
                + per_sigma * (smooth * smoothed.forwards + doubled.forwards + 2)
                + smooth * s.smooth_objectives
            ),
        ),
        Cost(
            probe="twin",
            gradients=images * twins * members,
            forwards=images * twins * (1 + smooth),
        ),
        Cost(probe="control", gradients=images * (1 + smooth * n), forwards=images * smooth),
        Cost(
            probe="curvature",
            gradients=images * (_curvature(s, classes) + 1 + len(s.epsilons)),
            forwards=0,
        ),
        Cost(
            probe="natural",
            gradients=images * len(CHANGES) * (1 + smooth * n * s.smooth_objectives),
            forwards=images * len(CHANGES) * smooth * s.smooth_objectives,
        ),
        _transfer(s, images=images),
        _quality(s, images=images),
        _bounds(s, images=images, method=method),
        _follow_up(s, images=images, twins=twins),
        Cost(
            probe="gallery",
            gradients=shown * (2 + 2 * n * smooth) + pairs * (1 + n),
            forwards=shown * 2 * smooth + pairs,
        ),
    ]
    priced = [
        row
        if row.probe in {"curvature", "bounds"}
        else dataclasses.replace(row, gradients=method.price * row.gradients)
        for row in rows
    ]
    return tuple(row for row in priced if row.gradients)


def _attack(s: Settings, *, sigma: float, budget: int, objectives: bool, method: Method) -> Cost:
    """What all attacks on one image at one σ and ε take, in maps, and measuring what they found."""
    price = fees(
        sigma=sigma, samples=s.search_samples, select_samples=s.select_samples, method=method
    )
    searches = list(strongest(sigma=sigma, method=method).split(price, budget=budget))
    if objectives:
        other = aim(MassCenter(), sigma=sigma, method=method).within(budget / 2, price)
        searches += [other, other]
    if not method.is_gradient:
        # What the searches cost, the attack on the plain gradient, and seven maps to measure.
        spent = sum(search.cost(price) for search in searches) / method.price
        gradient = 0 if sigma else budget / method.price**2
        maps = math.ceil(spent + gradient) + 8 * (s.samples if sigma else 1)
        return Cost(probe="attack", gradients=maps, forwards=maps)
    steps = sum(search.steps for search in searches)
    candidates = (2 if objectives else 0) + (1 if sigma else 0)
    # Measured: strongest, topk, random signs, transfer, and the other objectives.
    rows = 3 + (1 if sigma else 0) + (2 if objectives else 0)
    if sigma == 0:
        return Cost(
            probe="attack",
            gradients=2 * steps + len(searches) + candidates + rows,
            forwards=1,
        )
    looks = (KEEP + 1) * len(searches) + candidates
    return Cost(
        probe="attack",
        gradients=(2 * steps + len(searches)) * s.search_samples
        + looks * s.select_samples
        + rows * s.samples,
        forwards=3 * steps + len(searches) + looks + rows + 1,
    )


def _transfer(s: Settings, *, images: int) -> Cost:
    """Every clean map at a few σ twice, and the moved one for each perturbation."""
    sigmas = corners(s.sigmas)
    tried = min(images, s.transfer_images) if len(s.sigmas) > 1 else 0
    draws = [s.samples if sigma else 1 for sigma in sigmas]
    return Cost(
        probe="transfer_matrix",
        gradients=tried * sum(n * (len(sigmas) + (2 if n > 1 else 1)) for n in draws),
        forwards=tried * len(sigmas) * (len(sigmas) - 1),
    )


def _quality(s: Settings, *, images: int) -> Cost:
    """The maps at every σ, and what the metrics ask for beyond them."""
    smooth, n = len(s.sigmas) - 1, s.samples
    first = {metric.group: metric for metric in METRICS.values()}
    maps, forwards = 1 + smooth * n, smooth
    for group in OF_MAPS:
        # The infidelity takes the same forward passes for all σ, and so does ROAD's baseline.
        each = 1 if group.startswith("infidelity") else 1 + smooth
        forwards += each * first[group].forwards
    for group in (*OF_MORE_MAPS, *([ATTACKED] if s.quality_smoothed else [])):
        draws = 1 + (smooth * n if s.quality_smoothed and group != ATTACKED else 0)
        maps += draws * first[group].maps
        forwards += (1 + smooth * s.quality_smoothed) * first[group].forwards
    looked_at = min(images, s.quality_images)
    return Cost(probe="quality", gradients=looked_at * maps, forwards=looked_at * forwards)


def _follow_up(s: Settings, *, images: int, twins: int) -> Cost:
    """What is checked at a recommended σ, at most; fewer images than a verdict needs have none."""
    if images < 2 * FEWEST_IMAGES:
        return Cost(probe="follow_up", gradients=0, forwards=0)
    paired, again = min(images, PICTURES), min(images, 2 * s.quality_images)
    draws = MOST * s.samples
    return Cost(
        probe="follow_up",
        gradients=2 * (len(RATES) * (LESSONS + PICTURES) + paired * (1 + s.samples))
        + again * ((twins + 1) * (1 + draws) + 2 * draws),
        forwards=paired * 2 * (2 + 4 * PlantedTruth.swaps) + again * (twins + 2),
    )


def _curvature(s: Settings, classes: int) -> int:
    """Gradients for the eigenvalue of one image: a class each, or Lanczos."""
    return classes if classes <= s.hessian_classes else 1 + 2 * (LANCZOS.steps + 1)


def _bounds(s: Settings, *, images: int, method: Method) -> Cost:
    looked_at = min(images, s.bound_images) if len(s.sigmas) > 1 else 0
    budget = AttackBudget(
        gradients=s.smooth_budget,
        search_samples=s.search_samples,
        select_samples=s.select_samples,
        samples=s.samples,
    )
    gradients, forwards = bounds_cost(method, Depth(draws=s.bound_draws, attack=budget))
    return Cost(probe="bounds", gradients=looked_at * gradients, forwards=looked_at * forwards)


def gradients(costs: Sequence[Cost]) -> float:
    """Total in gradients of the audited model."""
    return sum(cost.gradients + FORWARD * cost.forwards for cost in costs)


def estimate(
    settings: Settings,
    *,
    x: Tensor,
    images: int,
    models: Sequence[Evaluator],
    classes: int,
    ensembles: int = 0,
    leave_out: Sequence[str] = (),
    method: Method = SIMPLE_GRAD,
) -> Estimate:
    """Predict evaluations, and minutes from timed batches of each model (the audited one first).

    ``x`` holds some of the images; they are repeated to a full batch. Probes named in
    ``leave_out`` are not run.
    """
    predicted = predict_costs(
        settings,
        images=images,
        twins=len(models) - 1,
        classes=classes,
        ensembles=ensembles,
        method=method,
    )
    costs = tuple(cost for cost in predicted if cost.probe not in leave_out)
    per_gradient = [_seconds_per_gradient(model, x) for model in models]
    total = sum(
        gradients([cost])
        * (statistics.fmean(per_gradient[1:]) if cost.probe == "twin" else per_gradient[0])
        for cost in costs
    )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return Estimate(
        costs=costs,
        seconds=total,
        memory_mib=peak / (2**20 if sys.platform == "darwin" else 1024),
        seconds_per_gradient=per_gradient[0],
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
