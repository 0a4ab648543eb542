"""The command ``auditor check``: everything that an audit checks first, and what it would cost."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import click
import torch
from rich.console import Console

import reports
from auditor.loading import load_twin
from auditor.options import (
    choose_device,
    compute_options,
    explain_option,
    explanation,
    input_options,
    load_input,
    target_option,
)
from auditor.plan import forecast, make_plan
from auditor.settings import CHOICES
from auditor.specs import parse_target
from profiles import available


@click.command()
@input_options
@click.option(
    "--twin",
    "twins",
    multiple=True,
    metavar="SPEC",
    help="The task learned anew: SPEC,weights=FILE,input-size=240,... Repeatable.",
)
@target_option
@explain_option
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
    help="Of the audit whose cost is estimated.",
)
@compute_options
@click.option("--json", "as_json", is_flag=True, help="Print the checks as JSON.")
def check(
    *,
    twins: tuple[str, ...],
    target: str,
    method: str | None,
    explain: str | None,
    profile: str,
    effort: str,
    seed: int | None,
    device: str,
    threads: int | None,
    batch: int | None,
    as_json: bool,
    trust_pickle: bool,
    **given: Any,
) -> int:
    """Check a model and its images, and estimate what an audit would cost.

    Nothing is measured or written. A check that fails ends with exit code 2.
    """
    if threads is not None:
        torch.set_num_threads(threads)
    device = choose_device(device)
    common: dict[str, Any] = {"trust_pickle": trust_pickle, "device": device}
    classifier, images = load_input(seed=seed, **common, **given)
    plan = make_plan(
        classifier,
        images,
        profile=profile,
        twins=[load_twin(twin, like=classifier, **common) for twin in twins],
        effort=effort,
        device=device,
        batch=batch,
        seed=seed,
        target=parse_target(target),
        explain=explanation(method=method, explain=explain),
    )
    members = {
        model.name: checks
        for model, checks in zip((classifier, *plan.twins), plan.checks, strict=True)
    }
    if as_json:
        listed = {
            name: [dataclasses.asdict(one) for one in checks] for name, checks in members.items()
        }
        skipped = dict(images.unreadable)
        click.echo(
            json.dumps({"checks": listed, "skipped": skipped, "cost": forecast(plan)}, indent=1)
        )
        return 0
    console = Console(highlight=False)
    for name, checks in members.items():
        console.print(
            reports.check_table(name, [(one.name, one.status, one.message) for one in checks])
        )
    for name, reason in images.unreadable:
        console.print(f"Skipped {name}: {reason}", style="yellow", markup=False)
    shown = {one.message for checks in members.values() for one in checks}
    cost = forecast(plan)
    cost["notes"] = [note for note in cost["notes"] if note not in shown]
    console.print(reports.cost_table(**cost))
    return 0
