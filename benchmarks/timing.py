"""What benchmarks of speed share: alternating repetitions, records, a table."""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

Row = dict[str, Any]
Suite = Callable[[bool], list[Row]]


def race(
    name: str,
    ours: Callable[[], object],
    peer: str,
    theirs: Callable[[], object],
    *,
    target: float,
    repeats: int,
    per: float = 1.0,
    warm: bool = True,
) -> Row:
    """Seconds of both sides in turn, each divided by ``per``; the ratio is of their medians.

    ``low`` and ``high`` are our fastest and slowest repetition. ``holds`` if we are at least
    ``target`` times as fast.
    """
    mine, peers = [], []
    for number in range(repeats + warm):
        for work, seconds in ((ours, mine), (theirs, peers)):
            begin = time.perf_counter()
            work()
            if number >= warm:
                seconds.append((time.perf_counter() - begin) / per)
    value, peer_value = statistics.median(mine), statistics.median(peers)
    return {
        "name": name,
        "value": value,
        "unit": "s",
        "low": min(mine),
        "high": max(mine),
        "n": repeats,
        "peer": peer,
        "peer_value": peer_value,
        "ratio": peer_value / value,
        "target": target,
        "holds": peer_value / value >= target,
    }


def bounded(name: str, value: float, unit: str, *, peer: str, target: float, n: int) -> Row:
    """A record of one number that must not exceed its target."""
    keys = ("low", "high", "peer_value", "ratio")
    found = {"name": name, "value": value, "unit": unit, "n": n, "peer": peer, "target": target}
    return found | dict.fromkeys(keys) | {"holds": value <= target}


def main(description: str | None, suites: Sequence[Suite]) -> None:
    """Run the suites, print a table, and write the records."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="fewer images and repetitions")
    parser.add_argument("--json", type=Path, help="file for the records")
    options = parser.parse_args()
    records = [record for suite in suites for record in suite(options.quick)]
    table = Table("what", "ours", "unit", "peer", "theirs", "ratio", "target", "holds")
    for r in records:
        cells = ["" if r[k] is None else f"{r[k]:.3g}" for k in ("peer_value", "ratio", "target")]
        holds = "yes" if r["holds"] else "NO"
        table.add_row(r["name"], f"{r['value']:.3g}", r["unit"], r["peer"], *cells, holds)
    Console().print(table)
    if options.json:
        options.json.write_text(json.dumps(records, indent=1), encoding="utf-8")
