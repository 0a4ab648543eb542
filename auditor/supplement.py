"""Measure what another profile asks for and a finished run does not have, and nothing else."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from auditor.again import decide_again, of_every_profile, pending
from auditor.errors import InputError
from auditor.executors import Job
from auditor.plan import Plan
from auditor.records import Key
from auditor.remeasure import same_inputs
from auditor.results import AuditResult, Measurement
from auditor.run import Piece, Run
from auditor.store import RunFolder
from auditor.tasks import attack_task, metrics_task
from auditor.verify import SAME
from profiles import Profile

STRONGEST = Key(probe="attack", metric="topk_intersection", attack="strongest")


def supplemented(plan: Plan, run: Path, result: AuditResult, profile: Profile) -> AuditResult:
    """The result with the records that a profile asks for; each task is on disk once it is done.

    ``plan`` is that of the run's own command. What needs a twin is measured only if the run has
    one.

    Raises
    ------
    InputError
        If model, images or settings are not those of the run.
    """
    found = same_inputs(plan, run)
    if found.status != SAME:
        raise InputError(f"{run}: cannot be added to. {found.message}")
    return _Supplement(plan, RunFolder(run), None).add(result, profile)


class _Supplement(Run):
    """Goes through a finished run, which is all on disk, and then on to further tasks."""

    def add(self, result: AuditResult, profile: Profile) -> AuditResult:
        self.measure()
        result = self._with(result, self._attacks(result, profile))
        result = self._with(result, self._metrics(result, profile))
        result = self._with(result, self._doubled(pending(result, profile)))
        answer = decide_again(result, profile)
        if answer.sigma is not None and answer.sigma not in {c.sigma for c in result.follow_ups}:
            checked, more = self._follow_up(result.measurements, answer, profile)
            result = dataclasses.replace(
                _merged(result, more), follow_ups=(*result.follow_ups, checked)
            )
        timings = {**result.timings, **self.timings}
        result = dataclasses.replace(result, costs=self.costs(), timings=timings)
        tried = tuple(answer for answer in result.other_profiles if answer.decided)
        return dataclasses.replace(result, other_profiles=(*of_every_profile(result), *tried))

    def _with(self, result: AuditResult, pieces: Sequence[Piece]) -> AuditResult:
        return _merged(result, self._collected(self._gathered(pieces))) if pieces else result

    def _attacks(self, result: AuditResult, profile: Profile) -> list[Piece]:
        """Attacks of every σ with the ε that the profile looks at, where there are none yet."""
        pieces = []
        for epsilon in profile.attack_epsilons(*self.plan.classifier.input_shape[1:]):
            key = dataclasses.replace(STRONGEST, epsilon=epsilon)
            have = {m.sigma for m in result.find(**_condition(key))}
            if not self.correct.any() or have >= {*self.plan.settings.sigmas}:
                continue
            for at, sigma in enumerate(self.plan.settings.sigmas):
                for part, rows in enumerate(self._chunks()):
                    first = f"attack-{epsilon:g}-0-{part}"
                    job = Job(
                        name=f"attack-{epsilon:g}-{at}-{part}",
                        call=functools.partial(
                            attack_task, rows=rows, sigma=sigma, epsilon=epsilon
                        ),
                        needs=(first,) if sigma else (),
                        inputs=functools.partial(self._found_at_zero, sigma, first),
                    )
                    pieces.append((rows, job))
        return pieces

    def _found_at_zero(self, sigma: float, first: str) -> dict[str, Any]:
        return {"transfer": self._on_disk(first) if sigma else {}}

    def _on_disk(self, task: str) -> dict[float, torch.Tensor]:
        arrays = self.folder.load(task, only="delta|")
        return {float(n.partition("|")[2]): torch.from_numpy(a) for n, a in arrays.items()}

    def _deltas(self, sigma: float, part: int) -> dict[float, torch.Tensor]:
        """Those of the audit, and those of the attacks that were added."""
        found = super()._deltas(sigma, part)
        at = self.plan.settings.sigmas.index(sigma)
        for path in sorted((self.folder.path / "tasks").glob(f"attack-*-{at}-{part}.npz")):
            found |= self._on_disk(path.stem)
        return found

    def _metrics(self, result: AuditResult, profile: Profile) -> list[Piece]:
        """Metrics of quality that the profile looks at, on all images, where some lack them."""
        usable = [row for row, correct in enumerate(self.correct) if correct]
        metrics = [m for m in profile.metrics("quality") if self._lacks(result, m, usable)]
        pieces, size = [], self.plan.settings.chunk
        for part, first in enumerate(range(0, len(usable) if metrics else 0, size)):
            rows = tuple(usable[first : first + size])
            call = functools.partial(metrics_task, rows=rows, metrics=tuple(metrics))
            pieces.append((rows, Job(name=f"{'+'.join(metrics)}-{part}", call=call)))
        return pieces

    def _lacks(self, result: AuditResult, metric: str, usable: Sequence[int]) -> bool:
        found = result.find(probe="quality", metric=metric)
        everywhere = {m.sigma for m in found} >= {*self.plan.settings.sigmas}
        sampled = any("outside the sample" in m.excluded for m in found)
        return bool(usable) and not (everywhere and not sampled)


def _condition(key: Key) -> dict[str, Any]:
    return {name: value for name, value in vars(key).items() if value is not None}


def _merged(result: AuditResult, more: Sequence[Measurement]) -> AuditResult:
    """With further measurements, which replace those of the same condition."""
    new = {_identity(m) for m in more}
    kept = tuple(m for m in result.measurements if _identity(m) not in new)
    return dataclasses.replace(result, measurements=(*kept, *more))


def _identity(m: Measurement) -> tuple[Any, ...]:
    return (m.probe, m.metric, m.sigma, m.epsilon, m.attack, m.partner)
