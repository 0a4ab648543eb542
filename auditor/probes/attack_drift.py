"""How far an attacker can move the map while the prediction stays."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from attacks import (
    Clean,
    Found,
    Manipulation,
    MassCenter,
    Objective,
    Problem,
    as_target_map,
    inherit,
    merge,
    random_signs,
)
from attacks.explain import Explain
from auditor.attributions import FRESH, Method
from auditor.evaluation import Evaluator
from auditor.metrics.drift import Reference
from auditor.metrics.views import is_zero
from auditor.probes.subject import SIMPLE_GRAD, CleanMaps, Subject, shown_map
from auditor.probes.suite import aim, strongest
from auditor.records import Records, book

Deltas = dict[float, Tensor]
"""ε in 1/255 → perturbations (B, C, H, W); ``nan`` where nothing kept the label."""

SIGN_TRIES = 8


@dataclass(frozen=True, kw_only=True)
class AttackBudget:
    """What an attack may spend; see :class:`auditor.settings.Settings` for the fields."""

    gradients: int
    search_samples: int
    select_samples: int
    samples: int

    def doubled(self) -> AttackBudget:
        """The same attack with twice as many gradients."""
        return dataclasses.replace(self, gradients=2 * self.gradients)


def attack_drift(
    evaluator: Evaluator,
    subject: Subject,
    maps: CleanMaps,
    *,
    sigma: float,
    epsilons: tuple[float, ...],
    budget: AttackBudget,
    transfer: Mapping[float, Tensor],
    wanted: Tensor | None = None,
    aimed: tuple[float, ...] = (),
) -> tuple[Records, Deltas]:
    """Attack the map at one σ, for every ε (1/255, ascending), and measure all drift metrics.

    Attacks aim at the map ``shown``; a winner is scored with the noise of ``fresh``, which no
    attack ever saw, against ``shown``: what a user sees who explains the clean and the perturbed
    image. ``topk_intersection_common`` compares under the noise of ``fresh`` on both sides and so
    leaves the sampling noise out.

    Rows: ``strongest``, for each image the lowest top-k overlap over all that was tried, a smaller
    ε's perturbation included; ``topk``, the searches for it alone; ``transfer`` (found for the
    unsmoothed map; empty at σ = 0); ``random_signs`` (the control); and, for the ε of ``aimed``,
    ``mass_center`` and ``manipulation``, each with half the budget. For a method that is no
    gradient, ``transfer`` at σ = 0 is what was found for the plain gradient (S3, Experiment III).
    ``wanted`` holds the map (B, H, W) that manipulation aims at, ``nan`` for an image without one,
    ``None`` to leave it out; ``target_cosine`` is how near manipulation and random signs come.

    Images for which nothing kept the label have ``nan``; a map that the attack turned into zeros
    keeps none of its top k.
    """
    records: Records = {}
    score = subject.explainer(evaluator, sigma=sigma, samples=budget.samples, stream=FRESH)
    shown, fresh = Reference(maps.shown, subject.k), Reference(maps.fresh, subject.k)
    found = search(
        evaluator,
        subject,
        Clean(maps=maps.shown, k=subject.k),
        sigma=sigma,
        epsilons=epsilons,
        budget=budget,
        known=[transfer] if sigma > 0 else [],
        wanted=wanted,
        aimed=aimed,
    )
    for epsilon in epsilons:
        radius = torch.full((len(subject.x),), epsilon / 255)
        tried = {name: deltas[epsilon] for name, deltas in found.items() if epsilon in deltas}
        tried["random_signs"] = random_signs_kept(evaluator, subject, radius)
        if sigma > 0:
            tried["transfer"] = transfer[epsilon]
        for attack, delta in tried.items():
            moved = _explained(score, subject, delta)
            values = shown.drift(moved)
            values["topk_intersection_common"] = fresh.drift(moved)["topk_intersection"]
            gone = is_zero(moved) & ~is_zero(maps.shown)
            for name in ("topk_intersection", "topk_intersection_common", "topk_iou", "topk_mass"):
                values[name] = values[name].masked_fill(gone, 0.0)
            lost = delta.flatten(1).isnan().any(dim=1)
            undefined = torch.zeros_like(lost)
            compared = attack in {"manipulation", "random_signs"} and epsilon in aimed
            if wanted is not None and compared:
                values["target_cosine"] = _similarity(moved, wanted)
                undefined = wanted.flatten(1).isnan().any(dim=1) & (attack == "manipulation")
            values = {name: v.masked_fill(lost, torch.nan) for name, v in values.items()}
            values["infeasible"] = (lost & ~undefined).double()
            book(records, values, probe="attack", sigma=sigma, epsilon=epsilon, attack=attack)
    return records, found["strongest"]


def search(
    evaluator: Evaluator,
    subject: Subject,
    clean: Clean,
    *,
    sigma: float,
    epsilons: tuple[float, ...],
    budget: AttackBudget,
    known: Sequence[Mapping[float, Tensor]] = (),
    wanted: Tensor | None = None,
    aimed: tuple[float, ...] = (),
) -> dict[str, Deltas]:
    """Best label-kept perturbations by attack and ε (1/255); ``nan`` where none was found.

    ``clean`` holds the maps that are to move. All ε and images share batches. ``known``
    perturbations compete for ``strongest``, except where they are ``nan``; ``wanted`` and ``aimed``
    are as in :func:`attack_drift`.
    """
    images = subject.problem(
        evaluator,
        clean=clean,
        sigma=sigma,
        samples=budget.search_samples,
        select_samples=budget.select_samples,
    )
    found: dict[str, Deltas] = {}
    if aimed:
        found |= _other_aims(
            images, wanted, aimed, sigma=sigma, budget=budget, method=subject.method
        )
    problem = images.at([epsilon / 255 for epsilon in epsilons])
    none = torch.full_like(subject.x, torch.nan)
    candidates = tuple(
        torch.cat([deltas.get(epsilon, none) for epsilon in epsilons])
        for deltas in (*known, *found.values())
    )
    if sigma == 0 and not subject.method.is_gradient:
        found["transfer"] = _by_gradient(evaluator, subject, epsilons, budget)
        candidates = (*candidates, torch.cat(list(found["transfer"].values())))
    attack = strongest(sigma=sigma, method=subject.method)
    best = attack.run(problem, budget=budget.gradients, candidates=candidates)
    topk, _ = inherit(problem, merge(best.members))
    return found | {
        "topk": _by_epsilon(topk, epsilons),
        "strongest": _by_epsilon(best.found, epsilons),
    }


def _other_aims(
    images: Problem,
    wanted: Tensor | None,
    aimed: tuple[float, ...],
    *,
    sigma: float,
    budget: AttackBudget,
    method: Method,
) -> dict[str, Deltas]:
    """What moves the center of mass, and what draws the map to that of ``wanted``."""
    problem = images.at([epsilon / 255 for epsilon in aimed])
    aims: dict[str, Objective] = {"mass_center": MassCenter()}
    has = torch.zeros(len(images), dtype=torch.bool)
    if wanted is not None:
        has = ~wanted.flatten(1).isnan().any(dim=1)
        if has.any():
            aims["manipulation"] = Manipulation(target=as_target_map(_filled(wanted, has)))
    found = {}
    for name, objective in aims.items():
        search = aim(objective, sigma=sigma, method=method).within(
            budget.gradients / 2, problem.fees
        )
        one, _ = inherit(problem, search.run(problem))
        if name == "manipulation":
            one = _only(one, has.repeat(len(aimed)))
        found[name] = _by_epsilon(one, aimed)
    return found


def _by_gradient(
    evaluator: Evaluator, subject: Subject, epsilons: tuple[float, ...], budget: AttackBudget
) -> Deltas:
    """What moves the plain gradient of the same class most, as a candidate against any map.

    It gets as many gradients as the budget allows maps.
    """
    plain = dataclasses.replace(subject, method=SIMPLE_GRAD)
    clean = Clean(maps=shown_map(evaluator, plain, sigma=0, samples=1), k=subject.k)
    problem = plain.problem(evaluator, clean=clean).at([epsilon / 255 for epsilon in epsilons])
    attack = strongest(sigma=0, method=SIMPLE_GRAD)
    least = attack.least(problem.fees)
    best = attack.run(problem, budget=max(least, budget.gradients / subject.method.price))
    return _by_epsilon(best.found, epsilons)


def _by_epsilon(found: Found, epsilons: tuple[float, ...]) -> Deltas:
    parts = found.candidate.chunk(len(epsilons))
    return dict(zip(epsilons, parts, strict=True))


def _filled(wanted: Tensor, has: Tensor) -> Tensor:
    """A target for every image, so that all share a batch; those made up are dropped again."""
    return wanted.where(has.reshape(-1, 1, 1), 1.0)


def _only(found: Found, rows: Tensor) -> Found:
    return dataclasses.replace(found, feasible=found.feasible & rows)


def _similarity(moved: Tensor, wanted: Tensor) -> Tensor:
    """Cosine (B,) of magnitude and target map; ``nan`` where there is none."""
    m = moved.abs().sum(dim=1).double().flatten(1)
    return torch.nn.functional.cosine_similarity(m, wanted.double().flatten(1), dim=1)


def random_signs_kept(evaluator: Evaluator, subject: Subject, radius: Tensor) -> Tensor:
    """Random signs that keep the label, the first of a few tries; ``nan`` where none does."""
    delta = torch.full_like(subject.x, torch.nan)
    generators = subject.generators(2)
    for _ in range(SIGN_TRIES):
        drawn = random_signs(subject.x, radius, generators)
        kept = evaluator.logits(subject.x + drawn).argmax(dim=1) == subject.target
        fresh = kept & delta.flatten(1).isnan().any(dim=1)
        delta[fresh] = drawn[fresh]
        if not delta.isnan().any():
            break
    return delta


def _explained(score: Explain, subject: Subject, delta: Tensor) -> Tensor:
    rows = torch.arange(len(subject.x))
    maps, _ = score(subject.x + delta.nan_to_num(), rows=rows, draw=0)
    return maps
