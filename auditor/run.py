"""An audit: tasks run one after the other, each on disk before the next starts."""

from __future__ import annotations

import functools
import json
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import numpy as np
import torch

from auditor import cost
from auditor.assemble import gather, measurements
from auditor.bounding import Facts, all_bounds
from auditor.bounds.layers import Chain
from auditor.evaluation import Evaluator, Meter
from auditor.gallery import gallery_rows, gallery_task, pair_rows, pairs_task
from auditor.glance import GLANCE, marked, provisional
from auditor.metrics.drift import chance
from auditor.models import Classifier
from auditor.plain import build
from auditor.plan import Plan
from auditor.probes.ensemble import agreement
from auditor.probes.transfer import corners
from auditor.records import Key, Records, Values
from auditor.results import Bound, Cost, Measurement, Recommendation
from auditor.sigma import pending_convergence, recommend
from auditor.store import Arrays, RunFolder
from auditor.target import explained_classes
from auditor.tasks import (
    Bench,
    bounds_task,
    convergence_task,
    layers_task,
    quality_task,
    sigma_task,
    transfer_task,
)

Rows = tuple[int, ...]


class Progress(Protocol):
    """Told how far an audit is, in gradients of the audited model."""

    def start(self, total: float) -> None:
        """Begin, with the predicted total."""

    def advance(self, gradients: float) -> None:
        """Some work was done, or found done on resuming."""

    def task(self, name: str) -> None:
        """A task begins."""


