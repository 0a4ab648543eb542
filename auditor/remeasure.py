"""Repeat some tasks of a finished run and compare what they give with what is on disk."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from auditor.errors import InputError
from auditor.plan import Plan, request
from auditor.run import Run
from auditor.store import REQUEST, Arrays, RunFolder
from auditor.verify import CHANGED, SAME, UNCHECKED, Finding

RELATIVE = 1e-3
LEAST = 0.95
"""Two figures are the same within ``RELATIVE``, and a task is if this share of its figures is:
another machine or batch rounds differently, and where it crosses a tie a top pixel changes."""


@dataclass(frozen=True)
class _Repeated(RunFolder):
    """A run folder that has ``chosen`` tasks done again and kept apart; it is never written to."""

    chosen: frozenset[str] = frozenset()
    again: dict[str, Arrays] = field(default_factory=dict)

    def done(self, task: str) -> bool:
        return (task in self.again or task not in self.chosen) and super().done(task)

    def save(self, task: str, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        self.again[task] = dict(arrays)

    def log(self, event: str, **facts: Any) -> None:
        pass


def same_inputs(plan: Plan, run: Path) -> Finding:
    """Whether model, images and settings are those that the run was started with."""
    if not (run / REQUEST).is_file():
        message = f"{REQUEST} is gone, which says what was asked for."
        return Finding(what="inputs", status=CHANGED, message=message)
    try:
        RunFolder(run).open(request(plan), {})
    except InputError as error:
        return Finding(what="inputs", status=CHANGED, message=str(error).partition("\n")[0])
    message = f"Model {plan.classifier.sha256()[:16]}…, images {plan.images.manifest_sha256[:16]}…"
    return Finding(what="inputs", status=SAME, message=f"{message}, and all settings.")


def remeasure(plan: Plan, run: Path, *, tasks: int) -> tuple[Finding, ...]:
    """Repeat random tasks of a run; which ones cannot be foretold.

    Raises
    ------
    InputError
        If the run has no tasks on disk.
    """
    names = sorted(path.stem for path in (run / "tasks").glob("*.npz"))
    if not names:
        raise InputError(f"{run}: the folder tasks is gone, so nothing can be measured again.")
    chosen = frozenset(random.SystemRandom().sample(names, min(tasks, len(names))))
    folder = _Repeated(run, chosen)
    try:
        Run(plan, folder, None).measure()
    except ValueError as error:  # figures outside their range in the tasks not chosen
        raise InputError(f"{run}: the figures in tasks cannot be an audit's ({error}).") from error
    return tuple(
        _compare(name, folder.load(name), folder.again[name])
        if name in folder.again
        else Finding(what=name, status=UNCHECKED, message="Measured for another profile.")
        for name in sorted(chosen)
    )


def _compare(name: str, before: Arrays, after: Arrays) -> Finding:
    """Compare the figures of a task, and the words on what they rest on."""
    kept, again = (_figures(arrays) for arrays in (before, after))
    if {n: a.shape for n, a in kept.items()} != {n: a.shape for n, a in again.items()}:
        return Finding(what=name, status=CHANGED, message="Other figures than before.")
    same = sum(int(_equal(kept[n], again[n]).sum()) for n in kept)
    total = sum(array.size for array in kept.values())
    return Finding(
        what=name,
        status=SAME if same >= LEAST * total else CHANGED,
        message=f"{same:,} of {total:,} figures are the same when measured again.",
    )


def _figures(arrays: Arrays) -> Arrays:
    """Without perturbations, of which many serve, and without costs."""
    return {n: a for n, a in arrays.items() if not n.startswith(("meter|", "delta|"))}


def _equal(a: npt.NDArray[Any], b: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    if a.dtype.kind in "fiub" and b.dtype.kind in "fiub":
        close: npt.NDArray[np.bool_] = np.isclose(a, b, rtol=RELATIVE, atol=1e-6, equal_nan=True)
        return close
    return np.asarray(a == b)
