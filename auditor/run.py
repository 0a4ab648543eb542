"""An audit: which tasks it has, and what is made of them; each is on disk before it counts."""

from __future__ import annotations

import dataclasses
import functools
import json
import time
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np
import torch

from auditor import cost
from auditor.assemble import gather, measurements
from auditor.bounding import Facts, all_bounds
from auditor.bounds.layers import Chain
from auditor.evaluation import Meter
from auditor.evidence import Evidence
from auditor.executors import Executor, Finished, Here, Job, Work, book_spent, schedule
from auditor.follow_up import (
    MOST,
    NOT_CHECKED,
    PICTURES,
    draws_again,
    draws_as_measured,
    draws_task,
    enough_draws,
    gates_again,
    judge_planted,
    map_error,
    planted_task,
    with_follow_up,
)
from auditor.gallery import gallery_rows, gallery_task, pair_rows, pairs_task
from auditor.glance import GLANCE, marked, provisional
from auditor.metrics.drift import chance
from auditor.plain import build
from auditor.plan import Plan
from auditor.probes.ensemble import agreement
from auditor.probes.transfer import corners
from auditor.records import Key, Records, Values
from auditor.results import Bound, Cost, FollowUp, Measurement, Recommendation
from auditor.sigma import pending_convergence, recommend
from auditor.store import Arrays, RunFolder
from auditor.tasks import (
    Bench,
    bounds_task,
    clean_task,
    convergence_task,
    layers_task,
    quality_task,
    sigma_task,
    transfer_task,
)
from profiles import Profile

