"""Racing against the full grid of σ: what it saves, and what it costs the decision.

    python benchmarks/sigma.py [--quick] [--json FILE]

Replays records of S2's network on 64 Fashion-MNIST test images, measured once at 13 values of σ by
`benchmarks/sigma_records.py` (`sigma_records.json`). In each repetition the images are split anew
into screening and confirmation halves, in a new order. Both sides decide by the same rule.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parent.parent))

from auditor.evidence import Evidence
from auditor.racing import race
from auditor.results import Measurement
from auditor.sigma import recommend
from profiles import Profile, load_profile

RECORDS = Path(__file__).with_name("sigma_records.json")
SAVING, WITHIN = 3.0, 0.95
KEYS = (
    *("name", "value", "unit", "low", "high", "n"),
    *("peer", "peer_value", "ratio", "target", "holds"),
)
MAPS = ("smoothing", "control", "twin")


@dataclass
class Replay:
    """Records that are uncovered as they are asked for, and what measuring them would take."""

    records: Mapping[str, Any]
    seen: dict[tuple[str, float], set[int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.all = tuple(
            Measurement(
                **{k: v for k, v in m.items() if k != "values"},
                values=tuple(m["values"]),
                estimate=None,
            )
            for m in self.records["measurements"]
        )
        self.grid = tuple(self.records["sigmas"])
        self.images = len(self.all[0].values)

    def uncover(self, stage: str, sigma: float, rows: Sequence[int]) -> None:
        """Measure some images at a σ."""
        self.seen.setdefault((stage, sigma), set()).update(rows)

    def known(self) -> tuple[Measurement, ...]:
        """All that was uncovered."""
        found = []
        for m in self.all:
            stage = "attack" if m.probe == "attack" else "maps"
            rows = self.seen.get((stage, m.sigma or 0.0), set())
            if rows:
                values = tuple(v if i in rows else None for i, v in enumerate(m.values))
                found.append(Measurement(**{**vars(m), "values": values}))
        return tuple(found)

    def gradients(self) -> float:
        """What it took."""
        total = 0.0
        for (stage, sigma), rows in self.seen.items():
            spent = self.records["gradients"][self.grid.index(sigma)]
            total += len(rows) * sum(
                cost for probe, cost in spent.items() if (probe in MAPS) == (stage == "maps")
            )
        return total


def decide(
    replay: Replay, profile: Profile, sigmas: Sequence[float], halves: Any
) -> tuple[str, float | None]:
    """Verdict and σ from what was uncovered; the attack counts as converged."""
    found = replay.known()
    answer = recommend(
        measurements=found,
        sigmas=sigmas,
        samples=replay.records["samples"],
        profile=profile,
        screen=halves[0],
        confirm=halves[1],
        chance=replay.records["chance"],
        std=(),
        seed=0,
        input_shape=(1, 28, 28),
        convergence={
            (m.sigma or 0.0, m.epsilon or 0.0): m.values for m in found if m.attack == "strongest"
        },
    )
    return answer.verdict, answer.considered


def repetition(records: Mapping[str, Any], profile: Profile, seed: int) -> dict[str, Any]:
    """Both sides on one split."""
    full, raced = Replay(records), Replay(records)
    order = [int(i) for i in np.random.default_rng(seed).permutation(full.images)]
    halves = order[: len(order) // 2], order[len(order) // 2 :]
    for stage in ("maps", "attack"):
        for sigma in full.grid:
            full.uncover(stage, sigma, order)

    def look(stage: str, sigma: float, rows: tuple[int, ...]) -> Evidence:
        raced.uncover(stage, sigma, rows)
        return Evidence(
            measurements=raced.known(),
            screen=rows,
            confirm=(),
            height=28,
            width=28,
            chance=records["chance"],
            seed=0,
        )

    ended = race(look, grid=full.grid, screen=halves[0], profile=profile)
    chosen = None
    if ended.finalists:
        # The choice is made on the screening half; what it chose is then confirmed.
        _, first = decide(raced, profile, ended.finalists, halves)
        for stage in ("maps", "attack"):
            raced.uncover(stage, first or 0.0, halves[1])
        chosen = _answer(decide(raced, profile, ended.finalists, halves))
    best = _answer(decide(full, profile, full.grid, halves))
    return {
        "full": best,
        "raced": chosen,
        "ratio": full.gradients() / raced.gradients(),
        "regret": _regret(full, profile, best, chosen),
    }


def _answer(decided: tuple[str, float | None]) -> float | None:
    verdict, sigma = decided
    return None if verdict == "no_sigma" else sigma


def _regret(replay: Replay, profile: Profile, best: float | None, chosen: float | None) -> float:
    """By how much the raced σ's objective is worse, over all images; infinite if one has none."""
    if best == chosen:
        return 0.0
    if best is None or chosen is None:
        return float("inf")
    sign = 1.0 if profile.objective.direction == "minimize" else -1.0
    means = [
        sign * float(np.mean([v for v in m.values if v is not None]))
        for sigma in (best, chosen)
        for m in replay.all
        if (m.probe, m.metric, m.attack, m.sigma)
        == (profile.objective.probe, profile.objective.metric, profile.objective.attack, sigma)
    ]
    return means[1] - means[0]


def run(profile: Profile, repetitions: int) -> list[dict[str, Any]]:
    """The rows of the table."""
    records = json.loads(RECORDS.read_text(encoding="utf-8"))
    found = [repetition(records, profile, seed) for seed in range(repetitions)]
    ratios = sorted(r["ratio"] for r in found)
    within = sum(r["regret"] <= profile.objective.indifference for r in found) / repetitions
    same = sum(r["full"] == r["raced"] for r in found) / repetitions
    tenth = ratios[repetitions // 10]
    common = {"n": repetitions, "peer": "full grid"}
    return [
        {
            **common,
            "name": "gradients, full grid over race (median)",
            "value": ratios[repetitions // 2],
            "low": tenth,
            "high": ratios[-repetitions // 10],
            "unit": "times",
            "peer_value": 1.0,
            "ratio": ratios[repetitions // 2],
            "target": f">= {SAVING:g}",
            "holds": ratios[repetitions // 2] >= SAVING,
        },
        {
            **common,
            "name": f"repetitions with regret within {profile.objective.indifference:g}",
            "value": within,
            "unit": "ratio",
            "target": f">= {WITHIN:g}",
            "holds": within >= WITHIN,
        },
        {**common, "name": "repetitions with the same answer", "value": same, "unit": "ratio"},
    ]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="10 repetitions instead of 100")
    parser.add_argument("--json", type=Path, help="write the rows to this file")
    arguments = parser.parse_args()
    rows = run(load_profile("compliance"), 10 if arguments.quick else 100)
    full = [{key: row.get(key) for key in KEYS} for row in rows]
    table = Table("", "value", "10% to 90%", "target", "holds")
    for row in full:
        spread = f"{row['low']:.3g} to {row['high']:.3g}" if row["low"] is not None else ""
        holds = {True: "yes", False: "no", None: ""}[row["holds"]]
        table.add_row(row["name"], f"{row['value']:.3g}", spread, row["target"] or "", holds)
    Console().print(table)
    if arguments.json:
        arguments.json.write_text(json.dumps(full, indent=1))


if __name__ == "__main__":
    main()
