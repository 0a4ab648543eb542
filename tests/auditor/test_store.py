from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import pytest

from auditor.errors import IncompleteRunError, InputError
from auditor.store import RunFolder, write_atomically, write_npz

REQUEST = {"model": "abc", "samples": 8, "sigmas": (0.0, 0.1)}
FIXED = {"created": "2026-01-01T00:00:00+00:00", "command": "auditor audit"}


@pytest.fixture
def full(monkeypatch):
    """A disk that is full: ``full("fsync")`` fails before the content is safe."""

    def make(function: str) -> None:
        def fail(*_: object, **__: object) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        if function == "fsync":
            monkeypatch.setattr(os, "fsync", fail)
        else:
            monkeypatch.setattr(Path, function, fail)

    return make


@pytest.mark.parametrize("function", ["fsync", "replace"])
def test_a_failed_write_leaves_the_old_file(tmp_path, full, function):
    file = tmp_path / "audit.json"
    write_atomically(file, b"old")
    full(function)
    with pytest.raises(IncompleteRunError, match="No space left") as caught:
        write_atomically(file, b"new and longer")
    assert "--resume" in str(caught.value)
    assert file.read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["audit.json"]


def test_a_killed_write_leaves_the_old_file(tmp_path, monkeypatch):
    file = tmp_path / "audit.json"
    write_atomically(file, b"old")

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", killed)
    with pytest.raises(KeyboardInterrupt):
        write_atomically(file, b"new")
    monkeypatch.undo()
    assert file.read_bytes() == b"old"
    write_atomically(file, b"newer")
    assert [path.name for path in tmp_path.iterdir()] == ["audit.json"]


def test_same_arrays_same_bytes(tmp_path):
    arrays = {"b": np.arange(3.0), "a": np.array(2)}
    for name in ("one", "two"):
        write_npz(tmp_path / name, arrays)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_a_task_is_done_once_it_is_on_disk(tmp_path, full):
    folder = RunFolder(tmp_path)
    assert not folder.done("clean")
    folder.save("clean", {"targets": np.arange(4)})
    assert folder.done("clean")
    assert folder.load("clean")["targets"].tolist() == [0, 1, 2, 3]
    full("replace")
    with pytest.raises(IncompleteRunError):
        folder.save("next", {"targets": np.arange(4)})
    assert not folder.done("next")


@pytest.mark.parametrize(
    ("function", "write"),
    [
        ("open", lambda folder: folder.log("task")),
        ("mkdir", lambda folder: folder.save("clean", {"targets": np.arange(4)})),
    ],
    ids=["log", "tasks"],
)
def test_every_failure_to_write_is_told(tmp_path, full, function, write):
    folder = RunFolder(tmp_path)
    full(function)
    with pytest.raises(IncompleteRunError, match="No space left"):
        write(folder)


