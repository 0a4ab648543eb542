"""How far an attacker can move the map while the prediction stays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from attacks import Clean, Search, random_signs
from attacks.explain import Explain
from auditor.attributions import FRESH, SEARCH, SELECT
from auditor.evaluation import Evaluator
from auditor.metrics.drift import Reference
from auditor.metrics.views import is_zero
from auditor.probes.subject import CleanMaps, Subject
from auditor.records import Records, book

Deltas = dict[float, Tensor]
"""ε in 1/255 → perturbations (B, C, H, W); ``nan`` where nothing kept the label."""

SIGN_TRIES = 8


@dataclass(frozen=True, kw_only=True)
class AttackBudget:
    """What an attack may spend; see :class:`auditor.settings.Settings` for the fields."""

    steps: int
    search_samples: int
    select_samples: int
    samples: int

    def doubled(self) -> AttackBudget:
        """The same attack with twice as many steps."""
        return AttackBudget(
            steps=2 * self.steps,
            search_samples=self.search_samples,
            select_samples=self.select_samples,
            samples=self.samples,
        )


def attack_drift(
    evaluator: Evaluator,
    subject: Subject,
    maps: CleanMaps,
    *,
    sigma: float,
    epsilons: tuple[float, ...],
    budget: AttackBudget,
    transfer: Mapping[float, Tensor],
) -> tuple[Records, Deltas]:
    """Attack the map at one σ, for every ε (1/255, ascending), and measure all drift metrics.

    The attack aims at the top-k set of the map ``shown``; its winner is scored with the noise
    of ``fresh``, which it never saw, against ``shown``: what a user sees who explains the clean
    and the perturbed image. ``topk_intersection_common`` compares under the noise of ``fresh``
    on both sides and so leaves the sampling noise out. Rows: ``topk`` (adaptive, with the
    transferred and the smaller ε's perturbation among its candidates), ``transfer`` (found for
    the unsmoothed map; empty at σ = 0), ``random_signs`` (the control). Images for which nothing
    kept the label have ``nan``; a map that the attack turned into zeros keeps none of its top k.
    """
    records: Records = {}
    deltas: Deltas = {}
    score = subject.explainer(evaluator, sigma=sigma, samples=budget.samples, stream=FRESH)
    shown, fresh = Reference(maps.shown, subject.k), Reference(maps.fresh, subject.k)
    clean = Clean(maps=maps.shown, k=subject.k)
    for index, epsilon in enumerate(epsilons):
        radius = torch.full((len(subject.x),), epsilon / 255)
        tried = {"random_signs": _signs(evaluator, subject, radius)}
        known = [deltas[epsilons[index - 1]]] if index else []
        if sigma > 0:
            tried["transfer"] = transfer[epsilon]
            known.append(transfer[epsilon])
        found = search(
            evaluator,
            subject,
            clean,
            sigma=sigma,
            radius=radius,
            budget=budget,
            known=tuple(known),
        )
        deltas[epsilon] = tried["topk"] = found
        for attack, delta in tried.items():
            moved = _explained(score, subject, delta)
            values = shown.drift(moved)
            values["topk_intersection_common"] = fresh.drift(moved)["topk_intersection"]
            gone = is_zero(moved) & ~is_zero(maps.shown)
            for name in ("topk_intersection", "topk_intersection_common", "topk_iou", "topk_mass"):
                values[name] = values[name].masked_fill(gone, 0.0)
            lost = delta.flatten(1).isnan().any(dim=1)
            values = {name: v.masked_fill(lost, torch.nan) for name, v in values.items()}
            values["infeasible"] = lost.double()
            book(records, values, probe="attack", sigma=sigma, epsilon=epsilon, attack=attack)
    return records, deltas


def search(
    evaluator: Evaluator,
    subject: Subject,
    clean: Clean,
    *,
    sigma: float,
    radius: Tensor,
    budget: AttackBudget,
    known: tuple[Tensor, ...] = (),
) -> Tensor:
    """Best label-kept perturbation (B, C, H, W) of the top-k search; ``nan`` where none was found.

    ``clean`` holds the maps whose top-k set is to break, ``radius`` (B,) in [0, 1] units; ``known``
    perturbations compete, except where they are ``nan``.
    """

    def margin(x: Tensor, *, rows: Tensor) -> Tensor:
        return evaluator.margin_gradients(x, subject.target[rows])

    def explainer(samples: int, stream: int) -> Explain:
        return subject.explainer(evaluator, sigma=sigma, samples=samples, stream=stream)

    # A map smoothed by σ has no structure much below σ: shorter differences only see noise.
    method = Search(steps=budget.steps, longest=max(1, 10 * sigma), shortest=max(0.02, sigma / 2))
    found = method.run(
        explainer(budget.search_samples, SEARCH),
        margin,
        subject.x,
        target=subject.target,
        clean=clean,
        epsilon=radius,
        generators=subject.generators(1),
        select=explainer(budget.select_samples, SELECT) if sigma > 0 else None,
        candidates=known,
    )
    return found.delta.masked_fill(~found.feasible.reshape(-1, 1, 1, 1), torch.nan)


def _signs(evaluator: Evaluator, subject: Subject, radius: Tensor) -> Tensor:
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
