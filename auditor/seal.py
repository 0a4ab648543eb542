"""SHA-256 of what an audit wrote, beside it: tells whether a file was changed afterwards.

The file has the form of ``sha256sum``, so that ``sha256sum -c SHA256SUMS`` reads it too. Whoever
can change a result can change it as well: against that only a signature helps.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

from auditor.errors import InputError

SEAL = "SHA256SUMS"


def file_sha256(path: Path) -> str:
    """Hash of a file's bytes, as hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def seal_text(folder: Path, names: Iterable[str]) -> str:
    """Lines of hash and name for those of the files that are there."""
    there = [name for name in names if (folder / name).is_file()]
    return "".join(f"{file_sha256(folder / name)}  {name}\n" for name in there)


def sealed(folder: Path) -> dict[str, str]:
    """Name → recorded hash; empty where a folder has no seal.

    Raises
    ------
    InputError
        If the seal cannot be read.
    """
    path = folder / SEAL
    if not path.is_file():
        return {}
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
        return {name: digest for digest, name in (line.split("  ", 1) for line in lines)}
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read ({error}).") from error


def check_seal(folder: Path, name: str) -> None:
    """Refuse a file that is not what the audit wrote; one without a seal passes.

    Raises
    ------
    InputError
        If the file was changed.
    """
    recorded = sealed(folder).get(name)
    if recorded is not None and file_sha256(folder / name) != recorded:
        raise InputError(
            f"{folder / name}: was changed after the audit (its SHA-256 is not that of {SEAL}).\n"
            "Repeat the audit's command with --resume, which writes it again without measuring."
        )
