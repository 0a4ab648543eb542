"""The plan of an audit from the options of its command, given now or recorded in a run."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import click

from auditor.bounds.training import parse_training
from auditor.errors import InputError
from auditor.memory import parse_memory
from auditor.options import choose_device, explanation, load_input, load_twins
from auditor.plan import Plan, make_plan
from auditor.specs import parse_floats, parse_samples, parse_target
from auditor.store import MEMBERS

_NOT_OF_THE_PLAN = {
    *("run", "formats", "paper", "resume", "dry_run"),
    *("threads", "executor", "quiet", "as_json", "exit_zero", "retraining"),
}


def asked_plan(
    *,
    twins: tuple[str, ...],
    members: tuple[Path, ...],
    target: str,
    method: str | None,
    explain: str | None,
    profile: str,
    effort: str,
    sigma: str | None,
    epsilon: str | None,
    samples: str | None,
    budget: int | None,
    training: str | None,
    k: int | None,
    seed: int | None,
    device: str,
    batch: int | None,
    dtype: str,
    memory: str | None,
    workers: int,
    trust_pickle: bool,
    **given: Any,
) -> Plan:
    """Load what the options name, check it and plan the audit.

    Raises
    ------
    InputError
        If it cannot be audited as asked.
    """
    device = choose_device(device)
    common: dict[str, Any] = {
        "trust_pickle": trust_pickle,
        "device": device,
        "dtype": dtype,
    }
    classifier, images = load_input(seed=seed, **common, **given)
    others, ensembles = load_twins(twins, members, like=classifier, **common)
    return make_plan(
        classifier,
        images,
        profile=profile,
        twins=others,
        ensembles=ensembles,
        effort=effort,
        device=device,
        batch=batch,
        memory=None if memory is None else parse_memory(memory) // workers,
        origin="command line",
        sigmas=parse_floats(sigma) if sigma is not None else None,
        epsilons=parse_floats(epsilon) if epsilon is not None else None,
        samples=parse_samples(samples) if samples is not None else None,
        budget=budget,
        training=parse_training(training) if training is not None else None,
        k=k,
        seed=seed,
        target=parse_target(target),
        explain=explanation(method=method, explain=explain),
    )


def recorded_plan(command: str, audit: click.Command, *, run: Path, trust_pickle: bool) -> Plan:
    """The plan of the recorded command line of a run; of itself it does not trust pickles.

    Members that the audit has trained are read from the folder of the run.

    Raises
    ------
    InputError
        If it is not the command line of an audit, or its input is not there any more.
    """
    try:
        program, name, *words = shlex.split(command)
        if (program, name) != ("auditor", "audit"):
            raise ValueError("another command")
        context = audit.make_context("audit", words)
    except (ValueError, click.ClickException) as error:
        raise InputError(
            f"The recorded command cannot be repeated here: {command}\n"
            "Only audits from the command line have one."
        ) from error
    options = {n: v for n, v in context.params.items() if n not in _NOT_OF_THE_PLAN}
    if context.params["retraining"] is not None:
        options["members"] = (*options["members"], run / MEMBERS)
    return asked_plan(**options | {"trust_pickle": trust_pickle})
