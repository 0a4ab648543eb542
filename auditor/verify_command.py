"""``auditor verify`` and ``auditor sign``."""

from __future__ import annotations

import os
from pathlib import Path

import click

from auditor.asked import recorded_plan
from auditor.errors import InputError
from auditor.remeasure import remeasure, same_inputs
from auditor.results import AuditResult
from auditor.signing import sign_pdf
from auditor.store import write_atomically
from auditor.verify import CHANGED, SAME, UNCHECKED, Finding, verify_pdf, verify_run

PASSPHRASE = "AUDITOR_PASSPHRASE"
_SIGNS = {SAME: ("✓", "green"), CHANGED: ("✗", "red"), UNCHECKED: ("–", "yellow")}


@click.command()
@click.argument("path", type=Path, metavar="REPORT.pdf|RUN")
@click.option(
    "--inputs",
    is_flag=True,
    help="Also load model and images as the run's command did, which runs the model's code.",
)
@click.option(
    "--remeasure",
    "tasks",
    type=click.IntRange(min=1),
    metavar="N",
    help="Also repeat N random tasks of the run and compare; implies --inputs.",
)
@click.option("--trust-pickle", is_flag=True, help="Allow files that could run code when loaded.")
@click.option(
    "--trust", type=Path, multiple=True, metavar="FILE", help="Certificate of a trusted signer."
)
def verify(
    *, path: Path, inputs: bool, tasks: int | None, trust_pickle: bool, trust: tuple[Path, ...]
) -> int:
    """Say whether a report or a RUN folder was changed after the audit.

    Recomputes hashes, renders the pages again from the attached results, and
    names signers. Exits 1 if anything was changed.
    """
    if not path.exists():
        raise InputError(f"{path}: is not there.")
    if not path.is_dir():
        if inputs or tasks:
            raise InputError(f"{path}: --inputs and --remeasure need the RUN folder.")
        return _tell(verify_pdf(path, trust=trust))
    found = verify_run(path, trust=trust)
    if not (inputs or tasks):
        message = "Model and images were not loaded (--inputs)."
        return _tell((*found, Finding(what="inputs", status=UNCHECKED, message=message)))
    if _tell(found):
        return 1
    audit = click.get_current_context().find_root().command.commands["audit"]  # type: ignore[attr-defined]
    command = AuditResult.load(path).command
    plan = recorded_plan(command, audit, run=path, trust_pickle=trust_pickle)
    same = same_inputs(plan, path)
    if _tell((same,)) or not tasks:
        return int(same.status == CHANGED)
    return _tell(remeasure(plan, path, tasks=tasks))


@click.command()
@click.argument("report", type=Path, metavar="REPORT.pdf")
@click.option("--key", type=Path, required=True, metavar="FILE", help="PKCS#12 file (.p12, .pfx).")
@click.option("--output", type=Path, metavar="FILE", help="[default: REPORT-signed.pdf]")
def sign(*, report: Path, key: Path, output: Path | None) -> int:
    """Sign a report with your own key, as the last step.

    The passphrase is asked for, or taken from AUDITOR_PASSPHRASE. auditor verify
    shows the signer.
    """
    target = output or report.with_name(f"{report.stem}-signed.pdf")
    try:
        data, secret = report.read_bytes(), key.read_bytes()
    except OSError as error:
        raise InputError(f"{error.filename}: cannot be read ({error.strerror}).") from error
    passphrase = os.environ.get(PASSPHRASE)
    if passphrase is None:
        passphrase = click.prompt("Passphrase", hide_input=True, default="", show_default=False)
    write_atomically(target, sign_pdf(data, secret, passphrase))
    click.echo(f"Signed: {target}")
    return 0


def _tell(found: tuple[Finding, ...]) -> int:
    for finding in found:
        mark, color = _SIGNS[finding.status]
        click.echo(
            f"{click.style(mark, fg=color)} {finding.what}: {finding.status}. {finding.message}"
        )
    return int(any(finding.status == CHANGED for finding in found))
