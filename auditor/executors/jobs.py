"""A task as something that can be sent elsewhere, and what an executor has to do with it."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from torch import Tensor

from auditor.evaluation import Meter
from auditor.memory import halving
from auditor.store import Arrays
from auditor.tasks import Bench

Call = Callable[..., Arrays]
"""A function of :mod:`auditor.tasks`, or a partial of one: takes a bench, returns arrays."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """A task of an audit.

    Attributes
    ----------
    name
        Of its file in the run folder.
    call
        Does it; must be importable by name, for it may run in another process.
    needs
        Tasks that must be on disk before it starts.
    inputs
        Reads, just before it starts and in this process, what it needs of them.
    """

    name: str
    call: Call
    needs: tuple[str, ...] = ()
    inputs: Callable[[], Mapping[str, Any]] = dict


@dataclass(frozen=True, kw_only=True, eq=False)
class Work:
    """A job with all that it needs beside the models and the images."""

    name: str
    call: Call
    inputs: Mapping[str, Any]
    targets: Tensor
    usable: Tensor


@dataclass(frozen=True, kw_only=True, eq=False)
class Finished:
    """What came of a job, and which worker did it; ``lost`` workers had tried before."""

    name: str
    arrays: Arrays
    worker: str
    lost: int = field(default=0)


class Executor(Protocol):
    """Does work, up to ``slots`` pieces at a time, with models that each worker loads once.

    The same work has the same results wherever it is done, and however much goes on beside it.
    """

    @property
    def slots(self) -> int:
        """How many pieces of work may be with it at a time."""

    def start(self, bench: Bench) -> None:
        """Take over models, images and settings; explained classes come with each work."""

    def submit(self, work: Work) -> None:
        """Begin, or begin as soon as a worker is free."""

    def wait(self) -> Finished:
        """The next work that is finished.

        Raises
        ------
        AuditorError
            What the work raised; :class:`auditor.errors.IncompleteRunError` if its worker was lost
            again and again.
        """

    def close(self) -> None:
        """End, finished or not."""


def perform(work: Work, bench: Bench) -> tuple[Arrays, Bench]:
    """Do it in this process; ``meter|...`` say what it took, in seconds and model evaluations.

    Where memory runs out the whole task is done again with half of the batch, which changes no
    figure: noise belongs to images and draws. Also returns the bench with the batch that fitted.
    """
    meter = bench.meter
    start = time.perf_counter()

    def attempt(batch: int) -> Arrays:
        meter.gradients.clear()
        meter.forwards.clear()
        with_this = dataclasses.replace(
            bench, batch=batch, targets=work.targets, usable=work.usable
        )
        return work.call(with_this, **work.inputs)

    arrays, batch = halving(bench.batch, attempt)
    spent = {
        "meter|seconds|": np.array(time.perf_counter() - start),
        "meter|batch|": np.array(batch),
    }
    for probe in sorted({*meter.gradients, *meter.forwards}):
        spent[f"meter|gradients|{probe}"] = np.array(meter.gradients.get(probe, 0))
        spent[f"meter|forwards|{probe}"] = np.array(meter.forwards.get(probe, 0))
    return arrays | spent, dataclasses.replace(bench, batch=batch)


def book_spent(arrays: Arrays, meter: Meter) -> None:
    """Book on a meter what a finished task took."""
    for name, count in arrays.items():
        _, kind, probe = name.split("|", 2) if name.startswith("meter|") else ("", "", "")
        if kind == "gradients":
            meter.add(probe, gradients=int(count))
        elif kind == "forwards":
            meter.add(probe, forwards=int(count))
