"""Our attacks against the published rule: strength and cost, in one run.

    python benchmarks/attacks.py [--quick] [--json FILE]

The network of the demo (S2's CNN, 2,000 MNIST digits), 64 held-out digits, k = 20. Both sides start
from random points in the same ball and keep the label. Against smoothed maps both draw fresh noise
at each step, and are scored with noise that neither has seen.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parent.parent))

from attacks import (
    Boundary,
    Clean,
    Manipulation,
    Mass,
    MassCenter,
    Objective,
    Search,
    as_target_map,
    overlap,
    random_signs,
)
from auditor.attributions import FRESH, SEARCH, SELECT, SHOWN
from auditor.evaluation import Evaluator
from auditor.probes.subject import Subject
from auditor.statistics import bootstrap_estimate
from benchmarks.published import Published
from examples.mnist import TRAINED_ON, digits, train

IMAGES, K, STEPS = 64, 20, 50
Row = dict[str, Any]


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


class Bench:
    """Explains the same images for both sides."""

    def __init__(self, network: nn.Module, x: Tensor, target: Tensor) -> None:
        self.network, self.x, self.target = network, x, target
        self.evaluator = Evaluator(model=network, batch=256)
        self.subject = Subject(x=x, target=target, images=tuple(range(len(x))), k=K, seed=0)

    def maps(self, x: Tensor, *, sigma: float = 0.0, stream: int = SHOWN) -> Tensor:
        """Maps at perturbed images, 50 draws if smoothed."""
        explain = self.subject.explainer(self.evaluator, sigma=sigma, samples=50, stream=stream)
        return explain(x, rows=torch.arange(len(x)), draw=0)[0]

    def ours(
        self, objective: Objective, clean: Clean, epsilon: float, sigma: float = 0.0
    ) -> Tensor:
        """Our perturbation, in the settings of a quick audit."""

        def margin(x: Tensor, *, rows: Tensor) -> Tensor:
            return self.evaluator.margin_gradients(x, self.target[rows])

        def explainer(samples: int, stream: int) -> Any:
            return self.subject.explainer(
                self.evaluator, sigma=sigma, samples=samples, stream=stream
            )

        search = Search(
            objective=objective,
            steps=STEPS if sigma == 0 else 20,
            longest=max(1, 10 * sigma),
            shortest=max(0.02, sigma / 2),
        )
        return search.run(
            explainer(4, SEARCH),
            margin,
            self.x,
            target=self.target,
            clean=clean,
            epsilon=torch.full((len(self.x),), epsilon / 255),
            generators=generators(1),
            select=explainer(16, SELECT) if sigma else None,
        ).delta

    def published(
        self, objective: Objective, clean: Clean, epsilon: float, sigma: float = 0.0
    ) -> Tensor:
        """The published rule's perturbation, as many steps and draws a step."""
        rule = Published(
            objective=objective,
            steps=STEPS if sigma == 0 else 20,
            sigma=sigma,
            samples=4 if sigma else 1,
        )
        delta, _ = rule.run(
            self.network,
            self.x,
            target=self.target,
            clean=clean,
            epsilon=torch.full((len(self.x),), epsilon / 255),
            generators=generators(1),
        )
        return delta


def timed(work: Callable[[], Tensor]) -> tuple[Tensor, float]:
    """Result and seconds."""
    start = time.perf_counter()
    return work(), time.perf_counter() - start


def row(
    name: str,
    unit: str,
    ours: Sequence[float],
    peer: str,
    theirs: Sequence[float],
    *,
    target: float | None = None,
    above: bool = False,
) -> Row:
    """A record of two means over images; ``target`` bounds their ratio, from below if ``above``."""
    interval = bootstrap_estimate(ours, seed=0)
    assert interval is not None
    value = sum(theirs) / len(theirs)
    ratio = interval.mean / value
    holds = None if target is None else bool(ratio >= target if above else ratio <= target)
    return {
        "name": name,
        "value": interval.mean,
        "unit": unit,
        "low": interval.low,
        "high": interval.high,
        "n": interval.n,
        "peer": peer,
        "peer_value": value,
        "ratio": ratio,
        "target": target,
        "holds": holds,
    }


