"""What a second worker buys, and what more images cost in memory.

    python benchmarks/scaling.py [--quick] [--json FILE]

Two workers of one thread each against one, in processes and on Ray, from the moment the first has
loaded the models: 16 photographs with EfficientNet-Lite0, two in a task. Peak memory of
``auditor audit`` for 4,096 synthetic pictures of 32×32 pixels against that for 64. ``--quick``
takes four photographs with a quarter of the effort, and 1,024 pictures. Timings need a machine on
which nothing else runs.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image

sys.path.insert(0, str(Path(__file__).parent.parent))

from auditor.executors import Executor, Processes
from auditor.executors.on_ray import Ray
from benchmarks.overhead import audited, of_photographs
from benchmarks.timing import Row, bounded, main

ROOT = Path(__file__).parent.parent
PROCESSES, ON_RAY, MEMORY = 1.8, 1.7, 1.1

NETWORK = """
from torch import nn

def make():
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2), nn.ReLU(), nn.AdaptiveAvgPool2d(4), nn.Flatten(),
        nn.Linear(128, 10),
    )
"""


def after_start(executor: Executor, quick: bool) -> float:
    """Seconds from the end of the first task, when workers have loaded the models, to the last."""
    _, events = audited(of_photographs(quick, chunk=1 if quick else 2), executor)
    return float(events[-1]["elapsed"] - events[1]["elapsed"])


def workers(quick: bool) -> list[Row]:
    """Processes and Ray."""
    torch.set_num_threads(1)
    kinds: list[tuple[str, Callable[[int], Executor], float]] = [
        ("processes", Processes, PROCESSES),
        ("ray", Ray, ON_RAY),
    ]
    rows = []
    for name, make, target in kinds:
        one, two = after_start(make(1), quick), after_start(make(2), quick)
        row: Row = {"name": f"two workers, {name}", "value": two, "unit": "s", "n": 1}
        row |= {"low": None, "high": None, "peer": "one worker", "peer_value": one}
        rows.append(row | {"ratio": one / two, "target": target, "holds": one / two >= target})
    return rows


def peak(images: int) -> float:
    """Peak memory in MiB of the command for so many pictures, which lie on disk."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        (place / "net.py").write_text(NETWORK)
        (place / "pictures").mkdir()
        random = np.random.default_rng(0)
        for number in range(images):
            pixels = random.integers(0, 256, (32, 32, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(place / "pictures" / f"{number:05}.png")
        line = [sys.executable, "-m", "auditor.cli", "audit", "--model", f"{place}/net.py:make"]
        line += ["--input-size", "32", "--images", f"{place}/pictures", "--run", f"{place}/run"]
        line += ["--effort", "glance", "--sigma", "0.1", "--samples", "4", "--quiet"]
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        number = os.spawnve(os.P_NOWAIT, sys.executable, [*line, "--exit-zero"], environment)
        _, code, used = os.wait4(number, 0)
        if code:
            raise SystemExit(f"the audit of {images} pictures ended with {code}")
        return used.ru_maxrss / 1024


def memory(quick: bool) -> list[Row]:
    """Many pictures against few."""
    many = 1024 if quick else 4096
    few, more = peak(64), peak(many)
    name = f"peak memory, {many:,} pictures"
    row = bounded(name, more, "MiB", peer="1.1 × that of 64", target=MEMORY * few, n=1)
    return [row | {"peer_value": MEMORY * few, "ratio": MEMORY * few / more}]


if __name__ == "__main__":
    main(__doc__, [memory, workers])