Rows = tuple[int, ...]
Piece = tuple[Rows, Job]
"""A task and the images whose values it holds."""


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

    def __init__(
        self,
        plan: Plan,
        folder: RunFolder,
        progress: Progress | None,
        executor: Executor | None = None,
    ) -> None:
        self.plan, self.folder, self.progress = plan, folder, progress
        self.executor: Executor = executor or Here()
        self._start = time.monotonic()
        self.batch = plan.batch
        self.spent = Meter()
        self.timings: dict[str, float] = {}
        if pilot := plan.pilot:
            self.spent.add("pilot", gradients=pilot.gradients, forwards=pilot.forwards)
            self.timings["pilot"] = pilot.seconds
        count = len(plan.images.names)
        self.correct: Values = np.ones(count)
        self.halves: tuple[Rows, Rows] = ((), ())
        self.follow_ups: tuple[FollowUp, ...] = ()
        self.bench = Bench(
            classifier=plan.classifier,
            method=plan.method,
            twins=plan.twins,
            ensembles=plan.ensembles,
            control=plan.control,
            not_applicable=plan.not_applicable,
            images=plan.images,
            targets=torch.zeros(count, dtype=torch.long),
            usable=torch.ones(count, dtype=torch.bool),
            settings=plan.settings,
            meter=Meter(watch=progress.advance if progress else None),
            batch=plan.batch,
            device=plan.device,
        )
        if progress:
            progress.start(cost.gradients(plan.estimate.costs))

    def task(self, job: Job) -> Arrays:
        """Arrays of one task, as :meth:`tasks` gives them."""
        ((_, arrays),) = self.tasks([job])
        return arrays

    def tasks(self, jobs: Sequence[Job]) -> Iterator[tuple[Job, Arrays]]:
        """Tasks in their order with their arrays: from disk if they are done, else put there.

        Perturbations are left on disk.
        """
        new = set()

        def receive(finished: Finished) -> None:
            new.add(finished.name)
            meter = Meter()
            book_spent(finished.arrays, meter)
            self.folder.log(
                "task",
                task=finished.name,
                seconds=round(float(finished.arrays["meter|seconds|"]), 3),
                gradients=sum(meter.gradients.values()),
                forwards=sum(meter.forwards.values()),
                worker=finished.worker,
                lost_workers=finished.lost,
                elapsed=self.elapsed,
            )

        done = schedule(
            jobs, executor=self.executor, folder=self.folder, send=self._work, receive=receive
        )
        for job, arrays in done:
            if job.name not in new:
                book_spent(arrays, Meter(watch=self.progress.advance if self.progress else None))
            # Runs of earlier versions do not have it.
            self.batch = min(self.batch, int(arrays.get("meter|batch|", self.batch)))
            kind = job.name.rpartition("-")[0] or job.name
            self.timings[kind] = self.timings.get(kind, 0.0) + float(arrays["meter|seconds|"])
            book_spent(arrays, self.spent)
            yield job, arrays

    def _work(self, job: Job) -> Work:
        if self.progress:
            self.progress.task(job.name)
        return Work(
            name=job.name,
            call=job.call,
            inputs=job.inputs(),
            targets=self.bench.targets,
            usable=self.bench.usable,
        )

    @property
    def elapsed(self) -> float:
        """Seconds since this began, by a clock that nobody sets."""
        return round(time.monotonic() - self._start, 3)

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
        self.executor.start(self.bench)
        clean = self.task(Job(name="clean", call=functools.partial(clean_task, target=plan.target)))
        counts = clean["targets"] == clean["predicted"]
        if plan.images.labels is not None:
            counts &= clean["predicted"] == np.array(plan.images.labels)
        self.correct = counts.astype(float)
        self.halves = _halves(self.correct, seed=settings.seed)
        self.bench = dataclasses.replace(
            self.bench,
            targets=torch.from_numpy(clean["targets"]),
            usable=torch.from_numpy(self.correct > 0),
        )
        records = self._gathered([*self._sigmas(), *self._transfer(), *self._quality()])
        for index, twin in enumerate(plan.twins):
            key = Key(probe="twin", metric="agreement", partner=twin.name)
            records[key] = clean[f"agreement {index}"]
        for ensemble in plan.ensembles:
            key = Key(probe="ensemble", metric="agreement", partner=ensemble.name)
            predicted = torch.from_numpy(clean["members"])[list(ensemble.members)]
            records[key] = agreement(predicted).numpy()
        records |= self._accuracies(clean)
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
        found = self._collected(records)
        recommendation = decide(measurements=found)
        pending = pending_convergence(
            recommendation, profile=profile, input_shape=plan.classifier.input_shape
        )
        if pending:
            doubled = self._collected(self._gathered(self._doubled(pending)))
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
        if recommendation.verdict == "recommended":
            checked, more = self._follow_up(found, recommendation, plan.profile)
            found += more
            self.follow_ups = (checked,)
            recommendation = with_follow_up(recommendation, checked)
        gallery = self._gallery(records)
        gallery |= self._pairs(records, recommendation.considered) if gallery else {}
        bounds, directions = self._bounds(found, recommendation)
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

    def _gathered(self, pieces: Sequence[Piece]) -> Records:
        """Values per image of tasks; one task after the other, so that few are in memory."""
        rows = {job.name: rows for rows, job in pieces}
        done = self.tasks([job for _, job in pieces])
        return gather(((rows[job.name], arrays) for job, arrays in done), len(self.correct))

    def _collected(self, records: Records) -> tuple[Measurement, ...]:
        """Measurements with their intervals and what does not count."""
        return measurements(
            records,
            misclassified=1 - self.correct,
            k=self.plan.settings.k,
            input_shape=self.plan.classifier.input_shape,
            seed=self.plan.settings.seed,
            method=self.plan.method.name,
        )

    def _chunks(self) -> list[Rows]:
        rows, size = tuple(range(len(self.correct))), self.plan.settings.chunk
        return [rows[first : first + size] for first in range(0, len(rows), size)]

    def _sigmas(self) -> list[Piece]:
        """All probes at every σ, part by part of the images."""
        pieces = []
        # Part by part, so that the time left is known soon and an audit cut short has whole images.
        for part, rows in enumerate(self._chunks()):
            for sigma in self.plan.settings.sigmas:
                job = Job(
                    name=self._name(sigma, part),
                    call=functools.partial(sigma_task, rows=rows, sigma=sigma),
                    needs=(self._name(0.0, part),) if sigma else (),
                    inputs=functools.partial(self._transferred, sigma, part),
                )
                pieces.append((rows, job))
        return pieces

    def _transferred(self, sigma: float, part: int) -> dict[str, Any]:
        return {"transfer": self._deltas(0.0, part) if sigma else {}}

    def _name(self, sigma: float, part: int) -> str:
        return f"sigma-{self.plan.settings.sigmas.index(sigma)}-{part}"

    def _deltas(self, sigma: float, part: int) -> dict[float, torch.Tensor]:
        """Perturbations by ε that the attack at this σ found for the usable images of a part."""
        arrays = self.folder.load(self._name(sigma, part), only="delta|")
        return {
            float(name.partition("|")[2]): torch.from_numpy(values)
            for name, values in arrays.items()
        }

    def _transfer(self) -> list[Piece]:
        """Try what was found at one σ at others, at the ε on which a verdict rests."""
        epsilon = self.plan.profile.front_epsilon(*self.plan.classifier.input_shape[1:])
        settings = self.plan.settings
        usable = [row for row, correct in enumerate(self.correct) if correct]
        rows = tuple(usable[: settings.transfer_images])
        if not rows or len(settings.sigmas) == 1:
            return []
        sigmas = corners(settings.sigmas)
        job = Job(
            name="transfer-0",
            call=functools.partial(transfer_task, rows=rows, epsilon=epsilon),
            needs=tuple(
                self._name(sigma, part)
                for sigma in sigmas
                for part, chunk in enumerate(self._chunks())
                if {*chunk} & {*rows}
            ),
            inputs=lambda: {"deltas": {at: self._delta(at, epsilon, rows) for at in sigmas}},
        )
        return [(rows, job)]

    def _quality(self) -> list[Piece]:
        """Quality of maps on a sample, or on all images if the profile decides on it."""
        glance = self.plan.effort == GLANCE
        decisive = () if glance else self.plan.profile.metrics("quality")
        usable = [row for row, correct in enumerate(self.correct) if correct]
        most = len(usable) if decisive else self.plan.settings.quality_images
        if not usable or not most:
            return []
        step = -(-len(usable) // most)  # in even steps through the audit
        sample, size = usable[::step], self.plan.settings.chunk
        pieces = []
        for part, first in enumerate(range(0, len(sample), size)):
            rows = tuple(sample[first : first + size])
            call = functools.partial(quality_task, rows=rows, decisive=decisive)
            pieces.append((rows, Job(name=f"quality-{part}", call=call)))
        return pieces

    def _doubled(self, pending: Sequence[tuple[float, float]]) -> list[Piece]:
        """Repeat the attacks on which the verdict rests with twice the steps."""

        def inputs(sigma: float, epsilon: float, part: int) -> dict[str, Any]:
            return {"known": self._known(sigma, epsilon, part)}

        pieces = []
        for sigma, epsilon in pending:
            index = self.plan.settings.sigmas.index(sigma)
            for part, rows in enumerate(self._chunks()):
                job = Job(
                    name=f"doubled-{index}-{epsilon:g}-{part}",
                    call=functools.partial(
                        convergence_task, rows=rows, sigma=sigma, epsilon=epsilon
                    ),
                    inputs=functools.partial(inputs, sigma, epsilon, part),
                )
                pieces.append((rows, job))
        return pieces

    def _known(self, sigma: float, epsilon: float, part: int) -> tuple[torch.Tensor, ...]:
        """Candidates that the attack at (σ, ε) had: the transferred one, the next smaller ε's."""
        transferred, own = self._deltas(0.0, part), self._deltas(sigma, part)
        smaller = [own[e] for e in sorted(own) if e < epsilon][-1:]
        return tuple(smaller + ([transferred[epsilon]] if sigma and transferred else []))

    def _gallery(self, records: Records) -> Arrays:
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

        def inputs() -> dict[str, Any]:
            sigmas = self.plan.settings.sigmas
            return {"deltas": {at: self._delta(at, epsilon, rows) for at in sigmas}}

        call = functools.partial(gallery_task, rows=rows, epsilon=epsilon)
        return _pictures(self.task(Job(name="gallery", call=call, inputs=inputs)))

    def _pairs(self, records: Records, considered: float | None) -> Arrays:
        """Maps of two members of each ensemble, on the images where its members differ most."""
        sigma = considered or self.plan.settings.sigmas[-1]
        shown = []
        for one in self.plan.ensembles:
            key = Key(probe="ensemble", metric="stability_error", sigma=0.0, partner=one.name)
            shown.append((one, pair_rows(records[key])))
        if not (shown and sigma):
            return {}
        call = functools.partial(pairs_task, ensembles=shown, sigma=sigma)
        return _pictures(self.task(Job(name="members", call=call)))

    def _bounds(
        self, found: tuple[Measurement, ...], recommendation: Recommendation
    ) -> tuple[tuple[Bound, ...], Arrays]:
        """Bounds at the σ considered on a sample of the images, and the directions of curvature."""
        plan, settings = self.plan, self.plan.settings
        sigma = recommendation.considered or next((s for s in settings.sigmas if s), 0.0)
        usable = [row for row, correct in enumerate(self.correct) if correct]
        if not usable or not sigma or plan.effort == GLANCE:
            return (), {}
        sample = usable[:: -(-len(usable) // settings.bound_images)]
        pieces = []
        for part, first in enumerate(range(0, len(sample), settings.chunk)):
            rows = tuple(sample[first : first + settings.chunk])
            call = functools.partial(bounds_task, rows=rows, sigma=sigma)
            pieces.append((rows, Job(name=f"bounds-{part}", call=call)))
        *done, (_, layers) = self.tasks(
            [*(job for _, job in pieces), Job(name="layers", call=layers_task)]
        )
        tasks = [(rows, arrays) for (rows, _), (_, arrays) in zip(pieces, done, strict=True)]
        pictures = [arrays["map|direction"] for _, arrays in tasks if "map|direction" in arrays]
        text = str(layers["chain"])
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

    def _follow_up(
        self,
        found: tuple[Measurement, ...],
        answer: Recommendation,
        profile: Profile,
    ) -> tuple[FollowUp, tuple[Measurement, ...]]:
        """Check planted evidence and the number of draws at the recommended σ."""
        settings, sigma = self.plan.settings, answer.considered or 0.0
        at, rows = settings.sigmas.index(sigma), self._some(PICTURES)
        call = functools.partial(planted_task, rows=rows, sigma=sigma)
        arrays = self.task(Job(name=f"planted-{at}", call=call))
        more: tuple[Measurement, ...] = ()
        if "reason" in arrays:
            planted = NOT_CHECKED, str(arrays["reason"])
        else:
            more = self._collected(gather([(rows, arrays)], len(self.correct)))
            planted = judge_planted(
                more, sigma=sigma, confidence=profile.confidence, seed=settings.seed
            )
        samples, error = settings.samples, map_error(found, sigma=sigma)
        needed = enough_draws(error, samples=samples)
        draws = draws_as_measured(error, sigma=sigma, samples=samples)
        if sigma and samples < needed <= MOST * samples:
            rows = self._some(2 * settings.quality_images)
            pieces = []
            for part, first in enumerate(range(0, len(rows), settings.chunk)):
                few = rows[first : first + settings.chunk]
                call = functools.partial(draws_task, rows=few, sigma=sigma, samples=needed)
                pieces.append((few, Job(name=f"draws-{at}-{part}", call=call)))
            again = self._collected(self._gathered(pieces))
            draws = draws_again(
                error,
                map_error(again, sigma=sigma),
                gates_again(again, profile, self._evidence(rows), sigma=sigma),
                samples=samples,
                more=needed,
                images=len(rows),
            )
        status, reason = planted
        return FollowUp(sigma=sigma, planted=status, planted_reason=reason, **vars(draws)), more

    def _some(self, most: int) -> Rows:
        """At most so many of the usable images, in even steps through the audit."""
        usable = [row for row, correct in enumerate(self.correct) if correct]
        return tuple(usable[:: -(-len(usable) // most)])

    def _evidence(self, rows: Rows) -> Evidence:
        """What the gates are read from, on some images."""
        settings, (_, height, width) = self.plan.settings, self.plan.classifier.input_shape
        return Evidence(
            measurements=(),
            screen=rows,
            confirm=(),
            height=height,
            width=width,
            chance=chance(settings.k, height, width),
            seed=settings.seed,
            not_applicable=self.plan.not_applicable,
        )

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


def _halves(correct: Values, *, seed: int) -> tuple[Rows, Rows]:
    """Split the images that count into a screening and a confirmation half, by a seeded shuffle."""
    usable = np.flatnonzero(correct)
    shuffled = np.random.default_rng(seed).permutation(usable)
    middle = (len(shuffled) + 1) // 2
    screen, confirm = sorted(shuffled[:middle].tolist()), sorted(shuffled[middle:].tolist())
    return tuple(screen), tuple(confirm)


def _pictures(arrays: Arrays) -> Arrays:
    return {name: value for name, value in arrays.items() if not name.startswith("meter|")}
