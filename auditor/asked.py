"""The plan of an audit from the options of its command, given now or recorded in a run."""

from __future__ import annotations

import functools
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from auditor.attributions.registry import find_method
from auditor.bounds.training import parse_training
from auditor.errors import InputError
from auditor.memory import parse_memory
from auditor.options import choose_device, explanation, load_input, load_twins
from auditor.plan import Plan, known_profile, make_plan
from auditor.several import Several
from auditor.specs import parse_floats, parse_samples, parse_target
from auditor.store import MEMBERS, METHODS

_NOT_OF_THE_PLAN = {
    *("run", "formats", "paper", "resume", "dry_run"),
    *("threads", "executor", "quiet", "as_json", "exit_zero", "retraining"),
}


def asked_plan(*, method: str | None, explain: str | None, profile: str, **asked: Any) -> Plan:
    """Load what the options name, check it and plan the audit.

    Raises
    ------
    InputError
        If it cannot be audited as asked.
    """
    return asked_planner(**asked)(
        profile=profile, explain=explanation(method=method, explain=explain)
    )


def asked_plans(
    *, several: tuple[str, ...], explain: str | None, profile: str, **asked: Any
) -> Plan | Several:
    """The plan of one method, or those of several; errors are those of :func:`asked_plan`."""
    if len(several) < 2:
        method = several[0] if several else None
        return asked_plan(method=method, explain=explain, profile=profile, **asked)
    if explain is not None:
        raise InputError("--method and --explain both say how maps are made. Leave one out.")
    methods = [find_method(spec) for spec in several]
    return Several.of(methods, known_profile(profile), asked_planner(**asked))


def asked_planner(
    *,
    twins: tuple[str, ...],
    members: tuple[Path, ...],
    target: str,
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
) -> Callable[..., Plan]:
    """Load what the options name, for plans of a ``profile`` and an explanation ``explain``.

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
    return functools.partial(
        make_plan,
        classifier,
        images,
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
    several = context.params.pop("several")
    if len(several) > 1:
        names = ", ".join(str(run / METHODS / find_method(spec).name) for spec in several)
        raise InputError(f"{run}: holds the audits of several methods. Name one: {names}.")
    context.params["method"] = several[0] if several else None
    options = {n: v for n, v in context.params.items() if n not in _NOT_OF_THE_PLAN}
    if context.params["retraining"] is not None:
        # The members that one audit trains are those of all its methods.
        of_several = run.absolute().parent.name == METHODS
        home = run.absolute().parents[1] if of_several else run
        options["members"] = (*options["members"], home / MEMBERS)
    return asked_plan(**options | {"trust_pickle": trust_pickle})
