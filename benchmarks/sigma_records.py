"""Measure the full grid of σ once, for `benchmarks/sigma.py` to replay.

    python benchmarks/sigma_records.py FASHION_MNIST_FOLDER RUN_FOLDER

S2's network, trained on 12,000 images of Fashion-MNIST, and its first 64 test images that it
classifies correctly. An interrupted run goes on where it stopped.
"""

from __future__ import annotations

import argparse
import gzip
import json
import sys
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parent.parent))

import auditor
from auditor.assemble import gather, measurements
from auditor.settings import sigma_grid
from auditor.training.architectures import lenet

RECORDS = Path(__file__).with_name("sigma_records.json")
IMAGES, SAMPLES, BUDGET, K = 64, 50, 160, 20
GRID = sigma_grid(17, large=False)[:13]
TRAINED_ON, EPOCHS = 12_000, 2
ATTACKS = ("strongest", "random_signs", "transfer")
KEPT = {
    ("attack", "topk_intersection"),
    ("control", "topk_intersection"),
    ("smoothing", "label_kept"),
    ("smoothing", "norm_ratio"),
    ("smoothing", "normalized_fidelity_error"),
    ("smoothing", "self_overlap"),
}


def read(folder: Path, part: str) -> tuple[Tensor, Tensor]:
    """Pixels (n, 1, 28, 28) in [0, 1] and labels (n,) of ``train`` or ``t10k``."""
    with gzip.open(folder / f"{part}-images-idx3-ubyte.gz") as file:
        pixels = np.frombuffer(file.read(), np.uint8, offset=16).reshape(-1, 1, 28, 28)
    with gzip.open(folder / f"{part}-labels-idx1-ubyte.gz") as file:
        labels = np.frombuffer(file.read(), np.uint8, offset=8)
    return torch.tensor(pixels) / 255, torch.tensor(labels).long()


def train(x: Tensor, y: Tensor) -> nn.Module:
    """Adam, learning rate 0.001, batches of 32 (S2, appendix A)."""
    torch.manual_seed(0)
    model = lenet()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for _ in range(EPOCHS):
        for batch in torch.randperm(len(x)).split(32):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x[batch]), y[batch]).backward()
            optimizer.step()
    return model.eval()


def measure(data: Path, run: Path) -> None:
    """Audit at every σ of a fine grid and keep what a decision looks at."""
    x, y = read(data, "train")
    weights = run.with_suffix(".pt")
    if weights.is_file():
        model = lenet().eval()
        model.load_state_dict(torch.load(weights, weights_only=True))
    else:
        model = train(x[:TRAINED_ON], y[:TRAINED_ON])
        torch.save(model.state_dict(), weights)
    x, y = read(data, "t10k")
    with torch.no_grad():
        right = (model(x[:200]).argmax(dim=1) == y[:200]).nonzero().flatten()[:IMAGES]
    auditor.audit(
        auditor.from_network(model, input_shape=(1, 28, 28)),
        auditor.from_arrays(x[right], y[right]),
        effort="quick",
        sigmas=GRID,
        epsilons=(4.0,),
        samples=SAMPLES,
        budget=BUDGET,
        run=run,
        resume=(run / "run.json").is_file(),
    )
    collect(run)


def collect(run: Path) -> None:
    """Keep what a decision looks at of a run's tasks."""
    tasks = []
    for index in range(len(GRID)):
        for part, path in enumerate(sorted((run / "tasks").glob(f"sigma-{index}-*.npz"))):
            with np.load(path) as arrays:
                tasks.append((range(32 * part, 32 * part + 32), dict(arrays)))
    found = measurements(
        gather(tasks, IMAGES),
        misclassified=np.zeros(IMAGES),
        k=K,
        input_shape=(1, 28, 28),
        seed=0,
    )
    kept = [
        {
            "probe": m.probe,
            "metric": m.metric,
            "unit": m.unit,
            "attack": m.attack,
            "partner": m.partner,
            "sigma": m.sigma,
            "epsilon": m.epsilon,
            "values": [None if v is None else round(v, 5) for v in m.values],
        }
        for m in found
        if (m.probe, m.metric) in KEPT and m.attack in (None, *ATTACKS)
    ]
    record = {
        "samples": SAMPLES,
        "sigmas": GRID,
        "chance": K / 784,
        "gradients": _gradients(run),
        "measurements": kept,
    }
    RECORDS.write_text(json.dumps(record))


def _gradients(run: Path) -> list[dict[str, float]]:
    """Gradients by σ and probe, of one image."""
    rows = []
    for index in range(len(GRID)):
        spent: dict[str, float] = {}
        for path in sorted((run / "tasks").glob(f"sigma-{index}-*.npz")):
            with np.load(path) as arrays:
                for name in arrays.files:
                    if name.startswith("meter|gradients|"):
                        probe = name.rpartition("|")[2]
                        spent[probe] = spent.get(probe, 0.0) + float(arrays[name]) / IMAGES
        rows.append(spent)
    return rows


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, help="folder with the four .gz files")
    parser.add_argument("run", type=Path, help="where the audit goes")
    arguments = parser.parse_args()
    measure(arguments.data, arguments.run)
