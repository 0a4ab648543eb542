"""The schedule of a large audit, simulated task by task, against the cost model of docs/scale.md.

    python benchmarks/schedule.py [--quick] [--json FILE]

The scheduler is the auditor's own; workers and their clock are simulated. 50,000 pictures of
224×224 pixels with the settings of effort standard and a twin, in tasks of four: each task takes
its predicted gradients at the rate of a worker, times a log-normal factor of 20%. Between tasks the
process that writes the run folder has to read and write perturbations; what that takes on this
machine's disk is measured first. The model says: the larger of (work + writing) / workers and
writing, and one task more at the end. It holds where it is within 15% of the schedule. ``--quick``
takes 2,000 pictures.
"""

from __future__ import annotations

import heapq
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))

from auditor.cost import gradients, predict_costs
from auditor.executors import Finished, Job, Work, schedule
from auditor.settings import Settings, plan_settings
from auditor.store import Arrays, RunFolder
from benchmarks.timing import Row, bounded, main
from profiles import load_profile

SHAPE = (3, 224, 224)
RATES = {"a CPU core": 6.0, "a small GPU": 400.0, "a large GPU": 4000.0}
"""Gradients of EfficientNet-Lite0 a second; the GPUs' are assumed, none was at hand."""
WORKERS = (1, 16, 64, 256)
SPREAD = 0.2
TARGET = 0.15


class Simulated:
    """An executor whose workers take simulated seconds; writing takes some of the parent's."""

    def __init__(self, slots: int, seconds: Mapping[str, float], writing: float) -> None:
        self.slots, self.seconds, self.writing = slots, seconds, writing
        self.now = 0.0
        self.busy: list[tuple[float, str]] = []

    def start(self, bench: Any) -> None:
        """Do nothing."""

    def submit(self, work: Work) -> None:
        """Let a worker begin now."""
        heapq.heappush(self.busy, (self.now + self.seconds[work.name], work.name))

    def wait(self) -> Finished:
        """Advance the clock to the next task that ends, and let the parent write it."""
        end, name = heapq.heappop(self.busy)
        self.now = max(self.now, end) + self.writing
        return Finished(name=name, arrays={}, worker="simulated")

    def close(self) -> None:
        """Do nothing."""


class Remembered(RunFolder):
    """A run folder that only remembers which tasks are done."""

    def __init__(self) -> None:
        super().__init__(Path("simulated"))
        object.__setattr__(self, "names", set())

    def done(self, task: str) -> bool:
        """Whether it was saved."""
        return task in self.names  # type: ignore[attr-defined]

    def save(self, task: str, arrays: Mapping[str, Any]) -> None:
        """Remember it."""
        self.names.add(task)  # type: ignore[attr-defined]

    def load(self, task: str, *, only: str = "") -> Arrays:
        """Nothing."""
        return {}


def settings_of(effort: str) -> Settings:
    """What an effort means for photographs."""
    profile = load_profile("compliance")
    return plan_settings(effort=effort, profile=profile, input_shape=SHAPE, origin="")[0]


def per_image(effort: str) -> dict[str, float]:
    """Gradients by probe for one of many pictures, with a twin and 1,000 classes."""
    costs = predict_costs(settings_of(effort), images=10**6, twins=1, classes=1000)
    return {cost.probe: gradients([cost]) / 10**6 for cost in costs}


def writing_seconds(settings: Settings, repeats: int = 5) -> float:
    """Reading a part's perturbations and writing as many again, on this disk."""
    size = (settings.chunk, *SHAPE)
    deltas = {f"delta|{e}": np.zeros(size, np.float32) for e in settings.smooth_epsilons}
    taken = []
    with tempfile.TemporaryDirectory(dir=".") as place:
        folder = RunFolder(Path(place))
        for number in range(repeats):
            start = time.perf_counter()
            folder.save(f"sigma-0-{number}", deltas)
            folder.load(f"sigma-0-{number}")
            taken.append(time.perf_counter() - start)
    return min(taken)


def simulate(
    images: int, workers: int, rate: float, settings: Settings, writing: float
) -> tuple[float, float]:
    """Hours by schedule, and by the model."""
    smooth = len(settings.sigmas) - 1
    parts = -(-images // settings.chunk)
    total = sum(per_image("standard").values()) * settings.chunk / rate
    mean = total / (1 + smooth)
    random = np.random.default_rng(0)
    jobs, seconds = [], {}
    for part in range(parts):
        for index in range(1 + smooth):
            name = f"sigma-{index}-{part}"
            needs = (f"sigma-0-{part}",) if index else ()
            jobs.append(Job(name=name, call=dict, needs=needs))
            seconds[name] = mean * random.lognormal(-(SPREAD**2) / 2, SPREAD)
    executor = Simulated(workers, seconds, writing)

    def work(job: Job) -> Work:
        return Work(name=job.name, call=dict, inputs={}, targets=None, usable=None)  # type: ignore[arg-type]

    for _ in schedule(
        jobs, executor=executor, folder=Remembered(), send=work, receive=lambda finished: None
    ):
        pass
    written = len(jobs) * writing
    model = max((sum(seconds.values()) + written) / workers, written) + mean
    return executor.now / 3600, model / 3600


def suite(quick: bool) -> list[Row]:
    """Every rate with every number of workers."""
    images = 2_000 if quick else 50_000
    settings = settings_of("standard")
    writing = writing_seconds(settings)
    task = sum(per_image("standard").values()) * settings.chunk / len(settings.sigmas)
    peer = "a thousandth of a task on a CPU core"
    rows = [
        bounded(
            "writing a task", writing, "s", peer=peer, target=task / RATES["a CPU core"] / 1e3, n=5
        )
    ]
    for what, rate in RATES.items():
        for workers in WORKERS:
            hours, model = simulate(images, workers, rate, settings, writing)
            row: Row = {"name": f"{workers} × {what}", "value": hours, "unit": "h", "n": images}
            row |= {"low": None, "high": None, "peer": "cost model", "peer_value": model}
            row |= {"ratio": model / hours, "target": TARGET}
            rows.append(row | {"holds": abs(model / hours - 1) <= TARGET})
    return rows


if __name__ == "__main__":
    main(__doc__, [suite])
