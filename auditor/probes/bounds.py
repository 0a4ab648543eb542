"""Certificates and attacks on the same expected maps, and the curvature of each image."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from attacks import L2, Boundary, Clean, Fees, RandomSearch, Search, inherit, merge
from attacks.pool import KEEP
from auditor.attributions import SHOWN, Method
from auditor.bounds.certificate import certified_overlap, overlap_limit
from auditor.bounds.local import LocalLipschitz
from auditor.bounds.probability import (
    MOVED as MOVED_PROBABILITY,
)
from auditor.bounds.probability import (
    attacked_cosine,
    certified_cosine,
    of_probability,
    probability_map,
)
from auditor.bounds.votes import MOVED, Sparsified, band
from auditor.evaluation import Evaluator
from auditor.probes.attack_drift import AttackBudget
from auditor.probes.curvature import LANCZOS
from auditor.probes.smoothing import norms
from auditor.probes.subject import Subject, fees, shown_map
from auditor.probes.suite import aim, strongest
from auditor.probes.surrogates import has_surrogate, smooth_evaluator
from auditor.records import Records, book

RATIOS = (0.25, 0.5, 1.0)
"""Radii of the brackets, in units of σ."""
CURVE = (0.0625, 0.125, 0.25, 0.375, 0.5, 0.75, 1.0, 1.5, 2.0)
"""Radii of the curve of certified overlap, in units of σ."""
CONFIDENCE = 0.95
"""Of both sides of a bracket together, for each image."""
BETA = 30.0
"""Sharpness of the ramps of the surrogate whose curvature is reported."""
ALONG = 0.1
"""ℓ₂ length at which the drift along the dominant direction is measured, in pixel units."""
LOCAL = LocalLipschitz()


@dataclass(frozen=True, kw_only=True)
class Depth:
    """How much bounds may cost: ``draws`` of each expected map, and the budget of its attack."""

    draws: int
    attack: AttackBudget


def kept_pixels(k: int, pixels: int) -> int:
    """Pixels that each draw of the sparsified map marks: half as many again as the top k."""
    return min(max(k + 1, round(1.5 * k)), pixels)


def curvature_of_logit(evaluator: Evaluator, subject: Subject) -> tuple[Records, Tensor]:
    """Dominant eigenvalue of the logit's Hessian, ramps smoothed, and its direction (B, C, H, W).

    ``logit_drift`` is ‖∇f(x + hv) − ∇f(x)‖/h of the true model along it, h = 0.1.
    """
    smooth = evaluator
    if has_surrogate(evaluator.model):
        smooth = smooth_evaluator(evaluator, BETA)
    found = LANCZOS.of_logit(smooth, subject.x, subject.target, subject.generators(3))
    h = ALONG
    before, _ = evaluator.gradients(subject.x, subject.target)
    after, _ = evaluator.gradients(subject.x + h * found.vector, subject.target)
    records: Records = {}
    values = {
        "logit_eigenvalue": found.eigenvalue,
        "logit_residual": found.residual,
        "logit_drift": norms(after - before) / h,
        "map_norm": norms(before),
    }
    book(records, values, probe="bounds")
    return records, found.vector


def smoothed_scores(evaluator: Evaluator, subject: Subject, *, sigma: float) -> Records:
    """Lower bounds on the local Lipschitz constants of the maps of f_σ and p_σ."""
    records: Records = {}
    models = {"logit_lipschitz": evaluator, "probability_lipschitz": of_probability(evaluator)}
    values = {
        name: LOCAL(
            model,
            subject.x,
            subject.target,
            images=subject.images,
            sigma=sigma,
            seed=subject.seed,
            generators=subject.generators(4),
        )
        for name, model in models.items()
    }
    book(records, values, probe="bounds", sigma=sigma)
    return records


def bracket(
    evaluator: Evaluator,
    subject: Subject,
    *,
    sigma: float,
    depth: Depth,
    direction: Tensor | None,
    cosine: bool = True,
) -> Records:
    """Certified ≤ true worst case ≤ attacked, for each image and each radius of :data:`RATIOS`.

    The map is the expected sparsified smoothed map; both sides come from independent draws at the
    image and at what the attack found, with limits that hold together. Attacks are those of the
    suite in the ℓ₂ ball, from a random start and from the curvature's ``direction``; they aim at
    the smoothed map itself, whose top k is that of the sparsified one up to ties.
    ``attacked_overlap`` is ``nan`` where none kept the label. With ``cosine`` the same for the
    cosine distance of the map of p_σ.
    """
    records: Records = {}
    smooth = Sparsified(
        method=subject.method,
        sigma=sigma,
        kept=kept_pixels(subject.k, subject.x[0, 0].numel()),
        seed=subject.seed,
    )
    each = (1 + CONFIDENCE) / 2  # half of the error for the clean map, half for the moved one
    draws = depth.draws
    clean = band(
        smooth.votes(evaluator, subject.x, subject.target, images=subject.images, draws=draws),
        confidence=each,
    )
    for ratio in CURVE:
        # Beyond half of the pixels there is no certificate: nothing is promised.
        value = torch.zeros(len(subject.x), dtype=torch.float64)
        if 2 * subject.k <= clean.low.shape[1]:
            value = certified_overlap(clean, k=subject.k, radius=ratio * sigma, sigma=sigma)
        book(
            records,
            {"certified_overlap": value},
            probe="bounds",
            sigma=sigma,
            radius=ratio * sigma,
        )
    radii = [ratio * sigma for ratio in RATIOS]
    deltas = worst(
        evaluator, subject, sigma=sigma, radii=radii, budget=depth.attack, direction=direction
    )
    probability = None
    if cosine:
        probability = probability_map(
            evaluator,
            subject.x,
            subject.target,
            images=subject.images,
            sigma=sigma,
            draws=draws,
            seed=subject.seed,
            confidence=each,
        )
    for radius, delta in zip(radii, deltas, strict=True):
        lost = delta.flatten(1).isnan().any(dim=1)
        x = subject.x + delta.nan_to_num()
        moved = band(
            smooth.votes(
                evaluator, x, subject.target, images=subject.images, draws=draws, stream=MOVED
            ),
            confidence=each,
        )
        most = overlap_limit(clean, moved, k=subject.k)
        values = {"attacked_overlap": most.masked_fill(lost, torch.nan)}
        if probability is not None:
            values["certified_cosine"] = certified_cosine(probability, radius=radius, sigma=sigma)
            if not values["certified_cosine"].isnan().all():
                there = probability_map(
                    evaluator,
                    x,
                    subject.target,
                    images=subject.images,
                    sigma=sigma,
                    draws=draws,
                    seed=subject.seed,
                    stream=MOVED_PROBABILITY,
                    confidence=each,
                )
                turned = attacked_cosine(probability, there)
                values["attacked_cosine"] = turned.masked_fill(lost, torch.nan)
        book(records, values, probe="bounds", sigma=sigma, radius=radius)
    return records


def worst(
    evaluator: Evaluator,
    subject: Subject,
    *,
    sigma: float,
    radii: Sequence[float],
    budget: AttackBudget,
    direction: Tensor | None,
) -> list[Tensor]:
    """The perturbation (B, C, H, W) of each ℓ₂ radius that moves the smoothed map most.

    Half of the budget goes to the suite from random starts, half to a search that starts where the
    curvature is largest; without a ``direction`` the suite has it all. ``nan`` where the label was
    lost.
    """
    clean = Clean(
        maps=shown_map(evaluator, subject, sigma=sigma, samples=budget.samples, stream=SHOWN),
        k=subject.k,
    )
    problem = subject.problem(
        evaluator,
        clean=clean,
        sigma=sigma,
        samples=budget.search_samples,
        select_samples=budget.select_samples,
        ball=L2(),
    ).at(radii)
    method, price = subject.method, problem.fees
    suite = strongest(sigma=sigma, method=method)
    share = budget.gradients if direction is None else budget.gradients / 2
    found = [suite.run(problem, budget=max(share, suite.least(price))).found]
    if direction is not None:
        search = _searches(method, price, budget.gradients, sigma=sigma)[-1]
        start = direction.repeat(len(radii), 1, 1, 1) * problem.epsilon.reshape(-1, 1, 1, 1)
        found.append(search.run(problem, start=start))
    best, _ = inherit(problem, merge(tuple(found)))
    return list(best.candidate.chunk(len(radii)))


def cost(method: Method, depth: Depth, *, sigma: float = 1.0) -> tuple[int, int]:
    """Gradients and forward passes for one image."""
    attack = depth.attack
    price = fees(
        sigma=sigma,
        samples=attack.search_samples,
        select_samples=attack.select_samples,
        method=method,
    )
    searches = _searches(method, price, attack.gradients, sigma=sigma)
    spent = math.ceil(sum(search.cost(price) for search in searches))
    # A look at the label is booked as a gradient in a search, and metered as a forward pass.
    steps = sum(search.steps for search in searches)
    looks = (KEEP + 1) * len(searches)
    forwards = len(RATIOS) * (3 * steps + looks + len(searches)) + 1
    gradients = len(RATIOS) * (spent - (steps if method.is_gradient else 0))
    gradients += method.price * (depth.draws * (1 + len(RATIOS)) + attack.samples)
    if method.is_gradient:
        gradients += 1 + 2 * (LANCZOS.steps + 1) + 2 + 2 * LOCAL.cost + depth.draws
    return gradients, forwards


def _searches(
    method: Method, price: Fees, budget: float, *, sigma: float
) -> tuple[Search | RandomSearch, ...]:
    """The suite from random starts, and for gradients one search that starts along a direction."""
    suite = strongest(sigma=sigma, method=method)
    if not method.is_gradient:
        return suite.split(price, budget=max(budget, suite.least(price)))
    search = aim(Boundary(), sigma=sigma, method=method)
    one = dataclasses.replace(search, steps=1).cost(price)
    half = budget / 2
    return (
        *suite.split(price, budget=max(half, suite.least(price))),
        search.within(max(half, one), price),
    )
