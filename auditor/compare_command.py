"""``auditor compare`` and ``auditor history``."""

from __future__ import annotations

from pathlib import Path

import click
from rich.console import Console

import reports
from auditor.comparison import compare as compare_audits
from auditor.errors import InputError
from auditor.history import history as audits_below
from auditor.results import AuditResult


@click.command()
@click.argument("run_a", type=Path)
@click.argument("run_b", type=Path)
@click.option(
    "--output",
    "outputs",
    type=Path,
    multiple=True,
    metavar="FILE",
    help="Also write it as .pdf or .html; repeatable.",
)
def compare(*, run_a: Path, run_b: Path, outputs: tuple[Path, ...]) -> int:
    """Tell what got better or worse from RUN_A to RUN_B.

    Two versions of a model, before and after hardening, two machines. Images
    are matched by name. Exits 1 if a criterion regressed or a recommendation
    was lost.
    """
    for path in outputs:
        if path.suffix not in (".pdf", ".html"):
            raise InputError(f"--output {path}: the name must end in .pdf or .html.")
    comparison = compare_audits(AuditResult.load(run_a), AuditResult.load(run_b))
    Console(highlight=False).print(reports.comparison_table(comparison))
    for path in outputs:
        try:
            reports.write_comparison(comparison, path)
        except OSError as error:
            raise InputError(f"{path}: cannot be written ({error.strerror}).") from error
        click.echo(f"Report: {path}")
    return int(comparison.regressed)


@click.command()
@click.argument("folder", type=Path)
def history(*, folder: Path) -> int:
    """List the audits below FOLDER, each model's over time, with sigma and verdict."""
    Console(highlight=False).print(reports.history_table(audits_below(folder)))
    return 0
