"""What an audit will cost, as the terminal shows it before the audit starts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.table import Table

from reports.formatting import visible
from reports.summary import WIDTH


def cost_table(
    *,
    evaluations: Mapping[str, int],
    minutes: float,
    memory_mib: float,
    images: int,
    notes: Sequence[str],
) -> Table:
    """Model evaluations by probe, minutes and memory (MiB), in a table that fits 80 columns.

    ``notes`` are the remarks of the preflight.
    """
    table = Table(
        title=f"This audit of {images:,} images will take", width=WIDTH, show_header=False
    )
    table.add_column(ratio=3)
    table.add_column(ratio=5, overflow="fold")
    for probe, count in evaluations.items():
        table.add_row("Evaluations: " + probe.replace("_", " "), f"{count:,}")
    table.add_section()
    table.add_row("Time on this machine", _duration(minutes))
    table.add_row("Memory", f"about {max(memory_mib, 1):,.0f} MiB")
    if notes:
        table.add_section()
    for note in dict.fromkeys(notes):
        table.add_row("Note", visible(note))
    return table


def check_table(name: str, checks: Sequence[tuple[str, str, str]]) -> Table:
    """The preflight of one model: (check, status, message), in a table that fits 80 columns."""
    table = Table(title=f"Checks of {visible(name)}", width=WIDTH)
    table.add_column("check", ratio=2)
    table.add_column("", width=4)
    table.add_column("found", ratio=6, overflow="fold")
    for check, status, message in checks:
        table.add_row(check, status, visible(message))
    return table


def _duration(minutes: float) -> str:
    if minutes < 1:
        return "less than a minute"
    if minutes < 90:
        return f"about {minutes:.0f} min"
    return f"about {minutes / 60:.1f} h"
