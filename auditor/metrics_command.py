"""The command ``auditor metrics``: every metric of map quality, with its source and its cost."""

from __future__ import annotations

import dataclasses
import itertools
import json
import textwrap
from collections.abc import Iterator

import click

from auditor.quality import METRICS, Metric


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print the list as JSON.")
def metrics(*, as_json: bool) -> int:
    """List the metrics of map quality, with formula, source and cost.

    Metrics under one heading are measured together. Cost is for each image: maps to explain beyond
    the one that is judged, and forward passes of the model.
    """
    if as_json:
        rows = [dataclasses.asdict(metric) for metric in METRICS.values()]
        click.echo(json.dumps(rows, indent=1, ensure_ascii=False))
    else:
        click.echo("\n".join(_lines()))
    return 0


def _lines() -> Iterator[str]:
    for group, members in itertools.groupby(METRICS.values(), key=lambda metric: metric.group):
        found = list(members)
        first = found[0]
        needs = f"; needs {first.needs}" if all(m.needs == first.needs != "" for m in found) else ""
        yield f"{group[0].upper()}{group[1:]} ({_cost(first)}{needs})"
        for metric in found:
            yield f"  {metric.name:28}{metric.unit}, {_direction(metric)}"
            own = f" Needs {metric.needs}." if metric.needs and not needs else ""
            words = f"{metric.formula}. {metric.source}.{own}"
            yield textwrap.fill(words, 80, initial_indent=" " * 6, subsequent_indent=" " * 6)
        yield ""


def _cost(metric: Metric) -> str:
    parts = [
        f"{number:,} {what}"
        for number, what in ((metric.maps, "maps"), (metric.forwards, "forward passes"))
        if number
    ]
    return " and ".join(parts) or "no cost"


def _direction(metric: Metric) -> str:
    return "a baseline" if metric.better == "neither" else f"{metric.better} is better"
