"""The pieces an audit is cut into; each returns arrays that go to disk before the next starts."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from attacks import Clean, overlap
from auditor.attributions import FRESH, Method
from auditor.bounds.layers import read_chain
from auditor.ensembles import Ensemble
from auditor.evaluation import Evaluator, Meter
from auditor.images import ImageSet
from auditor.metrics.views import is_zero, magnitude
from auditor.models import Classifier
from auditor.probes.attack_drift import AttackBudget, Deltas, attack_drift, search
from auditor.probes.bounds import Depth, bracket, curvature_of_logit, smoothed_scores
from auditor.probes.curvature import curvature
from auditor.probes.ensemble import ensemble_probe
from auditor.probes.members import control_probe, twin_probe
from auditor.probes.natural import natural_drift
from auditor.probes.quality import ATTACKED, OF_MAPS, OF_MORE_MAPS, groups_of, quality
from auditor.probes.smoothing import smoothing
from auditor.probes.subject import CleanMaps, Subject, clean_maps, shown_map
from auditor.probes.transfer import transfer_matrix
from auditor.records import Key, Records
from auditor.settings import Settings
from auditor.store import Arrays
from auditor.target import explained_classes


@dataclass(frozen=True, kw_only=True, eq=False)
class Bench:
    """All that the tasks of one audit share.

    ``targets`` (n,) are the explained classes, ``usable`` (n,) is false where the model predicts
    another class, or the label another one: such images are explained but not attacked. Probes
    named in ``not_applicable`` are left out; without a ``control`` it is one of them.
    """

    classifier: Classifier
    method: Method
    twins: tuple[Classifier, ...]
    ensembles: tuple[Ensemble, ...]
    control: Classifier | None
    not_applicable: Collection[str]
    images: ImageSet
    targets: Tensor
    usable: Tensor
    settings: Settings
    meter: Meter
    batch: int
    device: str

    def evaluator(self, probe: str, model: Classifier | None = None) -> Evaluator:
        """Evaluate the audited model, or another one, on a probe's account."""
        return Evaluator(
            model=model or self.classifier,
            batch=self.batch,
            device=self.device,
            probe=probe,
            meter=self.meter,
        )

    def subject(self, rows: Sequence[int]) -> Subject:
        """Some of the images, by index."""
        return Subject(
            x=self.images.batch(rows),
            target=self.targets[list(rows)],
            images=tuple(rows),
            k=self.settings.k,
            seed=self.settings.seed,
            method=self.method,
        )

    def budget(self, sigma: float) -> AttackBudget:
        """What an attack at this σ may spend."""
        s = self.settings
        if sigma == 0:
            return AttackBudget(gradients=s.budget, search_samples=1, select_samples=1, samples=1)
        return AttackBudget(
            gradients=s.smooth_budget,
            search_samples=s.search_samples,
            select_samples=s.select_samples,
            samples=s.samples,
        )


def clean_task(bench: Bench, *, target: str) -> Arrays:
    """Predicted and explained classes of the audited model, and whether each twin agrees."""

    def predict(model: Classifier, probe: str) -> Tensor:
        evaluator = bench.evaluator(probe, model)
        count = len(bench.images.names)
        starts = range(0, count, bench.batch)
        batches = (range(count)[start : start + bench.batch] for start in starts)
        return torch.cat([evaluator.logits(bench.images.batch(b)).argmax(dim=1) for b in batches])

    predicted = predict(bench.classifier, "smoothing")
    targets = explained_classes(target, predicted, bench.images.labels)
    others = [predict(twin, "twin") for twin in bench.twins]
    agrees = {
        f"agreement {index}": (other == predicted).double().numpy()
        for index, other in enumerate(others)
    }
    return {
        "predicted": predicted.numpy(),
        "targets": targets.numpy(),
        "members": torch.stack([predicted, *others]).numpy(),
        **agrees,
    }


def sigma_task(bench: Bench, rows: Sequence[int], sigma: float, transfer: Deltas) -> Arrays:
    """All probes at one σ for some images: validity, attacks, twins and the control.

    ``transfer`` holds the perturbations found for the unsmoothed map, for the usable rows only;
    at σ = 0 it is empty, and the curvature is measured as well.
    """
    s = bench.settings
    samples = s.samples if sigma > 0 else 1
    records, maps = of_maps(bench, rows, sigma, samples)
    usable = bench.usable[list(rows)]
    arrays: Arrays = {}
    if usable.any() and s.epsilons:
        attacked = bench.subject([row for row, ok in zip(rows, usable.tolist(), strict=True) if ok])
        usable_maps = CleanMaps(
            shown=maps.shown[usable], fresh=maps.fresh[usable], kept=maps.kept[usable]
        )
        aimed = s.smooth_epsilons if sigma == 0 or s.smooth_objectives else ()
        found, deltas = attack_drift(
            bench.evaluator("attack"),
            attacked,
            usable_maps,
            sigma=sigma,
            epsilons=s.smooth_epsilons if sigma else s.epsilons,
            budget=bench.budget(sigma),
            transfer=transfer,
            wanted=_wanted(bench, attacked, sigma) if aimed else None,
            aimed=aimed,
        )
        records |= _spread(found, usable)
        if aimed:
            natural = natural_drift(
                bench.evaluator("natural"), attacked, usable_maps, sigma=sigma, samples=samples
            )
            records |= _spread(natural, usable)
        tried = sorted(deltas)
        # The next smaller ε's perturbation is a candidate when the attack is repeated.
        wanted = {e for at in s.smooth_epsilons for e in tried[: tried.index(at) + 1][-2:]}
        for epsilon in sorted(wanted):
            arrays[f"delta|{epsilon}"] = deltas[epsilon].numpy()
        if sigma == 0 and "curvature" not in bench.not_applicable:
            bent = curvature(
                bench.evaluator("curvature"),
                attacked,
                deltas,
                classes=bench.classifier.classes,
                max_classes=s.hessian_classes,
            )
            records |= _spread(bent, usable)
    return arrays | {key.encode(): values for key, values in records.items()}