class Run:
    """One pass over a plan; tasks that are already on disk are not done again.

    Only values per image stay in memory. Perturbations are as large as the images, times σ and ε:
    they are read from the folder again where they are needed, those of one task at a time.
    """

    def __init__(self, plan: Plan, folder: RunFolder, progress: Progress | None) -> None:
        self.plan, self.folder, self.progress = plan, folder, progress
        self.meter = Meter(watch=progress.advance if progress else None)
        self.spent = Meter()
        self.timings: dict[str, float] = {}
        if pilot := plan.pilot:
            self.spent.add("pilot", gradients=pilot.gradients, forwards=pilot.forwards)
            self.timings["pilot"] = pilot.seconds
        self.correct: Values = np.ones(len(plan.images.names))
        self.halves: tuple[Rows, Rows] = ((), ())
        if progress:
            progress.start(cost.gradients(plan.estimate.costs))

    def task(self, name: str, make: Callable[[], Arrays]) -> Arrays:
        """Arrays of a task: from disk if it is done, else made and put there."""
        if self.folder.done(name):
            arrays = self.folder.load(name)
            skipped = Meter(watch=self.progress.advance if self.progress else None)
            _book(arrays, skipped)
        else:
            if self.progress:
                self.progress.task(name)
            self.meter.gradients.clear()
            self.meter.forwards.clear()
            start = time.perf_counter()
            arrays = make()
            seconds = time.perf_counter() - start
            arrays["meter|seconds|"] = np.array(seconds)
            for probe in {*self.meter.gradients, *self.meter.forwards}:
                arrays[f"meter|gradients|{probe}"] = np.array(self.meter.gradients.get(probe, 0))
                arrays[f"meter|forwards|{probe}"] = np.array(self.meter.forwards.get(probe, 0))
            self.folder.save(name, arrays)
            self.folder.log(f"{name}: {seconds:.2f} s")
        kind = name.rpartition("-")[0] or name
        self.timings[kind] = self.timings.get(kind, 0.0) + float(arrays["meter|seconds|"])
        _book(arrays, self.spent)
        return arrays

    def costs(self) -> tuple[Cost, ...]:
        """Model evaluations by probe, of all tasks."""
        probes = sorted({*self.spent.gradients, *self.spent.forwards})
        return tuple(
            Cost(
                probe=probe,
                gradients=self.spent.gradients.get(probe, 0),
                forwards=self.spent.forwards.get(probe, 0),
            )
            for probe in probes
        )

    def measure(
        self,
    ) -> tuple[tuple[Measurement, ...], Recommendation, tuple[Bound, ...], Arrays, Arrays]:
        """Run all tasks and decide; the pictures for the gallery, and the clean predictions."""
        plan, settings = self.plan, self.plan.settings
        clean = self.task("clean", lambda: _clean(plan, self.meter))
        counts = clean["targets"] == clean["predicted"]
        if plan.images.labels is not None:
            counts &= clean["predicted"] == np.array(plan.images.labels)
        self.correct = counts.astype(float)
        self.halves = _halves(self.correct, seed=settings.seed)
        bench = self._bench(clean)
        records = gather(self._sigmas(bench), len(self.correct))
        records |= self._transfer(bench)
        records |= self._quality(bench)
        for index, twin in enumerate(plan.twins):
            key = Key(probe="twin", metric="agreement", partner=twin.name)
            records[key] = clean[f"agreement {index}"]
        for ensemble in plan.ensembles:
            key = Key(probe="ensemble", metric="agreement", partner=ensemble.name)
            predicted = torch.from_numpy(clean["members"])[list(ensemble.members)]
            records[key] = agreement(predicted).numpy()
        records |= self._accuracies(clean)
        collect = functools.partial(
            measurements,
            misclassified=1 - self.correct,
            k=settings.k,
            input_shape=plan.classifier.input_shape,
            seed=settings.seed,
            method=plan.method.name,
        )
        glance = plan.effort == GLANCE
        profile = provisional(plan.profile) if glance else plan.profile
        decide = functools.partial(
            recommend,
            sigmas=settings.sigmas,
            samples=settings.samples,
            profile=profile,
            screen=self.halves[0],
            confirm=self.halves[1],
            chance=chance(settings.k, *plan.classifier.input_shape[1:]),
            std=plan.classifier.std,
            seed=settings.seed,
            input_shape=plan.classifier.input_shape,
            not_applicable=plan.not_applicable,
        )
        found = collect(records)
        recommendation = decide(measurements=found)
        pending = pending_convergence(
            recommendation, profile=profile, input_shape=plan.classifier.input_shape
        )
        if pending:
            doubled = collect(self._doubled(bench, pending))
            found += doubled
            recommendation = decide(
                measurements=found,
                convergence={
                    (m.sigma, m.epsilon): m.values
                    for m in doubled
                    if m.sigma is not None and m.epsilon is not None
                },
            )
        if glance:
            recommendation = marked(recommendation, profile=plan.profile)
        gallery = self._gallery(bench, records)
        gallery |= self._pairs(bench, records, recommendation.considered) if gallery else {}
        bounds, directions = self._bounds(bench, found, recommendation)
        return found, recommendation, bounds, gallery | directions, clean

    def _accuracies(self, clean: Arrays) -> Records:
        """Whether each member of an ensemble is right, where the images have labels."""
        plan = self.plan
        if plan.images.labels is None:
            return {}
        names = [plan.classifier.name, *(twin.name for twin in plan.twins)]
        places = sorted({place for one in plan.ensembles for place in one.members})
        right = (clean["members"] == np.array(plan.images.labels)).astype(float)
        return {
            Key(probe="ensemble", metric="accuracy", partner=names[place]): right[place]
            for place in places
        }

    def _bench(self, clean: Arrays) -> Bench:
        plan = self.plan
        return Bench(
            classifier=plan.classifier,
            method=plan.method,
            twins=plan.twins,
            ensembles=plan.ensembles,
            control=plan.control,
            not_applicable=plan.not_applicable,
            images=plan.images,
            targets=torch.from_numpy(clean["targets"]),
            usable=torch.from_numpy(self.correct > 0),
            settings=plan.settings,
            meter=self.meter,
            batch=plan.batch,
            device=plan.device,
        )

    def _chunks(self) -> list[Rows]:
        rows, size = tuple(range(len(self.correct))), self.plan.settings.chunk
        return [rows[first : first + size] for first in range(0, len(rows), size)]

    def _sigmas(self, bench: Bench) -> Iterator[tuple[Rows, Arrays]]:
        """All probes at every σ, part by part of the images; finished before the next starts."""

        def probe(rows: Rows, part: int, sigma: float) -> Arrays:
            transfer = self._deltas(0.0, part) if sigma else {}
            return sigma_task(bench, rows, sigma, transfer)

        for sigma in self.plan.settings.sigmas:
            for part, rows in enumerate(self._chunks()):
                make = functools.partial(probe, rows, part, sigma)
                yield rows, self.task(self._name(sigma, part), make)

    def _name(self, sigma: float, part: int) -> str:
        return f"sigma-{self.plan.settings.sigmas.index(sigma)}-{part}"

    def _deltas(self, sigma: float, part: int) -> dict[float, torch.Tensor]:
        """Perturbations by ε that the attack at this σ found for the usable images of a part."""
        arrays = self.folder.load(self._name(sigma, part), only="delta|")
        return {
            float(name.partition("|")[2]): torch.from_numpy(values)
            for name, values in arrays.items()
        }

    def _transfer(self, bench: Bench) -> Records:
        """Try what was found at one σ at others, at the ε on which a verdict rests."""
        epsilon = self.plan.profile.front_epsilon(*self.plan.classifier.input_shape[1:])
        settings = self.plan.settings
        usable = [row for row, correct in enumerate(self.correct) if correct]
        rows = tuple(usable[: settings.transfer_images])
        if not rows or len(settings.sigmas) == 1:
            return {}

        def make() -> Arrays:
            deltas = {at: self._delta(at, epsilon, rows) for at in corners(settings.sigmas)}
            return transfer_task(bench, rows, deltas, epsilon=epsilon)

        arrays = self.task("transfer-0", make)
        return gather([(rows, arrays)], len(self.correct))

    def _quality(self, bench: Bench) -> Records:
        """Quality of maps on a sample, or on all images if the profile decides on it."""
        glance = self.plan.effort == GLANCE
        decisive = () if glance else self.plan.profile.metrics("quality")
        usable = [row for row, correct in enumerate(self.correct) if correct]
        most = len(usable) if decisive else self.plan.settings.quality_images
        if not usable or not most:
            return {}
        step = -(-len(usable) // most)  # in even steps through the audit
        sample, size = usable[::step], self.plan.settings.chunk
        tasks = []
        for part, first in enumerate(range(0, len(sample), size)):
            rows = tuple(sample[first : first + size])
            arrays = self.task(
                f"quality-{part}", functools.partial(quality_task, bench, rows, decisive)
            )
            tasks.append((rows, arrays))
        return gather(tasks, len(self.correct))

    def _doubled(self, bench: Bench, pending: Sequence[tuple[float, float]]) -> Records:
        """Repeat the attacks on which the verdict rests with twice the steps."""

        def again(rows: Rows, part: int, sigma: float, epsilon: float) -> Arrays:
            known = self._known(sigma, epsilon, part)
            return convergence_task(bench, rows, sigma, epsilon, known)

        tasks = []
        for sigma, epsilon in pending:
            index = self.plan.settings.sigmas.index(sigma)
            for part, rows in enumerate(self._chunks()):
                arrays = self.task(
                    f"doubled-{index}-{epsilon:g}-{part}",
                    functools.partial(again, rows, part, sigma, epsilon),
                )
                tasks.append((rows, arrays))
        return gather(tasks, len(self.correct))

    def _known(self, sigma: float, epsilon: float, part: int) -> tuple[torch.Tensor, ...]:
        """Candidates that the attack at (σ, ε) had: the transferred one, the next smaller ε's."""
        transferred, own = self._deltas(0.0, part), self._deltas(sigma, part)
        smaller = [own[e] for e in sorted(own) if e < epsilon][-1:]
        return tuple(smaller + ([transferred[epsilon]] if sigma and transferred else []))

    def _gallery(self, bench: Bench, records: Records) -> Arrays:
        """Pictures of the images whose unsmoothed map moved most and of those in the middle."""
        epsilon = self.plan.profile.front_epsilon(*self.plan.classifier.input_shape[1:])
        key = Key(
            probe="attack",
            metric="topk_intersection",
            attack="strongest",
            sigma=0.0,
            epsilon=epsilon,
        )
        # Without the record no image was attacked.
        rows = gallery_rows(records.get(key, np.full(len(self.correct), np.nan)))
        if not rows:
            return {}

        def make() -> Arrays:
            deltas = {at: self._delta(at, epsilon, rows) for at in self.plan.settings.sigmas}
            return gallery_task(bench, rows, deltas, epsilon=epsilon)

        return _pictures(self.task("gallery", make))

    def _pairs(self, bench: Bench, records: Records, considered: float | None) -> Arrays:
        """Maps of two members of each ensemble, on the images where its members differ most."""
        sigma = considered or self.plan.settings.sigmas[-1]
        shown = []
        for one in self.plan.ensembles:
            key = Key(probe="ensemble", metric="stability_error", sigma=0.0, partner=one.name)
            shown.append((one, pair_rows(records[key])))
        if not (shown and sigma):
            return {}
        return _pictures(
            self.task("members", functools.partial(pairs_task, bench, shown, sigma=sigma))
        )

    def _bounds(
        self, bench: Bench, found: tuple[Measurement, ...], recommendation: Recommendation
    ) -> tuple[tuple[Bound, ...], Arrays]:
        """Bounds at the σ considered on a sample of the images, and the directions of curvature."""
        plan, settings = self.plan, self.plan.settings
        sigma = recommendation.considered or next((s for s in settings.sigmas if s), 0.0)
        usable = [row for row, correct in enumerate(self.correct) if correct]
        if not usable or not sigma or plan.effort == GLANCE:
            return (), {}
        sample = usable[:: -(-len(usable) // settings.bound_images)]
        tasks, pictures = [], []
        for part, first in enumerate(range(0, len(sample), settings.chunk)):
            rows = tuple(sample[first : first + settings.chunk])
            arrays = self.task(
                f"bounds-{part}", functools.partial(bounds_task, bench, rows, sigma=sigma)
            )
            tasks.append((rows, arrays))
            pictures += [arrays["map|direction"]] if "map|direction" in arrays else []
        text = str(self.task("layers", functools.partial(layers_task, bench))["chain"])
        bounds = all_bounds(
            Facts(
                records=gather(tasks, len(self.correct)),
                rows=tuple(sample),
                measured=found,
                sigma=sigma,
                draws=settings.bound_draws,
                k=settings.k,
                shape=plan.classifier.input_shape,
                method=plan.method.name,
                chain=build(Chain, json.loads(text)) if text else None,
                std=plan.classifier.std,
                training=plan.training,
            )
        )
        if not pictures:
            return bounds, {}
        return bounds, {
            "direction": np.concatenate(pictures),
            "direction_index": np.array(sample),
        }

    def _delta(self, sigma: float, epsilon: float, rows: Sequence[int]) -> torch.Tensor:
        """Perturbations of some images from the tasks that found them."""
        found: dict[int, torch.Tensor] = {}
        for part, chunk in enumerate(self._chunks()):
            usable = [row for row in chunk if self.correct[row]]
            if not set(rows) & set(usable):
                continue
            deltas = self._deltas(sigma, part)[epsilon]
            # Cloned, so that no image keeps those of its whole part in memory.
            found |= {row: deltas[usable.index(row)].clone() for row in rows if row in usable}
        return torch.stack([found[row] for row in rows])


def _clean(plan: Plan, meter: Meter) -> Arrays:
    """Predicted and explained classes of the audited model, and whether each twin agrees."""

    def predict(model: Classifier, probe: str) -> torch.Tensor:
        evaluator = Evaluator(
            model=model, batch=plan.batch, device=plan.device, probe=probe, meter=meter
        )
        count = len(plan.images.names)
        starts = range(0, count, plan.batch)
        batches = (range(count)[start : start + plan.batch] for start in starts)
        return torch.cat([evaluator.logits(plan.images.batch(b)).argmax(dim=1) for b in batches])

    predicted = predict(plan.classifier, "smoothing")
    targets = explained_classes(plan.target, predicted, plan.images.labels)
    others = [predict(twin, "twin") for twin in plan.twins]
    agrees = {
        f"agreement {index}": (other == predicted).double().numpy()
        for index, other in enumerate(others)
    }
    members = torch.stack([predicted, *others]).numpy()
    return {
        "predicted": predicted.numpy(),
        "targets": targets.numpy(),
        "members": members,
        **agrees,
    }


def _halves(correct: Values, *, seed: int) -> tuple[Rows, Rows]:
    """Split the images that count into a screening and a confirmation half, by a seeded shuffle."""
    usable = np.flatnonzero(correct)
    shuffled = np.random.default_rng(seed).permutation(usable)
    middle = (len(shuffled) + 1) // 2
    screen, confirm = sorted(shuffled[:middle].tolist()), sorted(shuffled[middle:].tolist())
    return tuple(screen), tuple(confirm)


def _pictures(arrays: Arrays) -> Arrays:
    return {name: value for name, value in arrays.items() if not name.startswith("meter|")}


def _book(arrays: Arrays, meter: Meter) -> None:
    for name, count in arrays.items():
        if name.startswith("meter|gradients|"):
            meter.add(name.rpartition("|")[2], gradients=int(count))
        elif name.startswith("meter|forwards|"):
            meter.add(name.rpartition("|")[2], forwards=int(count))
