"""The audits under a folder, oldest first."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from auditor.errors import InputError
from auditor.results import AuditResult
from auditor.store import METHODS


@dataclass(frozen=True, kw_only=True)
class Entry:
    """An audit: its run folder, and its result or the reason why there is none."""

    run: Path
    result: AuditResult | None
    problem: str = ""


def history(folder: Path) -> tuple[Entry, ...]:
    """Every run folder below (and at) a folder, by model and date; those unreadable at the end.

    Raises
    ------
    InputError
        If there is none.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: is no folder.")
    entries = [
        _entry(path.parent)
        for path in sorted(folder.rglob("audit.json"))
        if not _of_several(path.parent)
    ]
    if not entries:
        raise InputError(f"{folder}: no audit.json here or below. Name the folder of your runs.")
    return tuple(sorted(entries, key=_order))


def _of_several(run: Path) -> bool:
    """Whether it is the run of one of several methods: the audit of all stands for it."""
    return run.parent.name == METHODS and (run.parent.parent / "audit.json").is_file()


def _entry(run: Path) -> Entry:
    try:
        return Entry(run=run, result=AuditResult.load(run))
    except InputError as error:
        return Entry(run=run, result=None, problem=str(error).partition("\n")[0])


def _order(entry: Entry) -> tuple[bool, str, str, str]:
    result = entry.result
    if result is None:
        return True, "", "", str(entry.run)
    return False, result.model.name, result.created, str(entry.run)
