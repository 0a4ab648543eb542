"""Our top-k attack against the published rule: strength and cost, in one run.

    python benchmarks/attacks.py [--quick] [--json FILE]

The network of the demo (S2's CNN, 2,000 MNIST digits), 64 held-out digits, k = 20, the plain
gradient, ε = 2, 4, 8, 16 (/255). Both start from random points in the same ball and keep the label.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parent.parent))

from attacks import TopKSearch, overlap, random_signs, top_set
from auditor.statistics import bootstrap_estimate
from benchmarks.published import explained, published_topk
from examples.mnist import TRAINED_ON, digits, train

IMAGES, K = 64, 20


def subjects() -> tuple[nn.Module, Tensor, Tensor]:
    """The trained network, 64 held-out digits it gets right, and their classes."""
    x, y = digits()
    network = train(x[:TRAINED_ON], y[:TRAINED_ON], seed=0, name="model").requires_grad_(False)
    held_out, labels = x[2 * TRAINED_ON :], y[2 * TRAINED_ON :]
    right = network(held_out).argmax(dim=1) == labels
    return network, held_out[right][:IMAGES], labels[right][:IMAGES]


def generators(seed: int) -> list[torch.Generator]:
    """One for each image."""
    return [torch.Generator().manual_seed(seed * 1000 + i) for i in range(IMAGES)]


def timed(work: Callable[[], Tensor]) -> tuple[Tensor, float]:
    """Result and seconds."""
    start = time.perf_counter()
    return work(), time.perf_counter() - start


def compare(network: nn.Module, x: Tensor, target: Tensor, epsilon: int) -> list[dict[str, object]]:
    """Records of one ε: our overlap against the published rule's and against random signs."""
    radius = torch.full((IMAGES,), epsilon / 255)
    clean = top_set(explained(network, x, target)[0].detach(), K)

    def explain(x: Tensor, *, rows: Tensor, draw: int) -> tuple[Tensor, Tensor]:
        maps, logits = explained(network, x, target[rows])
        return maps.detach(), logits

    def margin(x: Tensor, *, rows: Tensor) -> Tensor:
        leaf = x.detach().requires_grad_()
        logits, index = network(leaf), target[rows][:, None]
        rivals = logits.scatter(1, index, -torch.inf).amax(dim=1)
        gap = (logits.gather(1, index)[:, 0] - rivals).sum()
        return torch.autograd.grad(gap, leaf)[0]

    def ours() -> Tensor:
        found = TopKSearch(steps=50).run(
            explain,
            margin,
            x,
            target=target,
            clean=clean,
            epsilon=radius,
            generators=generators(1),
        )
        return found.overlap

    def published() -> Tensor:
        return published_topk(
            network, x, target=target, clean=clean, epsilon=radius, generators=generators(1)
        )

    mine, my_seconds = timed(ours)
    peer, peer_seconds = timed(published)
    signs, logits = explained(network, x + random_signs(x, radius, generators(2)), target)
    control = overlap(signs.detach(), clean)[logits.argmax(dim=1) == target]
    values = [None if v != v else float(v) for v in mine.tolist()]
    interval = bootstrap_estimate(values, seed=0)
    assert interval is not None
    base = {
        "value": interval.mean,
        "unit": "top-20 intersection",
        "low": interval.low,
        "high": interval.high,
        "n": interval.n,
    }
    rows: list[dict[str, object]] = []
    against = {
        "published rule": (float(peer.nanmean()), 0.85),
        "random signs": (float(control.mean()), 0.75),
    }
    for name, (value, bound) in against.items():
        target_ratio = bound if epsilon == 8 else None
        ratio = interval.mean / value
        rows.append(
            {
                "name": f"overlap after the attack, ε = {epsilon}/255",
                **base,
                "peer": name,
                "peer_value": value,
                "ratio": ratio,
                "target": target_ratio,
                "holds": None if target_ratio is None else ratio <= target_ratio,
            }
        )
    rows.append(
        {
            "name": f"time of 50 steps, ε = {epsilon}/255",
            "value": my_seconds,
            "unit": "s",
            "low": None,
            "high": None,
            "n": IMAGES,
            "peer": "published rule",
            "peer_value": peer_seconds,
            "ratio": my_seconds / peer_seconds,
            "target": None,
            "holds": None,
        }
    )
    return rows


def main() -> None:
    """Run, print a table, and write the records."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="ε = 8 only")
    parser.add_argument("--json", type=Path, help="file for the records")
    options = parser.parse_args()
    torch.set_flush_denormal(True)  # softplus makes denormals: the peer is slower without
    network, x, target = subjects()
    records = [
        record
        for epsilon in ((8,) if options.quick else (2, 4, 8, 16))
        for record in compare(network, x, target, epsilon)
    ]
    table = Table("what", "ours", "peer", "value", "ratio", "target", "holds")
    for r in records:
        holds = {True: "yes", False: "NO", None: ""}[r["holds"]]  # type: ignore[index]
        wanted = "" if r["target"] is None else f"≤ {r['target']}"
        cells = (f"{r['value']:.3f}", str(r["peer"]), f"{r['peer_value']:.3f}", f"{r['ratio']:.2f}")
        table.add_row(str(r["name"]), *cells, wanted, holds)
    Console().print(table)
    times = [r["ratio"] for r in records if r["unit"] == "s"]
    print(f"median time ratio {statistics.median(map(float, times)):.2f}")  # type: ignore[arg-type]
    if options.json:
        options.json.write_text(json.dumps(records, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
