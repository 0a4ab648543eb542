"""One process on one run folder, also where file systems have no locks.

The lock is a file that names its holder and that the holder rewrites every few seconds. Clocks are
not compared, since they differ between machines and are changed: whoever finds the file of another
machine watches whether it still changes. A process of the same machine is looked up instead.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import socket
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from auditor.errors import IncompleteRunError, InputError

LOCK = "run.lock"
BEAT = 5.0
"""Seconds from one sign of life to the next."""

PATIENCE = 6
"""So many signs of life may fail to come before a holder counts as gone."""


@dataclass(frozen=True, kw_only=True)
class Holder:
    """Who has a run folder; ``beat`` counts its signs of life, ``elapsed`` its seconds."""

    host: str
    pid: int
    machine: str
    process: str
    token: str
    beat: int
    elapsed: float

    @property
    def words(self) -> str:
        """For people."""
        return f"process {self.pid} on {self.host}"

    @property
    def alive(self) -> bool | None:
        """Whether it runs; ``None`` if that cannot be seen from here."""
        if self.machine != _machine():
            return None
        return _process(self.pid) == self.process


def read_holder(run: Path) -> Holder | None:
    """What the lock file of a run says; ``None`` if there is none, or it says nothing."""
    try:
        record = json.loads((run / LOCK).read_text(encoding="utf-8"))
        return Holder(
            host=str(record["host"]),
            pid=int(record["pid"]),
            machine=str(record["machine"]),
            process=str(record["process"]),
            token=str(record["token"]),
            beat=int(record["beat"]),
            elapsed=float(record["elapsed"]),
        )
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def refuse_if_held(run: Path) -> None:
    """Stop early, before models are loaded, if a process of this machine has the folder.

    Raises
    ------
    InputError
        If one has.
    """
    holder = read_holder(run)
    if holder is not None and holder.alive:
        raise _held(run, holder)


class Lock:
    """Holds a run folder while the context lasts.

    Raises
    ------
    InputError
        On entering, if another process has it.
    IncompleteRunError
        If it cannot be written.
    """

    def __init__(self, run: Path, *, beat: float = BEAT) -> None:
        self._run, self._beat = run, beat
        self._file = run / LOCK
        self._token = secrets.token_hex(8)
        self._start = time.monotonic()
        self._beats = 0
        self._stop = threading.Event()

    def __enter__(self) -> Self:
        try:
            self._run.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"{self._run}: cannot be made ({error.strerror}).") from error
        try:
            if not self._made():
                self._take_over()
        except OSError as error:
            raise IncompleteRunError(
                f"{self._file}: cannot be written ({error.strerror}). Make room, then try again."
            ) from error
        threading.Thread(target=self._show_life, daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        if self._is_ours():
            with contextlib.suppress(OSError):
                self._file.unlink()

    def _made(self) -> bool:
        """Make the file if there is none: in one step, on every file system."""
        try:
            descriptor = os.open(self._file, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
        except FileExistsError:
            return False
        with os.fdopen(descriptor, "wb") as file:
            file.write(self._content())
        return True

    def _take_over(self) -> None:
        """Replace a file whose holder is gone; of several who try, the last keeps it."""
        holder = read_holder(self._run)
        alive = holder.alive if holder is not None else None
        deadline = time.monotonic() + PATIENCE * self._beat
        while alive is None and time.monotonic() < deadline:
            time.sleep(self._beat / 10)
            alive = True if self._changed(holder) else None
        if alive:
            raise _held(self._run, read_holder(self._run) or holder)
        self._write()
        time.sleep(min(0.5, self._beat / 10))
        if not self._is_ours():
            raise _held(self._run, read_holder(self._run))

    def _changed(self, holder: Holder | None) -> bool:
        now = read_holder(self._run)
        return now is not None and now != holder

    def _is_ours(self) -> bool:
        holder = read_holder(self._run)
        return holder is not None and holder.token == self._token

    def _show_life(self) -> None:
        while not self._stop.wait(self._beat):
            # A full disk must not end the audit: it ends where a result cannot be written.
            with contextlib.suppress(OSError):
                if self._is_ours():
                    self._beats += 1
                    self._write()

    def _write(self) -> None:
        temporary = self._file.with_name(f"{LOCK}.{self._token}.partial")
        try:
            temporary.write_bytes(self._content())
            temporary.replace(self._file)
        finally:
            temporary.unlink(missing_ok=True)

    def _content(self) -> bytes:
        record = {
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "machine": _machine(),
            "process": _process(os.getpid()),
            "token": self._token,
            "beat": self._beats,
            "elapsed": time.monotonic() - self._start,
        }
        return json.dumps(record).encode()


def _held(run: Path, holder: Holder | None) -> InputError:
    who = holder.words if holder is not None else "another process"
    return InputError(f"{run}: {who} is at this run. Wait for it or stop it (auditor status).")


def _machine() -> str:
    """What tells this machine, its start and its container from others, as far as it is known."""
    parts = [socket.gethostname()]
    with contextlib.suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
        parts.append(os.readlink("/proc/self/ns/pid"))
    return " ".join(parts)


def _process(pid: int) -> str:
    """What tells a running process from others that had its number; empty if there is none."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
        fields = stat.rpartition(")")[2].split()  # the name before it may hold anything
        return "" if fields[0] == "Z" else f"started {fields[19]}"
    except (OSError, IndexError):
        pass
    if os.path.isdir("/proc/self"):
        return ""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return ""
    except PermissionError:
        pass
    return "running"