def compare(
    network: nn.Module, x: Tensor, target: Tensor, epsilon: int, *, bound: float | None
) -> list[Row]:
    """Top-k overlap of the plain map: ours against the published rule and random signs."""
    bench = Bench(network, x, target)
    clean = Clean(maps=bench.maps(x), k=K)
    mine, seconds = timed(lambda: bench.ours(Boundary(), clean, epsilon))
    peer, peer_seconds = timed(lambda: bench.published(Mass(), clean, epsilon))
    radius = torch.full((len(x),), epsilon / 255)
    found = {
        "ours": overlap(bench.maps(x + mine), clean.top),
        "published rule": overlap(bench.maps(x + peer), clean.top),
        "random signs": overlap(bench.maps(x + random_signs(x, radius, generators(2))), clean.top),
    }
    name = f"overlap after the attack, ε = {epsilon}/255"
    ours = found["ours"].tolist()
    rows = [
        row(name, "ratio", ours, "published rule", found["published rule"].tolist(), target=bound),
        row(
            name,
            "ratio",
            ours,
            "random signs",
            found["random signs"].tolist(),
            target=0.75 if epsilon == 8 else None,
        ),
    ]
    cost = {**rows[0], "name": f"time of {STEPS} steps, ε = {epsilon}/255", "unit": "s"}
    cost |= {"value": seconds, "peer_value": peer_seconds, "ratio": seconds / peer_seconds}
    return [*rows, cost | {"low": None, "high": None, "target": None, "holds": None}]


def compare_objectives(network: nn.Module, x: Tensor, target: Tensor) -> list[Row]:
    """Mass-center shift and cosine to a target map at ε = 8/255."""
    bench = Bench(network, x, target)
    maps = bench.maps(x)
    clean = Clean(maps=maps, k=K)
    wanted = as_target_map(maps.abs().sum(dim=1).roll(1, dims=0))
    rows = []
    for name, unit, objective, bound in (
        ("center shift", "pixels", MassCenter(), 1.3),
        ("cosine to another image's map", "ratio", Manipulation(target=wanted), 1.0),
    ):
        reached = [
            -objective.score(bench.maps(x + attack(objective, clean, 8)), clean)
            for attack in (bench.ours, bench.published)
        ]
        mine, peer = (scores.tolist() for scores in reached)
        rows.append(
            row(f"{name}, ε = 8/255", unit, mine, "published rule", peer, target=bound, above=True)
        )
    return rows


def compare_smoothed(network: nn.Module, x: Tensor, target: Tensor, sigma: float) -> Row:
    """Drop of the overlap below the self-overlap floor under an adaptive attack, ε = 8/255."""
    bench = Bench(network, x, target)
    clean = Clean(maps=bench.maps(x, sigma=sigma), k=K)
    floor = overlap(bench.maps(x, sigma=sigma, stream=FRESH), clean.top)

    def drop(delta: Tensor) -> list[float]:
        moved = bench.maps(x + delta, sigma=sigma, stream=FRESH)
        return (floor - overlap(moved, clean.top)).tolist()

    mine = drop(bench.ours(Boundary(), clean, 8, sigma))
    peer = drop(bench.published(Mass(), clean, 8, sigma))
    name = f"drop below the floor {floor.mean():.3f}, σ = {sigma:g}, ε = 8/255"
    return row(name, "ratio", mine, "published rule", peer, target=3.0, above=True)


def main() -> None:
    """Run, print a table, and write the records."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="ε = 8 and σ = 0.1 only")
    parser.add_argument("--json", type=Path, help="file for the records")
    options = parser.parse_args()
    torch.set_flush_denormal(True)  # softplus makes denormals: the peer is slower without
    subject = subjects()
    bounds = {8: 0.6} if options.quick else {2: 0.87, 4: 0.8, 8: 0.6, 16: 0.5}
    records = [r for e, bound in bounds.items() for r in compare(*subject, e, bound=bound)]
    records += compare_objectives(*subject)
    records += [compare_smoothed(*subject, s) for s in ((0.1,) if options.quick else (0.1, 0.2))]
    table = Table("what", "ours", "peer", "value", "ratio", "target", "holds")
    for r in records:
        holds = {True: "yes", False: "NO", None: ""}[r["holds"]]
        wanted = "" if r["target"] is None else f"{r['target']:g}"
        numbers = f"{r['value']:.3f}", r["peer"], f"{r['peer_value']:.3f}", f"{r['ratio']:.2f}"
        table.add_row(r["name"], *numbers, wanted, holds)
    Console().print(table)
    if options.json:
        options.json.write_text(json.dumps(records, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
