"""The command ``auditor``: parse, call, print, exit code."""

from __future__ import annotations

import contextlib
import functools
import json
import sys
import traceback
from pathlib import Path
from typing import Any

import click
import torch
from rich.console import Console

import reports
from auditor.asked import asked_plans
from auditor.asked_members import check_retraining, retrained
from auditor.attack_command import attack
from auditor.check_command import check
from auditor.compare_command import compare, history
from auditor.engine import execute
from auditor.errors import AuditorError, IncompleteRunError, InputError
from auditor.executors import choose_executor
from auditor.harden_command import harden
from auditor.labels import printable
from auditor.methods_command import methods
from auditor.metrics_command import metrics
from auditor.options import (
    command_line,
    compute_options,
    executor_options,
    input_options,
    methods_option,
    precision_options,
    target_option,
)
from auditor.plan import forecast
from auditor.profiles_command import profiles
from auditor.progress import Bar
from auditor.recipes_command import recipes
from auditor.report_command import in_folder, report, report_options, write_reports
from auditor.results import AuditResult
from auditor.retrain_command import retrain
from auditor.settings import CHOICES
from auditor.several import Several
from auditor.sigma_command import sigma as sigma_command
from auditor.status_command import status
from auditor.store import RunFolder
from auditor.verify_command import sign, verify
from auditor.version import __version__
from profiles import available

EXIT_CODES = """
\b
Exit codes:
  0  every criterion is met and a sigma is recommended
  1  a criterion failed or is inconclusive, or no sigma will do
  2  wrong usage or input
  3  the run could not be completed
"""


@click.group(
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 80},
    epilog=EXIT_CODES,
)
@click.version_option(__version__)
def cli() -> None:
    """Tell whether a model's explanations can be trusted, and with how much smoothing."""


@cli.command(epilog=EXIT_CODES)
@input_options
@click.option(
    "--twin",
    "twins",
    multiple=True,
    metavar="SPEC",
    help="The task learned anew: SPEC,weights=FILE,input-size=240,... Repeatable.",
)
@click.option(
    "--members",
    "members",
    type=Path,
    multiple=True,
    metavar="FOLDER",
    help="Twins that auditor retrain made. Repeatable.",
)
@click.option(
    "--retrain",
    "retraining",
    metavar="OPTIONS",
    help="Train members first, into RUN/members, by these options of auditor retrain: "
    "'--images train/ --setting dt'.",
)
@target_option
@methods_option
@click.option(
    "--profile",
    default="compliance",
    show_default=True,
    metavar="NAME|FILE",
    help=f"{', '.join(available())}, or a TOML file.",
)
@click.option(
    "--effort",
    type=click.Choice(CHOICES),
    default="standard",
    show_default=True,
    help="Sets samples, budgets, sigmas and epsilons together; glance: a provisional sigma "
    "in minutes, without attacks or twins.",
)
@click.option("--sigma", metavar="S,...", help="Smoothing to try, in pixel units of [0, 1].")
@click.option("--epsilon", metavar="E,...", help="Attack sizes, in 1/255.")
@click.option(
    "--samples",
    metavar="N|auto",
    help="Noise draws per smoothed map; auto: enough for a map error of 10%.",
)
@click.option(
    "--budget",
    type=int,
    metavar="N",
    help="Gradients for each image and epsilon that the attack on the plain map may take.",
)
@click.option(
    "--training",
    metavar="n=N,T=T,c=C",
    help="Training samples, steps and step sizes c/t: adds bounds on retraining.",
)
@click.option("-k", "--top-k", "k", type=int, metavar="K", help="Top pixels that are compared.")
@click.option(
    "--run",
    "run",
    type=Path,
    default=Path("auditor-run"),
    show_default=True,
    metavar="FOLDER",
    help="Where results go.",
)
@report_options
@click.option("--resume", is_flag=True, help="Continue the run in the folder.")
@click.option("--dry-run", is_flag=True, help="Check everything, print the cost, and stop.")
@compute_options
@precision_options
@executor_options
@click.option("--quiet", is_flag=True, help="Print nothing but errors.")
@click.option("--json", "as_json", is_flag=True, help="Print the verdict as JSON.")
@click.option("--exit-zero", is_flag=True, help="Exit 0 where it would be 1.")
def audit(
    *,
    run: Path,
    retraining: str | None,
    formats: tuple[str, ...],
    paper: str,
    resume: bool,
    dry_run: bool,
    threads: int | None,
    workers: int,
    executor: str,
    quiet: bool,
    as_json: bool,
    exit_zero: bool,
    **asked: Any,
) -> int:
    """Attack, compare and smooth a model's explanations; write a PDF that recommends sigma.

    The run folder gets report.pdf, audit.json, maps.npz, SHA256SUMS and audit.jsonl.
    """
    if threads is not None:
        torch.set_num_threads(threads)
    performing = functools.partial(choose_executor, kind=executor, workers=workers, threads=threads)
    performing()  # says what is wrong before anything is loaded
    folder = RunFolder.check(run, resume=resume)
    stderr = Console(stderr=True, quiet=quiet, highlight=False)
    asked["workers"] = workers
    learning = None if retraining is None else check_retraining(retraining)
    plans = asked_plans(**asked)  # before training, so that a mistake does not cost hours
    if learning is not None and dry_run:
        stderr.print("A dry run trains no members: what they cost is not counted.")
    elif learning is not None:
        made = retrained(learning, asked, run=run, quiet=quiet or as_json)
        plans = asked_plans(**asked | {"members": (*asked["members"], made)})
    several = list(plans.plans.values()) if isinstance(plans, Several) else [plans]
    for name, reason in several[0].images.unreadable:
        stderr.print(f"Skipped {name}: {reason}", style="yellow", markup=False)
    told = [forecast(plan) for plan in several]
    if dry_run:
        if as_json:
            click.echo(json.dumps(told[0] if len(told) == 1 else told, indent=1))
        elif not quiet:
            for each in told:
                Console(highlight=False).print(reports.cost_table(**each))
        return 0
    for each in told:
        stderr.print(reports.cost_table(**each))
    with contextlib.ExitStack() as stack:
        bar = None if quiet else stack.enter_context(Bar(stderr))
        if isinstance(plans, Several):
            result = plans.execute(
                folder, command=command_line(), executor=performing, progress=bar
            )
        else:
            result = execute(
                plans, folder, command=command_line(), progress=bar, executor=performing()
            )
    if as_json:
        quiet = True
    elif not quiet:
        Console(highlight=False).print(reports.summary_table(result))
    targets = in_folder(run, formats)
    write_reports(result, targets, paper=paper, failure=IncompleteRunError, quiet=quiet)
    if as_json:
        click.echo(json.dumps(_answer(result, targets), indent=1))
    return 0 if exit_zero else exit_code(result)


