"""The audits of a folder on the terminal: σ and verdicts over time."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from auditor.history import Entry
from reports import sentences
from reports.formatting import visible

_COLORS = {"recommended": "green", "no_sigma": "red", "inconclusive": "yellow"}


def history_table(entries: Sequence[Entry]) -> RenderableType:
    """A row for each audit in a table of 80 columns, and a line for each that cannot be read."""
    grid = Table(width=80, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    grid.add_column("Date", no_wrap=True)
    for name in ("Run", "Model, SHA-256", "Profile", "Images", "Verdict, interval of σ"):
        grid.add_column(name, overflow="fold")
    lines = []
    for entry in entries:
        if entry.result is None:
            lines.append(Text(visible(entry.problem), style="yellow"))
            continue
        result, answer = entry.result, entry.result.recommendation
        cells = (
            result.created[:10],
            entry.run.name,
            f"{result.model.name} {result.model.sha256[:8]}",
            result.profile.name,
            f"{len(result.images.names):,}",
        )
        words = sentences.verdict(result)
        if answer.interval is not None:
            words += f" ({sentences.sigma_interval(result)})"
        verdict = Text(visible(words), style=_COLORS.get(answer.verdict, ""))
        grid.add_row(*(Text(visible(cell)) for cell in cells), verdict)
    return Group(grid, *lines)
