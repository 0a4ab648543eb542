"""Wall time of whole audits beside what their model evaluations alone would take.

    python benchmarks/overhead.py [--quick] [--json FILE]

64 MNIST digits with the network of the demo, and 16 photographs (eight and their mirror images)
with EfficientNet-Lite0, in one process and one thread. The evaluations of an audit, a forward pass
counting a third of a gradient, are multiplied by the best time of one gradient that any batch
reaches. A table shows what each kind of task took beside that. From the log's first tenth alone
the time left is estimated as ``auditor status`` does, and compared with what it was. ``--quick``
takes a quarter of the images and of the effort. Timings need a machine on which nothing else runs.
"""

from __future__ import annotations

import dataclasses
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parent.parent))

import auditor
from auditor.cost import FORWARD
from auditor.engine import execute
from auditor.evaluation import Evaluator
from auditor.executors import Executor, Here
from auditor.expected import kind_of
from auditor.plan import Plan, make_plan
from auditor.status import status
from auditor.store import RunFolder
from benchmarks.attacks import photographs, subjects
from benchmarks.timing import Row, bounded, main

TARGET = 1.15
OFF = 0.3


def of_digits(quick: bool) -> Plan:
    """64 digits, at three σ."""
    network, x, _ = subjects()
    model = auditor.from_network(network, input_shape=(1, 28, 28), mean=[0.0], std=[1.0])
    images = auditor.from_arrays(x[:16] if quick else x[:64])
    budget = 120 if quick else 240
    return make_plan(model, images, effort="quick", sigmas=(0.05, 0.2), budget=budget)


def of_photographs(quick: bool, *, chunk: int = 4) -> Plan:
    """16 photographs, at two σ; ``chunk`` of them in a task."""
    model, x, _ = photographs()
    images = auditor.from_arrays(x[:4] if quick else torch.cat([x, x.flip(3)]))
    few: dict[str, Any] = {"samples": 6, "budget": 60} if quick else {"samples": 24, "budget": 90}
    plan = make_plan(model, images, effort="quick", sigmas=(0.02,), epsilons=(0.5,), **few)
    settings = dataclasses.replace(plan.settings, chunk=chunk, quality_images=1 if quick else 4)
    return dataclasses.replace(plan, settings=settings)


def best_gradient(plan: Plan, repeats: int = 5) -> float:
    """Seconds of one image's gradient in the best of several batches, the fastest repetition."""
    x = plan.images.batch(range(min(64, len(plan.images.names))))
    best = float("inf")
    for batch in sorted({1, 4, min(64, plan.batch), plan.batch}):
        part = x.repeat(-(-batch // len(x)), 1, 1, 1)[:batch]
        target = torch.zeros(batch, dtype=torch.long)
        evaluator = Evaluator(model=plan.classifier, batch=batch, device=plan.device)
        for number in range(repeats + 1):
            start = time.perf_counter()
            evaluator.gradients(part, target)
            if number:
                best = min(best, (time.perf_counter() - start) / batch)
    return best


def audited(plan: Plan, executor: Executor) -> tuple[float, list[dict[str, Any]]]:
    """Wall time of an audit, and the events of its log."""
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        execute(plan, RunFolder(Path(folder)), command="", executor=executor)
        return time.perf_counter() - start, RunFolder(Path(folder)).events()


def estimate_error(events: list[dict[str, Any]]) -> float:
    """How far off, as a share, the time left is that the first tenth of a log foretells."""
    whole = events[-1]["elapsed"]
    ends = [event.get("elapsed", 0.0) for event in events]
    first = next(place for place, end in enumerate(ends) if end >= whole / 10)
    with tempfile.TemporaryDirectory() as place:
        folder = RunFolder(Path(place))
        (folder.path / "run.json").write_text("{}")
        (folder.path / "tasks").mkdir()
        for event in events[: first + 1]:
            folder.log(event["event"], **{k: v for k, v in event.items() if k != "event"})
            if event["event"] == "task":
                (folder.path / "tasks" / f"{event['task']}.npz").touch()
        foretold = status(folder.path).remaining
    left = whole - ends[first]
    return abs((foretold or 0.0) - left) / left


def overhead(name: str, plan: Plan) -> list[Row]:
    """The records of one audit, after a table of where its time went."""
    gradient = best_gradient(plan)
    wall, events = audited(plan, Here())
    gradient = min(gradient, best_gradient(plan))
    tasks = [event for event in events if event["event"] == "task"]
    kinds: dict[str, list[float]] = {}
    for task in tasks:
        took = kinds.setdefault(kind_of(task["task"]), [0.0, 0.0])
        took[0] += task["seconds"]
        took[1] += gradient * (task["gradients"] + FORWARD * task["forwards"])
    table = Table("tasks", "seconds", "evaluations alone", "ratio", title=f"{name}: {wall:.1f} s")
    for kind, (seconds, alone) in kinds.items():
        ratio = f"{seconds / alone:.2f}" if alone else ""
        table.add_row(kind, f"{seconds:.2f}", f"{alone:.2f}", ratio)
    rest = wall - sum(seconds for seconds, _ in kinds.values())
    table.add_row("files, statistics, decision", f"{rest:.2f}", "", "")
    Console().print(table)
    alone = sum(part for _, part in kinds.values())
    row = bounded(
        f"wall time, {name}", wall, "s", peer="1.15 × evaluations", target=TARGET * alone, n=1
    )
    row |= {"peer_value": TARGET * alone, "ratio": TARGET * alone / wall}
    what = f"time left after a tenth, {name}: off by"
    return [row, bounded(what, estimate_error(events), "share", peer="", target=OFF, n=len(tasks))]


def suite(quick: bool) -> list[Row]:
    """Both audits, one thread."""
    torch.set_num_threads(1)
    return overhead("digits", of_digits(quick)) + overhead("photographs", of_photographs(quick))


if __name__ == "__main__":
    main(__doc__, [suite])
