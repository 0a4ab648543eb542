"""A hostile folder → the files in it that may be opened."""

from __future__ import annotations

import os
from pathlib import Path

from auditor.decoding import EXTENSIONS
from auditor.errors import InputError
from auditor.labels import printable

Skipped = list[tuple[str, str]]


def find_files(folder: Path, skipped: Skipped) -> dict[str, Path]:
    """Image files by their path inside the folder; what must not be opened goes to ``skipped``."""
    root = Path(os.path.realpath(folder))
    files: dict[str, Path] = {}

    def fail(error: OSError) -> None:
        raise InputError(f"{folder}: cannot be listed ({error.strerror}).") from error

    for place, subfolders, names in os.walk(root, onerror=fail):
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        for name in [*subfolders, *sorted(n for n in names if not n.startswith("."))]:
            file = Path(place, name)
            shown = printable(file.relative_to(root).as_posix())
            if name in subfolders:
                if file.is_symlink():
                    skipped.append((shown, "link to a folder, not followed"))
            elif file.suffix.lower() not in EXTENSIONS:
                continue
            elif (problem := unsafe(file, root)) is not None:
                skipped.append((shown, problem))
            elif shown in files:
                skipped.append((shown, "another file has the same name when printed"))
            else:
                files[shown] = file
    return files


def unsafe(file: Path, root: Path) -> str | None:
    """Why a file inside the folder ``root``, which is a real path, must not be opened."""
    if not Path(os.path.realpath(file)).is_relative_to(root):
        return "link that leaves the folder"
    return None if os.path.isfile(file) else "not a regular file"


def beside(folder: Path, name: str) -> Path | None:
    """A file of this name in the folder, which nobody named but which is about to be read.

    Raises
    ------
    InputError
        If there is something of that name which must not be opened.
    """
    file = folder / name
    if not os.path.lexists(file):
        return None
    problem = unsafe(file, Path(os.path.realpath(folder)))
    if problem is not None:
        raise InputError(f"{file}: {problem}. Copy the file into the folder, or remove it.")
    return file


def subfolders(folder: Path) -> list[str]:
    """Names of the folders in a folder, sorted, but for hidden ones."""
    try:
        names = [name for name in os.listdir(folder) if not name.startswith(".")]
    except OSError as error:
        raise InputError(f"{folder}: cannot be listed ({error.strerror}).") from error
    return sorted(name for name in names if os.path.isdir(folder / name))