def attack_task(
    bench: Bench, rows: Sequence[int], sigma: float, epsilon: float, transfer: Deltas
) -> Arrays:
    """The attacks of :func:`sigma_task` with one more ε, and the perturbations that they found."""
    s = bench.settings
    usable = bench.usable[list(rows)]
    attacked = bench.subject([row for row, ok in zip(rows, usable.tolist(), strict=True) if ok])
    if not attacked.images:
        return {}
    evaluator = bench.evaluator("attack")
    maps = clean_maps(evaluator, attacked, sigma=sigma, samples=s.samples if sigma else 1)
    aimed = (epsilon,) if sigma == 0 or s.smooth_objectives else ()
    found, deltas = attack_drift(
        evaluator,
        attacked,
        maps,
        sigma=sigma,
        epsilons=(epsilon,),
        budget=bench.budget(sigma),
        transfer=transfer,
        wanted=_wanted(bench, attacked, sigma) if aimed else None,
        aimed=aimed,
    )
    records = {key.encode(): values for key, values in _spread(found, usable).items()}
    return {f"delta|{epsilon}": deltas[epsilon].numpy(), **records}


def of_maps(
    bench: Bench, rows: Sequence[int], sigma: float, samples: int, *, account: str | None = None
) -> tuple[Records, CleanMaps]:
    """Validity of the maps of some images at one σ, and the drift to twins and to the control.

    Evaluations are booked on the ``account``, if one is given.
    """
    k, subject = bench.settings.k, bench.subject(rows)
    evaluator = bench.evaluator(account or "smoothing")
    maps = clean_maps(evaluator, subject, sigma=sigma, samples=samples)
    plain = shown_map(evaluator, subject, sigma=0, samples=1) if sigma else maps.shown
    records = smoothing(plain, maps, sigma=sigma, k=k)
    members = [(plain, maps.shown)]
    for twin in bench.twins:
        member = bench.evaluator(account or "twin", twin)
        twin_plain = shown_map(member, subject, sigma=0, samples=1)
        other = twin_plain
        if sigma:
            other = shown_map(member, subject, sigma=sigma, samples=samples)
        records |= twin_probe(
            plain, maps.shown, twin_plain, other, sigma=sigma, k=k, name=twin.name
        )
        members.append((twin_plain, other))
    for ensemble in bench.ensembles:
        pairs = zip(*(members[place] for place in ensemble.members), strict=True)
        plains, shown = (torch.stack(several) for several in pairs)
        records |= ensemble_probe(plains, shown, sigma=sigma, k=k, name=ensemble.name)
    if bench.control is not None:
        control = bench.evaluator(account or "control", bench.control)
        other = shown_map(control, subject, sigma=sigma, samples=samples)
        records |= control_probe(maps, other, sigma=sigma, k=k)
    return records, maps


def convergence_task(
    bench: Bench, rows: Sequence[int], sigma: float, epsilon: float, known: tuple[Tensor, ...]
) -> Arrays:
    """Top-k overlap under the attack of one (σ, ε) with its budget doubled.

    ``known`` perturbations of the usable rows compete, as they did in the attack that is checked:
    the transferred one and that of the next smaller ε.
    """
    s = bench.settings
    usable = bench.usable[list(rows)]
    kept_rows = [row for row, ok in zip(rows, usable.tolist(), strict=True) if ok]
    if not kept_rows:
        return {}
    subject = bench.subject(kept_rows)
    evaluator = bench.evaluator("attack")
    budget = bench.budget(sigma).doubled()
    maps = clean_maps(evaluator, subject, sigma=sigma, samples=budget.samples)
    clean = Clean(maps=maps.shown, k=s.k)
    found = search(
        evaluator,
        subject,
        clean,
        sigma=sigma,
        epsilons=(epsilon,),
        budget=budget,
        known=[{epsilon: delta} for delta in known],
    )
    delta = found["strongest"][epsilon]
    moved = moved_map(bench, evaluator, subject, delta, sigma)
    lost = delta.flatten(1).isnan().any(dim=1) | is_zero(maps.shown)
    key = Key(
        probe="attack",
        metric="topk_intersection",
        attack="strongest_doubled",
        sigma=sigma,
        epsilon=epsilon,
    )
    values = overlap(moved, clean.top).masked_fill(lost, torch.nan).numpy()
    records = {key: values, _infeasible(key): lost.double().numpy()}
    return {k.encode(): v for k, v in _spread(records, usable).items()}


