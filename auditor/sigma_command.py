"""``auditor sigma``: decide again from the records of a finished run."""

from __future__ import annotations

import datetime
import json
import textwrap
from collections.abc import Iterator
from pathlib import Path

import click

from auditor.again import decide_again, with_answer
from auditor.asked import recorded_plan
from auditor.profiles_command import read_profile
from auditor.results import AuditResult, ProfileAnswer, Recommendation
from auditor.seal import SEAL, seal_text
from auditor.store import write_atomically
from auditor.supplement import supplemented


@click.command()
@click.argument("run", type=Path)
@click.option("--profile", required=True, metavar="NAME|FILE", help="The profile to decide by.")
@click.option(
    "--measure",
    is_flag=True,
    help="Measure what the profile asks for and the run lacks, which runs the model's code.",
)
@click.option("--trust-pickle", is_flag=True, help="Allow files that could run code when loaded.")
@click.option("--json", "as_json", is_flag=True, help="Print the answer as JSON.")
@click.option("--exit-zero", is_flag=True, help="Exit 0 where it would be 1.")
def sigma(
    *, run: Path, profile: str, measure: bool, trust_pickle: bool, as_json: bool, exit_zero: bool
) -> int:
    """Decide again from the records of a finished RUN, by another profile.

    Nothing is measured without --measure. The verdict of the audit stays; the
    profile is recorded among those that were tried, and the report lists them all.
    """
    declared = read_profile(profile)
    before = AuditResult.load(run)
    if measure:
        audit = click.get_current_context().find_root().command.commands["audit"]  # type: ignore[attr-defined]
        plan = recorded_plan(before.command, audit, run=run, trust_pickle=trust_pickle)
        before = supplemented(plan, run, before, declared)
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    result = with_answer(before, declared, decided=now)
    found, brief = decide_again(result, declared), result.other_profiles[-1]
    text = result.to_json()
    write_atomically(run / "audit.json", text.encode("utf-8", "backslashreplace"))
    write_atomically(run / SEAL, seal_text(run, ("audit.json", "maps.npz")).encode())
    if as_json:
        click.echo(json.dumps(_record(found, brief), indent=1, ensure_ascii=False))
    else:
        click.echo("\n".join(_lines(result, found, brief)))
    return 0 if exit_zero or found.verdict == "recommended" else 1


def _record(found: Recommendation, brief: ProfileAnswer) -> dict[str, object]:
    return {
        "profile": brief.name,
        "verdict": found.verdict,
        "sigma": found.sigma,
        "considered": found.considered,
        "equivalent": found.equivalent,
        "criteria": {c.name: c.status for c in found.criteria},
        "reasons": found.reasons,
        "advice": found.advice,
        "missing": brief.missing,
    }


def _lines(result: AuditResult, found: Recommendation, brief: ProfileAnswer) -> Iterator[str]:
    words = {"recommended": f"σ = {found.sigma:g}" if found.sigma is not None else ""}
    verdict = words.get(found.verdict) or found.verdict.replace("_", " ").replace("sigma", "σ")
    yield f"{brief.name}: {verdict}"
    for reason in found.reasons:
        yield _bullet(reason)
    if brief.missing:
        yield "Not measured in this run:"
        yield from (_bullet(line) for line in brief.missing)
        yield _bullet("--measure adds them. What needs a twin takes another audit, with --twin.")
    for advice in found.advice:
        yield _bullet(advice)
    tried = len({sha for _, sha, _ in result.profile.tried})
    yield f"Profiles tried on this run: {tried}. The report lists them; auditor report renders it."


def _bullet(text: str) -> str:
    return textwrap.fill(text, 80, initial_indent="  - ", subsequent_indent="    ")
