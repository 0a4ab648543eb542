"""Whether maps are good explanations at all: sparse, faithful, and stable without an attacker."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Sequence

import torch
from torch import Tensor

from auditor.attributions import SHOWN, Method
from auditor.evaluation import Evaluator
from auditor.probes.subject import Subject, shown_map
from auditor.quality import (
    METRICS,
    AttackedSensitivity,
    Infidelity,
    NoiseSsim,
    NoisyBaseline,
    RelativeStability,
    Road,
    Scores,
    Sensitivity,
    SquareRemoval,
    sparseness,
    square_sizes,
)
from auditor.quality.representation import last_linear
from auditor.records import Key, Records, book

OF_MAPS = ("sparseness", "infidelity noisy_baseline", "infidelity squares", "ROAD")
"""Groups that need nothing but the maps that there are anyway, and forward passes."""
OF_MORE_MAPS = ("sensitivity", "relative stability", "SSIM under noise")
"""Groups that explain perturbed images as well: they take many maps of each image."""
ATTACKED = "attacked sensitivity"

_TIMES_INPUT = frozenset(
    (
        *("grad_x_input", "integrated_gradients", "smooth_integrated_gradients"),
        *("deep_lift", "kernel_shap"),
    )
)
"""Methods whose maps are multiplied by the image already (*global* in S4 B.2)."""


def quality(
    evaluator: Evaluator,
    subject: Subject,
    *,
    sigmas: Sequence[float],
    samples: int,
    groups: Collection[str],
    smoothed_groups: Collection[str],
) -> Records:
    """Metrics of map quality at each σ, for the maps that a user is shown.

    Parameters
    ----------
    sigmas
        Smoothing in pixel units; forward passes for the infidelity are shared by all of them.
    groups, smoothed_groups
        Groups of :data:`auditor.quality.METRICS` to measure at σ = 0, and at the others.

    Returns
    -------
    Records with probe ``quality``. ``sampled`` is 1 for each image that was looked at, and
    ``skipped`` counts the perturbed images that did not count, by reason (``partner``).
    """
    records: Records = {}
    draws = {sigma: samples if sigma else 1 for sigma in sigmas}
    maps = {s: shown_map(evaluator, subject, sigma=s, samples=draws[s]) for s in sigmas}
    wanted = {sigma: smoothed_groups if sigma else groups for sigma in sigmas}
    smallest, largest = square_sizes(*subject.x.shape[2:])
    squares = SquareRemoval(seed=subject.seed, smallest=smallest, largest=largest)
    for perturbation in (NoisyBaseline(seed=subject.seed), squares):
        group = f"infidelity {perturbation.name}"
        at = [sigma for sigma in sigmas if group in wanted[sigma]]
        found = (
            Infidelity(perturbation=perturbation).of_each(
                evaluator,
                [maps[sigma] for sigma in at],
                subject.x,
                subject.target,
                images=subject.images,
                times_input=subject.method.name in _TIMES_INPUT,
            )
            if at
            else ()
        )
        for sigma, scores in zip(at, found, strict=True):
            _book(records, scores, sigma, group)
    random = None
    for sigma in sigmas:
        method = subject.smoothed(sigma=sigma, samples=draws[sigma], stream=SHOWN)
        if "sparseness" in wanted[sigma]:
            _book(records, sparseness(maps[sigma]), sigma, "sparseness")
        if "ROAD" in wanted[sigma]:
            road = Road(seed=subject.seed)
            if random is None:
                random = road.baseline(evaluator, subject.x, subject.target, images=subject.images)
            scores = road(
                evaluator,
                maps[sigma],
                subject.x,
                subject.target,
                images=subject.images,
                random=random,
            )
            _book(records, scores, sigma, "ROAD")
        for group, metric in _explaining(subject.seed, sigma, draws[sigma]).items():
            if group in wanted[sigma]:
                scores = metric(evaluator, method, subject, maps[sigma])
                _book(records, scores, sigma, group)
        book(
            records,
            {"sampled": torch.ones(len(subject.x))},
            probe="quality",
            sigma=sigma,
        )
    return records


def groups_of(metrics: Collection[str]) -> frozenset[str]:
    """The groups that some metrics of :data:`auditor.quality.METRICS` are measured in."""
    return frozenset(METRICS[name].group for name in metrics)


def unavailable(evaluator: Evaluator, x: Tensor) -> dict[str, str]:
    """Metrics that a model or the size of its images (B, C, H, W) cannot have, with the reason."""
    inside = last_linear(evaluator, x[:1])
    found = {}
    if inside.layer is None:
        found["RRS"] = inside.reason
    if min(x.shape[2:]) < 11:
        found["SSIM under noise"] = "Its window of 11 pixels is larger than the maps."
    return found


Explaining = Callable[[Evaluator, Method, Subject, Tensor], Scores]


def _explaining(seed: int, sigma: float, samples: int) -> dict[str, Explaining]:
    """The metrics that explain more images, by group."""
    attacked = AttackedSensitivity(seed=seed)
    attacked = dataclasses.replace(attacked, budget=attacked.budget * samples)

    def plain(metric: Sensitivity | RelativeStability | NoiseSsim) -> Explaining:
        def measure(evaluator: Evaluator, method: Method, s: Subject, maps: Tensor) -> Scores:
            return metric(evaluator, method, s.x, s.target, images=s.images, maps=maps)

        return measure

    def search(evaluator: Evaluator, method: Method, s: Subject, maps: Tensor) -> Scores:
        return attacked(
            evaluator,
            method,
            s.x,
            s.target,
            images=s.images,
            maps=maps,
            sigma=sigma,
            samples=samples,
        )

    return {
        "sensitivity": plain(Sensitivity(seed=seed)),
        "relative stability": plain(RelativeStability(seed=seed)),
        "SSIM under noise": plain(NoiseSsim(seed=seed)),
        ATTACKED: search,
    }


def _book(records: Records, scores: Scores, sigma: float, group: str) -> None:
    book(records, dict(scores.values), probe="quality", sigma=sigma)
    for reason, count in scores.skipped.items():
        if count.any():
            key = Key(probe="quality", metric="skipped", sigma=sigma, partner=f"{group}: {reason}")
            records[key] = count.double().numpy()
