"""Two processes on one run folder, and what the dead leave behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time

import pytest

from auditor import lock
from auditor.errors import IncompleteRunError, InputError
from auditor.lock import LOCK, Lock, read_holder, refuse_if_held


@pytest.fixture
def elsewhere(monkeypatch):
    """Make what was locked before look as if on another machine."""

    def move(path, **changes):
        record = json.loads((path / LOCK).read_text()) | {"machine": "another"} | changes
        (path / LOCK).write_text(json.dumps(record))

    return move


def test_a_second_process_is_refused_and_the_first_not_disturbed(tmp_path):
    with Lock(tmp_path):
        before = read_holder(tmp_path)
        with pytest.raises(InputError, match=rf"process {os.getpid()} on .* is at this run"):
            Lock(tmp_path).__enter__()
        with pytest.raises(InputError, match="auditor status"):
            refuse_if_held(tmp_path)
        assert read_holder(tmp_path) == before
    assert list(tmp_path.iterdir()) == []
    refuse_if_held(tmp_path)


def test_the_lock_of_a_dead_process_is_taken_over_at_once(tmp_path):
    other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(100)"])
    with Lock(tmp_path):
        record = json.loads((tmp_path / LOCK).read_text())
    record |= {"pid": other.pid, "process": lock._process(other.pid), "token": "other"}
    (tmp_path / LOCK).write_text(json.dumps(record))
    with pytest.raises(InputError, match=f"process {other.pid} on"):
        Lock(tmp_path).__enter__()
    other.kill()
    other.wait()
    start = time.monotonic()
    with Lock(tmp_path):
        assert time.monotonic() - start < 2
        assert read_holder(tmp_path).pid == os.getpid()


def test_a_number_that_another_process_has_now_is_not_the_holder(tmp_path, monkeypatch):
    with Lock(tmp_path):
        record = json.loads((tmp_path / LOCK).read_text()) | {"process": "started 1"}
        (tmp_path / LOCK).write_text(json.dumps(record))
        assert read_holder(tmp_path).alive is False


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b"[]", b'{"pid": "x"}'])
def test_a_damaged_lock_is_taken_over_after_a_while(content, tmp_path):
    (tmp_path / LOCK).write_bytes(content)
    with Lock(tmp_path, beat=0.05):
        assert read_holder(tmp_path).pid == os.getpid()


def test_one_of_another_machine_that_shows_no_life_is_taken_over(tmp_path, elsewhere):
    with Lock(tmp_path):
        elsewhere(tmp_path)
        with Lock(tmp_path, beat=0.05):
            assert read_holder(tmp_path).machine != "another"


def test_one_of_another_machine_that_shows_life_is_not(tmp_path, elsewhere, monkeypatch):
    with Lock(tmp_path):
        elsewhere(tmp_path)
        # Its clock may be anything: only changes count.
        late = threading.Timer(0.1, elsewhere, (tmp_path,), {"beat": 7, "elapsed": -5.0})
        late.start()
        with pytest.raises(InputError, match="is at this run"):
            Lock(tmp_path, beat=0.1).__enter__()
        late.join()


def test_signs_of_life(tmp_path):
    with Lock(tmp_path, beat=0.01):
        deadline = time.monotonic() + 20
        while read_holder(tmp_path).beat < 3:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert read_holder(tmp_path).elapsed > 0


def test_who_lost_the_lock_leaves_it_to_the_other(tmp_path):
    with Lock(tmp_path):
        (tmp_path / LOCK).write_text(
            json.dumps(json.loads((tmp_path / LOCK).read_text()) | {"token": "other"})
        )
    assert read_holder(tmp_path).token == "other"


def test_of_two_who_take_over_one_gives_way(tmp_path, monkeypatch):
    (tmp_path / LOCK).write_text("{")

    def taken(seconds):
        if seconds == 0.005:  # between writing and looking again
            (tmp_path / LOCK).write_text(json.dumps(other))
        else:
            real(seconds)

    other = {"host": "h", "pid": 1, "machine": "m", "process": "", "token": "t"}
    other |= {"beat": 0, "elapsed": 0.0}
    real = time.sleep
    monkeypatch.setattr(lock.time, "sleep", taken)
    with pytest.raises(InputError, match="process 1 on h"):
        Lock(tmp_path, beat=0.05).__enter__()


def test_a_folder_that_cannot_be_written(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(lock.os, "open", full)
    with pytest.raises(IncompleteRunError, match="No space left on device"):
        Lock(tmp_path).__enter__()
