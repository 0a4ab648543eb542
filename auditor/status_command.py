"""``auditor status``."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from auditor.labels import printable
from auditor.status import Status
from auditor.status import status as read_status
from auditor.store import METHODS


@click.command()
@click.argument("run", type=Path)
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
def status(*, run: Path, as_json: bool) -> int:
    """Tell how far RUN is, and how long it will take, while it runs or after."""
    methods = run / METHODS
    runs = sorted(methods.iterdir()) if methods.is_dir() else [run]
    found = {each: read_status(each) for each in runs}
    if as_json:
        told = {each.name: dataclasses.asdict(state) for each, state in found.items()}
        click.echo(json.dumps(told if methods.is_dir() else told[run.name], indent=1))
        return 0
    console = Console(highlight=False, markup=False)
    for each, state in found.items():
        console.print(_table(state, str(each)))
        for line in _lines(state):
            console.print(line)
    return 0


def _table(found: Status, run: str) -> Table:
    table = Table(title=Text(printable(f"{run}: {found.state}")), width=80)
    table.add_column("Tasks")
    for name in ("Done", "Of", "Gradients", "Forward passes", "Seconds each"):
        table.add_column(name, justify="right")
    for kind in found.kinds:
        each = f"{kind.seconds / kind.done:.2f}" if kind.done else "–"
        counts = (kind.done, kind.tasks, kind.gradients, kind.forwards)
        table.add_row(Text(printable(kind.name)), *(f"{count:,}" for count in counts), each)
    return table


def _lines(found: Status) -> list[str]:
    lines = []
    if found.holder is not None:
        workers = f", {found.workers} workers" if found.workers > 1 else ""
        lines.append(f"At work: {printable(found.holder.words)}{workers}.")
    left = "" if found.remaining is None else f", about {_duration(found.remaining)} left"
    lines.append(f"Elapsed: {_duration(found.elapsed)}{'' if found.state == 'finished' else left}.")
    if found.lost_workers:
        lines.append(f"Worker processes lost and replaced: {found.lost_workers}.")
    if found.state == "stopped":
        lines.append(f"Stopped: {printable(found.reason) or 'killed'}. --resume goes on from here.")
    return lines


def _duration(seconds: float) -> str:
    """Hours, minutes and seconds, as 1:02:03.

    >>> _duration(3723.4)
    '1:02:03'
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"