def test_a_damaged_task_is_told(tmp_path):
    folder = RunFolder(tmp_path)
    folder.save("clean", {"targets": np.arange(40), "other": np.ones(3)})
    file = tmp_path / "tasks" / "clean.npz"
    whole = file.read_bytes()
    random = np.random.default_rng(0)
    damaged = [b"", b"no archive", whole[: len(whole) // 2], whole[:-1], whole[len(whole) // 2 :]]
    for position in random.integers(0, len(whole), 200):
        flipped = bytearray(whole)
        flipped[position] ^= int(random.integers(1, 256))
        damaged.append(bytes(flipped))
    told = []
    for content in damaged:
        file.write_bytes(content)
        try:
            loaded = folder.load("clean")
        except IncompleteRunError as error:
            told.append(str(error))
        else:  # a byte that nothing reads, as a date; values are covered by a checksum
            for name, values in {"targets": np.arange(40), "other": np.ones(3)}.items():
                assert name not in loaded or np.array_equal(loaded[name], values)
    assert len(told) > len(damaged) // 2
    assert all(str(file) in text and "Delete it, then use --resume" in text for text in told)


def test_a_new_run_and_its_resumption(tmp_path):
    path = tmp_path / "deep" / "run"
    folder = RunFolder.check(path, resume=False)
    assert not path.exists()  # nothing is written yet
    assert folder.open(REQUEST, FIXED) == FIXED
    again = RunFolder.check(path, resume=True)
    assert again.open(REQUEST, {"created": "later", "command": "other"}) == FIXED


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"samples": 9}, "samples: 8 → 9"),
        ({"sigmas": (0.0, 0.2)}, "sigmas: [0.0, 0.1] → [0.0, 0.2]"),
        ({"twin b": "def"}, "twin b: null → def"),
        ({"model": "x" * 100}, "model: abc → xxx"),
    ],
)
def test_other_settings_are_named(tmp_path, changes, named):
    RunFolder(tmp_path).open(REQUEST, FIXED)
    with pytest.raises(InputError) as caught:
        RunFolder(tmp_path).open(REQUEST | changes, FIXED)
    assert named in str(caught.value)
    assert len(str(caught.value).splitlines()) == 2
    unchanged = set(REQUEST) - set(changes)
    assert not any(f"{name}: " in str(caught.value) for name in unchanged)


def test_what_cannot_be_a_run_folder(tmp_path):
    used = tmp_path / "used"
    used.mkdir()
    (used / "thesis.txt").write_text("years of work")
    with pytest.raises(InputError, match="not empty"):
        RunFolder.check(used, resume=False)
    with pytest.raises(InputError, match="no run to resume"):
        RunFolder.check(used, resume=True)
    with pytest.raises(InputError, match="no run to resume"):
        RunFolder.check(tmp_path / "nothing", resume=True)
    with pytest.raises(InputError, match="is a file"):
        RunFolder.check(used / "thesis.txt", resume=False)
    for bad in (used / "thesis.txt" / "run", tmp_path / ("x" * 300)):
        folder = RunFolder.check(bad, resume=False)
        with pytest.raises(InputError, match="cannot be made"):
            folder.open(REQUEST, FIXED)
    RunFolder.check(tmp_path / "nothing", resume=False)
    (tmp_path / "empty").mkdir()
    RunFolder.check(tmp_path / "empty", resume=False)


def test_a_start_that_was_killed_can_be_repeated(tmp_path, monkeypatch):
    path = tmp_path / "run"

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", killed)
    with pytest.raises(KeyboardInterrupt):
        RunFolder.check(path, resume=False).open(REQUEST, FIXED)
    monkeypatch.undo()
    assert RunFolder.check(path, resume=False).open(REQUEST, FIXED) == FIXED


@pytest.mark.parametrize("content", ["", "[]", "{", '{"request": 3}', "\udcff", '{"request": {}}'])
def test_a_damaged_request(tmp_path, content):
    (tmp_path / "run.json").write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(InputError, match="Start a new run"):
        RunFolder.check(tmp_path, resume=True).open(REQUEST, FIXED)


def test_the_log_has_a_line_for_each_event(tmp_path):
    folder = RunFolder(tmp_path)
    assert folder.events() == []
    folder.log("task", task="clean\n\x1b[2J", seconds=1.5)
    folder.log("finished")
    one, two = folder.events()
    assert one["time"].endswith("+00:00")
    assert (one["event"], one["task"], two["event"]) == ("task", "clean\n\x1b[2J", "finished")
    assert "\x1b" not in (tmp_path / "audit.jsonl").read_text()


def test_half_a_line_in_the_log_costs_that_line_alone(tmp_path):
    folder = RunFolder(tmp_path)
    folder.log("started")
    log = tmp_path / "audit.jsonl"
    log.write_bytes(log.read_bytes() + b'{"event": "ta\xff')
    folder.log("task")
    assert [event["event"] for event in folder.events()] == ["started", "task"]
