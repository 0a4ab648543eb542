"""``auditor report``: render a finished run again, in any format."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

import reports
from auditor.again import decide_again
from auditor.errors import AuditorError, InputError
from auditor.labels import printable
from auditor.results import AuditResult
from auditor.seal import sealed
from profiles import available, load_profile

Command = Callable[..., Any]


def report_options(command: Command) -> Command:
    """Take ``--format`` and ``--paper``."""
    for option in (
        click.option(
            "--paper",
            type=click.Choice(sorted(reports.PAPERS)),
            default="a4",
            show_default=True,
            help="Paper of the PDF.",
        ),
        click.option(
            "--format",
            "formats",
            type=click.Choice(tuple(reports.FILES)),
            multiple=True,
            default=("pdf",),
            help="What to write; repeatable.  [default: pdf]",
        ),
    ):
        command = option(command)
    return command


@click.command()
@click.argument("run", type=Path)
@report_options
@click.option("--output", type=Path, metavar="FILE", help="Where to, if there is one format.")
def report(*, run: Path, formats: tuple[str, ...], paper: str, output: Path | None) -> int:
    """Render the report of a finished RUN folder again, without measuring.

    Files go to the run folder: report.pdf, report.html, report.json, images.csv,
    report.xml (junit) and report.md (markdown).
    """
    if output is not None and len(formats) > 1:
        raise InputError("--output names one file: give one --format, or leave it out.")
    result = AuditResult.load(run)
    if not result.gallery:
        named = "was removed" if "maps.npz" in sealed(run) else "is not there"
        click.echo(f"{run / 'maps.npz'} {named}: the report has no pictures.", err=True)
    targets = {formats[0]: output} if output else in_folder(run, formats)
    write_reports(result, targets, paper=paper, failure=InputError)
    return 0


def write_reports(
    result: AuditResult,
    targets: dict[str, Path],
    *,
    paper: str,
    failure: type[AuditorError],
    quiet: bool = False,
) -> None:
    """Write each format to its file and name the file.

    Raises
    ------
    AuditorError
        A ``failure`` if a file cannot be written.
    """
    names = available() if "html" in targets else ()
    others = {name: decide_again(result, load_profile(name)) for name in names}
    for form, target in targets.items():
        try:
            reports.write_report(result, target, form=form, paper=paper, others=others)
        except ModuleNotFoundError as error:
            raise failure(str(error)) from error
        except OSError as error:
            raise failure(
                f"{target}: cannot be written ({error.strerror}). Make room or correct the path, "
                "then use auditor report."
            ) from error
        if not quiet:
            click.echo(f"Report: {printable(str(target))}")


def in_folder(run: Path, formats: Sequence[str]) -> dict[str, Path]:
    """Format → its file in a run folder."""
    return {form: run / reports.FILES[form] for form in formats}