def transfer_task(bench: Bench, rows: Sequence[int], deltas: Deltas, *, epsilon: float) -> Arrays:
    """Top-k overlaps at each σ under the perturbations found at the others.

    ``deltas`` holds the perturbations of these images by the σ for which they were found.
    """
    records = transfer_matrix(
        bench.evaluator("transfer_matrix"),
        bench.subject(rows),
        deltas=deltas,
        samples=bench.settings.samples,
        epsilon=epsilon,
    )
    return {key.encode(): values for key, values in records.items()}


def quality_task(bench: Bench, rows: Sequence[int], decisive: Collection[str]) -> Arrays:
    """Quality of some images' maps at every σ; ``decisive`` metrics are those of the profile."""
    s = bench.settings
    always = frozenset(OF_MAPS) | groups_of(decisive)
    more = frozenset(OF_MORE_MAPS)
    thorough = frozenset([ATTACKED]) if s.quality_smoothed else frozenset()
    records = quality(
        bench.evaluator("quality"),
        bench.subject(rows),
        sigmas=s.sigmas,
        samples=s.samples,
        groups=always | more | thorough,
        smoothed_groups=always | more if s.quality_smoothed else always,
    )
    return {key.encode(): values for key, values in records.items()}


def metrics_task(bench: Bench, rows: Sequence[int], metrics: Collection[str]) -> Arrays:
    """Some metrics of quality alone, at every σ."""
    s = bench.settings
    records = quality(
        bench.evaluator("quality"),
        bench.subject(rows),
        sigmas=s.sigmas,
        samples=s.samples,
        groups=groups_of(metrics),
        smoothed_groups=groups_of(metrics),
    )
    return {key.encode(): values for key, values in records.items() if key.metric in metrics}


def bounds_task(bench: Bench, rows: Sequence[int], *, sigma: float) -> Arrays:
    """Certificates beside attacks at one σ, and the curvature, for some usable images.

    ``map|direction`` holds the dominant eigenvectors, if the map is a gradient.
    """
    subject = bench.subject(rows)
    evaluator = bench.evaluator("bounds")
    depth = Depth(draws=bench.settings.bound_draws, attack=bench.budget(sigma))
    records: Records = {}
    direction = None
    is_gradient = bench.method.is_gradient
    if is_gradient:
        records, direction = curvature_of_logit(evaluator, subject)
        records |= smoothed_scores(evaluator, subject, sigma=sigma)
    records |= bracket(
        evaluator, subject, sigma=sigma, depth=depth, direction=direction, cosine=is_gradient
    )
    arrays = {key.encode(): values for key, values in records.items()}
    return arrays if direction is None else {"map|direction": direction.numpy(), **arrays}


def layers_task(bench: Bench) -> Arrays:
    """The chain of the network's layers as JSON text; empty where there is no code to read."""
    model = bench.classifier
    can = model.capabilities
    if can.surrogate != "eager mode" or not can.training.able or model.preprocess is not None:
        return {"chain": np.array("")}
    x = model.prepared(bench.images.batch([0]).to(bench.device))
    return {"chain": np.array(json.dumps(dataclasses.asdict(read_chain(model.network, x))))}


def _wanted(bench: Bench, subject: Subject, sigma: float) -> Tensor | None:
    """The maps (B, H, W) that manipulation aims at: that of the next image of the audit.

    ``nan`` where it is zero everywhere; ``None`` when there is no other image.
    """
    count = len(bench.images.names)
    if count < 2:
        return None
    others = bench.subject([(row + 1) % count for row in subject.images])
    samples = bench.budget(sigma).samples
    maps = shown_map(bench.evaluator("attack"), others, sigma=sigma, samples=samples)
    return magnitude(maps).masked_fill(is_zero(maps).reshape(-1, 1, 1), torch.nan)


def moved_map(
    bench: Bench, evaluator: Evaluator, subject: Subject, delta: Tensor, sigma: float
) -> Tensor:
    """The map (B, C, H, W) of perturbed images at a σ, with noise that no search has seen."""
    samples = bench.budget(sigma).samples
    explain = subject.explainer(evaluator, sigma=sigma, samples=samples, stream=FRESH)
    rows = torch.arange(len(subject.x))
    return explain(subject.x + delta.nan_to_num(), rows=rows, draw=0)[0]


def _infeasible(key: Key) -> Key:
    return dataclasses.replace(key, metric="infeasible")


def _spread(records: Records, usable: Tensor) -> Records:
    """Put values of the usable images into arrays over all images of the task."""
    spread: Records = {}
    for key, values in records.items():
        full = np.full(len(usable), np.nan)
        full[usable.numpy()] = values
        spread[key] = full
    return spread
