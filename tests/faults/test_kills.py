"""Audits killed, starved and raced at any moment: nothing that was written is lost or half-read."""

from __future__ import annotations

import errno
import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from auditor import lock, store
from auditor.engine import execute
from auditor.errors import IncompleteRunError
from auditor.executors import Processes
from auditor.status import status
from auditor.store import RunFolder

from .audits import comparable, whole


def child(plan, folder: Path) -> int:
    """Start the audit in a copy of this process, which has imported everything already."""
    number = os.fork()
    if number == 0:
        try:
            execute(plan, RunFolder(folder), command="")
            os._exit(0)
        except KeyboardInterrupt:
            os._exit(130)
        except BaseException:
            import traceback

            traceback.print_exc()
            os._exit(1)
    return number


def ended(number: int, within: float) -> int | None:
    """Exit status of a child, ``None`` if it is still there after so many seconds."""
    deadline = time.monotonic() + within
    while time.monotonic() < deadline:
        done, code = os.waitpid(number, os.WNOHANG)
        if done:
            return code
        time.sleep(0.001)
    return None


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
@pytest.mark.parametrize("kind", [signal.SIGKILL, signal.SIGINT], ids=["kill -9", "Ctrl-C"])
def test_kills_at_random_moments(kind, plan, undisturbed, tmp_path, long):
    random = np.random.default_rng(int(kind))
    wanted = 150 if long else 3
    start = time.monotonic()
    number = child(plan, tmp_path / "timed")
    assert ended(number, 100) == 0
    usual = time.monotonic() - start
    kills = runs = 0
    before: list[str] = []
    folder = tmp_path / f"run {runs}"
    while kills < wanted:
        number = child(plan, folder)
        code = ended(number, random.uniform(0, 0.6 * usual))
        if code is None:
            os.kill(number, kind)
            code = ended(number, 100)
            assert code is not None, "it hangs"
            kills += 1
        if os.WIFEXITED(code) and os.WEXITSTATUS(code) == 0:
            assert comparable(folder) == undisturbed
            assert status(folder).state == "finished"
            assert not (folder / lock.LOCK).exists()
            runs, before = runs + 1, []
            folder = tmp_path / f"run {runs}"
            continue
        expected = (-9,) if kind == signal.SIGKILL else (130, -signal.SIGINT)
        assert os.waitstatus_to_exitcode(code) in expected
        after = whole(folder) if folder.exists() else []
        assert set(before) <= set(after)
        before = after
    number = child(plan, folder)
    assert ended(number, 100) == 0
    assert comparable(folder) == undisturbed
    assert list(folder.rglob("*.partial")) == [] or kind == signal.SIGKILL


def test_the_disk_is_full_at_any_write(plan, undisturbed, tmp_path, long, monkeypatch):
    """Each write fails in turn; then there is room again, and the run goes on."""
    real = os.fsync
    folder, moment, failures = tmp_path / "run", 0, 0
    step = 1 if long else 5

    def full_at(count):
        state = {"left": count}

        def fsync(descriptor):
            state["left"] -= 1
            if state["left"] < 0:
                raise OSError(errno.ENOSPC, "No space left on device")
            real(descriptor)

        return fsync

    while True:
        monkeypatch.setattr(store.os, "fsync", full_at(moment))
        try:
            execute(plan, RunFolder(folder), command="")
        except IncompleteRunError as error:
            said = str(error)
        else:
            break
        failures += 1
        assert "No space left on device" in said
        assert "--resume" in said
        assert not list(folder.rglob("*.partial"))
        whole(folder)
        moment = step
    assert failures >= 4
    assert comparable(folder) == undisturbed


def test_the_clock_is_set_while_it_runs(plan, undisturbed, tmp_path, monkeypatch):
    """Neither the lock nor the time left looks at it."""
    clock = iter(np.random.default_rng(0).uniform(0, 4e9, 10**6))
    monkeypatch.setattr(time, "time", lambda: float(next(clock)))
    execute(plan, RunFolder(tmp_path), command="")
    found = status(tmp_path)
    assert found.state == "finished"
    assert 0 < found.elapsed < 100
    monkeypatch.undo()
    assert comparable(tmp_path) == undisturbed


class Killer:
    """Kills a worker for good at every fourth task, until enough are lost."""

    def __init__(self, executor: Processes, losses: int) -> None:
        self.executor, self.losses = executor, losses
        self.tasks = 0

    def start(self, total: float) -> None:
        pass

    def advance(self, gradients: float) -> None:
        pass

    def task(self, name: str) -> None:
        self.tasks += 1
        busy = [w for w in self.executor._workers if w.work is not None]
        if self.tasks % 4 == 0 and busy and self.executor.lost < self.losses:
            os.kill(busy[self.tasks % len(busy)].process.pid, signal.SIGKILL)


@pytest.mark.slow
def test_workers_are_lost_again_and_again(plan, undisturbed, tmp_path):
    lost = runs = 0
    while lost < 20:
        executor = Processes(2)
        folder = tmp_path / f"run {runs}"
        killer = Killer(executor, 7)
        execute(plan, RunFolder(folder), command="", executor=executor, progress=killer)
        assert comparable(folder) == undisturbed
        lost, runs = lost + executor.lost, runs + 1
        assert runs < 20