cli.add_command(attack)
cli.add_command(check)
cli.add_command(compare)
cli.add_command(history)
cli.add_command(methods)
cli.add_command(harden)
cli.add_command(metrics)
cli.add_command(profiles)
cli.add_command(report)
cli.add_command(sigma_command)
cli.add_command(sign)
cli.add_command(status)
cli.add_command(verify)
cli.add_command(recipes)
cli.add_command(retrain)


def exit_code(result: AuditResult) -> int:
    """0 if a σ is recommended and every criterion passed, else 1."""
    answer = result.recommendation
    met = all(criterion.status == "pass" for criterion in answer.criteria)
    return 0 if answer.verdict == "recommended" and met else 1


def main() -> None:
    """Run the command; every way to end has its own exit code."""
    try:
        code = cli.main(prog_name="auditor", standalone_mode=False)
    except AuditorError as error:
        # Names from hostile files may hold what moves a terminal's cursor or rewrites its lines.
        lines = map(printable, str(error).split("\n"))
        click.echo("Error: " + "\n".join(lines), err=True)
        code = error.exit_code
    except click.ClickException as error:
        error.show()
        code = InputError.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("Stopped. The same command with --resume goes on from here.", err=True)
        code = IncompleteRunError.exit_code
    except Exception:
        traceback.print_exc()
        click.echo("Error: a fault of the auditor. Please report the lines above.", err=True)
        code = IncompleteRunError.exit_code
    sys.exit(code)


def _answer(result: AuditResult, targets: dict[str, Path]) -> dict[str, Any]:
    answer = result.recommendation
    return {
        "verdict": answer.verdict,
        "sigma": answer.sigma,
        "sigma_255": answer.sigma_255,
        "sigma_normalized": answer.sigma_normalized,
        "samples": result.recommended_samples,
        "interval": answer.interval,
        "criteria": {criterion.name: criterion.status for criterion in answer.criteria},
        "reasons": answer.reasons,
        "report": str(next(iter(targets.values()))),
    }


if __name__ == "__main__":
    main()
