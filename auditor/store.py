"""The run folder: what was asked, which tasks are done, and their arrays; written atomically."""

from __future__ import annotations

import contextlib
import datetime
import io
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from auditor.errors import IncompleteRunError, InputError
from auditor.lock import LOCK, refuse_if_held

Arrays = dict[str, npt.NDArray[Any]]
REQUEST = "run.json"
LOG = "audit.jsonl"
PARTIAL = ".partial"
MEMBERS = "members"
"""Folder in that of a run for the networks that the audit trains before it starts."""
METHODS = "methods"
"""Folder in that of a run for the runs of each of several methods."""


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that a crash leaves either the old one or the whole new one.

    Raises
    ------
    IncompleteRunError
        If the file cannot be written, e.g. because the disk is full.
    """
    temporary = path.with_name(path.name + PARTIAL)
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise _unwritable(path, error) from error


@dataclass(frozen=True)
class RunFolder:
    """A folder that holds one audit.

    ``run.json`` says what was asked for, ``tasks/NAME.npz`` holds the arrays of a finished task;
    results are added at the end.
    """

    path: Path

    @classmethod
    def check(cls, path: Path, *, resume: bool) -> RunFolder:
        """The folder for a new run, or for the one to resume; nothing is written yet.

        Raises
        ------
        InputError
            If the folder is in use without ``resume``, or there is nothing to resume.
        """
        there = os.path.isdir(path)
        if os.path.exists(path) and not there:
            raise InputError(f"{path}: is a file. Give the name of a folder for the run.")
        begun = path / MEMBERS / REQUEST
        if resume and not (os.path.isfile(path / REQUEST) or os.path.isfile(begun)):
            raise InputError(f"{path}: no run to resume here. Leave out --resume to start one.")
        if there:
            refuse_if_held(path)
        if not resume and there and any(not _beginning(name) for name in os.listdir(path)):
            raise InputError(
                f"{path}: exists and is not empty. Use --resume, or name another folder."
            )
        existing = next(p for p in (path, *path.absolute().parents) if os.path.exists(p))
        if not os.access(existing, os.W_OK):
            raise InputError(f"{path}: {existing} is not writable. Name another folder.")
        return cls(path)

    def open(self, request: Mapping[str, Any], fixed: Mapping[str, Any]) -> dict[str, Any]:
        """Start the run, or compare with the one that is there; returns its ``fixed`` part.

        ``request`` must be equal on resuming; ``fixed`` (date, environment, command) is kept from
        the first start.

        Raises
        ------
        InputError
            If a setting differs from the run's; the message names the differing ones.
        """
        plain = json.loads(json.dumps(request))
        file = self.path / REQUEST
        if not os.path.isfile(file):
            try:
                self.path.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise InputError(f"{self.path}: cannot be made ({error.strerror}).") from error
            record = {"request": plain, "fixed": dict(fixed)}
            write_atomically(file, json.dumps(record, indent=1, sort_keys=True).encode())
            return dict(fixed)
        try:
            record = json.loads(file.read_text(encoding="utf-8"))
            before, kept = dict(record["request"]), dict(record["fixed"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(f"{file}: cannot be read ({error}). Start a new run.") from error
        differ = [n for n in sorted({*before, *plain}) if before.get(n) != plain.get(n)]
        if differ:
            shown = "; ".join(
                f"{n}: {_short(before.get(n))} → {_short(plain.get(n))}" for n in differ
            )
            raise InputError(
                f"{self.path}: cannot resume with other settings ({shown}).\n"
                "Use the same ones, or start a new run."
            )
        return kept

    def done(self, task: str) -> bool:
        """Whether the task's arrays are on disk."""
        return (self.path / "tasks" / f"{task}.npz").is_file()

    def save(self, task: str, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        """Put a finished task on disk."""
        folder = self.path / "tasks"
        try:
            folder.mkdir(exist_ok=True)
        except OSError as error:
            raise _unwritable(folder, error) from error
        write_npz(folder / f"{task}.npz", arrays)

    def load(self, task: str, *, only: str = "") -> Arrays:
        """Arrays of a finished task; those alone whose names start with ``only``.

        Raises
        ------
        IncompleteRunError
            If its file is damaged.
        """
        file = self.path / "tasks" / f"{task}.npz"
        try:
            # Opened here, since numpy leaves a damaged archive open.
            with file.open("rb") as content, np.load(content, allow_pickle=False) as arrays:
                return {name: arrays[name] for name in arrays.files if name.startswith(only)}
        except Exception as error:  # damaged archives raise many things
            raise IncompleteRunError(
                f"{file}: is damaged ({error}). Delete it, then use --resume."
            ) from error

    def log(self, event: str, **facts: Any) -> None:
        """Add an event with the time to ``audit.jsonl``, a JSON object on a line of its own."""
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        path = self.path / LOG
        line = json.dumps({"time": now, "event": event, **facts})
        try:
            with path.open("a", encoding="utf-8") as file:
                if file.tell() and not self._whole(path):
                    file.write("\n")  # a process that was killed left half a line
                file.write(f"{line}\n")
        except OSError as error:
            raise _unwritable(path, error) from error

    def events(self) -> list[dict[str, Any]]:
        """Read what :meth:`log` wrote; lines that were cut off are left out."""
        try:
            lines = (self.path / LOG).read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            return []
        found = []
        for line in lines:
            with contextlib.suppress(ValueError, RecursionError):
                found.append(json.loads(line))
        return [event for event in found if isinstance(event, dict)]

    @staticmethod
    def _whole(path: Path) -> bool:
        with path.open("rb") as file:
            file.seek(-1, os.SEEK_END)
            return file.read() == b"\n"


def write_npz(path: Path, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
    """Write arrays to an ``.npz`` file, atomically; the same arrays give the same bytes."""
    buffer = io.BytesIO()
    np.savez(buffer, **dict(arrays))  # type: ignore[arg-type]  # names are never "allow_pickle"
    write_atomically(path, buffer.getvalue())


def _beginning(name: str) -> bool:
    """Whether it is left by a start that was killed before there was a run."""
    return name == REQUEST + PARTIAL or name.startswith(LOCK)


def _unwritable(path: Path, error: OSError) -> IncompleteRunError:
    return IncompleteRunError(
        f"{path}: cannot be written ({error.strerror}). Make room, then use --resume."
    )


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False) if not isinstance(value, str) else value
    return text if len(text) <= 40 else text[:18] + "…" + text[-18:]
