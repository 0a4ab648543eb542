"""How far a run is, told from its folder."""

from __future__ import annotations

import dataclasses
import json

import pytest

from auditor import cost
from auditor.engine import execute
from auditor.errors import InputError
from auditor.expected import expected_tasks, kind_of
from auditor.lock import Lock
from auditor.plan import make_plan
from auditor.status import status
from auditor.store import RunFolder


class Interrupted:
    """Presses Ctrl-C when a task begins."""

    def __init__(self, task: str) -> None:
        self.at = task

    def start(self, total: float) -> None:
        pass

    def advance(self, gradients: float) -> None:
        pass

    def task(self, name: str) -> None:
        if name == self.at:
            raise KeyboardInterrupt


@pytest.fixture(scope="module")
def plan(classifier, images):
    """Six parts at three σ, without attacks."""
    planned = make_plan(classifier, images, effort="glance", sigmas=(0.1, 0.2), samples=4)
    return dataclasses.replace(planned, settings=dataclasses.replace(planned.settings, chunk=2))


def test_a_run_that_was_interrupted_and_resumed(plan, tmp_path):
    folder = RunFolder(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        execute(plan, folder, command="", progress=Interrupted("sigma-1-3"))
    stopped = status(tmp_path)
    assert (stopped.state, stopped.holder) == ("stopped", None)
    assert stopped.reason == "KeyboardInterrupt"
    kinds = {kind.name: (kind.done, kind.tasks) for kind in stopped.kinds}
    assert kinds == {"clean": (1, 1), "sigma-0": (4, 6), "sigma-1": (3, 6), "sigma-2": (3, 6)}
    assert stopped.remaining > 0
    execute(plan, folder, command="")
    finished = status(tmp_path)
    assert (finished.state, finished.remaining, finished.share) == ("finished", 0, 1)
    assert all(kind.done == kind.tasks for kind in finished.kinds)
    assert finished.elapsed > stopped.elapsed
    events = folder.events()
    assert [e["event"] for e in events if e["event"] != "task"] == [
        *("started", "stopped"),
        *("started", "finished"),
    ]
    tasks = [event for event in events if event["event"] == "task"]
    assert len({event["task"] for event in tasks}) == len(tasks) == 19
    assert all(event["worker"] == "here" for event in tasks)
    one = next(kind for kind in finished.kinds if kind.name == "sigma-1")
    # For each image two maps of four draws, the control's, and the unsmoothed one.
    assert one.gradients == 12 * (2 * 4 + 4 + 1)


def test_what_is_expected_is_what_is_predicted(plan, classifier, images, twin):
    expected = expected_tasks(plan)
    assert {kind: of.tasks for kind, of in expected.items()} == {
        "clean": 1,
        **{f"sigma-{i}": 6 for i in range(3)},
    }
    whole = make_plan(classifier, images, twins=[twin], effort="quick", samples=6, budget=120)
    kinds = expected_tasks(whole)
    # Whether there will be follow-up measurements depends on the profile.
    assert {kind.partition("-")[0] for kind in kinds} - {"draws"} == {
        *("clean", "sigma", "transfer", "quality", "doubled", "gallery", "bounds"),
    }
    total = sum(of.tasks * of.gradients for of in kinds.values())
    assert total == pytest.approx(cost.gradients(whole.estimate.costs), rel=0.1)


def write(folder, *, expected, tasks, workers=1):
    """A run folder as a run leaves it."""
    (folder / "run.json").write_text("{}")
    (folder / "tasks").mkdir()
    run = RunFolder(folder)
    run.log("started", workers=workers, expected=expected)
    elapsed = 0.0
    for name, seconds in tasks:
        elapsed += seconds / workers
        (folder / "tasks" / f"{name}.npz").touch()
        run.log("task", task=name, seconds=seconds, gradients=10, elapsed=elapsed)


def test_time_left_after_the_first_tenth(tmp_path):
    """Kinds that were seen count by their own mean, others by gradients at the usual rate."""
    expected = {"sigma-0": [10, 100.0], "sigma-1": [10, 300.0], "quality": [2, 50.0]}
    tasks = [("sigma-0-0", 12.0), ("sigma-1-0", 28.0)]
    write(tmp_path, expected=expected, tasks=tasks)
    found = status(tmp_path)
    assert found.remaining == pytest.approx(9 * 12 + 9 * 28 + 2 * 50 * 40 / 400)
    assert found.elapsed == 40
    assert 0.05 < found.share < 0.15


def test_workers_share_the_time_left(tmp_path):
    write(tmp_path, expected={"sigma-0": [10, 1.0]}, tasks=[("sigma-0-0", 6.0)], workers=3)
    assert status(tmp_path).remaining == pytest.approx(9 * 6 / 3)


def test_a_run_that_nobody_can_foretell(tmp_path):
    write(tmp_path, expected={"sigma-0": [10, 1.0]}, tasks=[])
    assert status(tmp_path).remaining is None


def test_who_is_at_it(tmp_path):
    write(tmp_path, expected={"clean": [1, 1.0]}, tasks=[])
    assert status(tmp_path).state == "stopped"
    with Lock(tmp_path):
        found = status(tmp_path)
        assert found.state == "running"
        assert "process" in found.holder.words


@pytest.mark.parametrize(
    "line",
    [
        "\udcff",
        "[]",
        '{"event": 3}',
        '{"event": "started", "expected": {"a": [1e400, "x"], "b": 3, "c": [1, 2, 3]}}',
        '{"event": "started", "workers": 1e300, "expected": []}',
        '{"event": "task", "task": [], "seconds": "long", "elapsed": 1e999, "lost_workers": {}}',
        "[" * 100_000,
    ],
)
def test_a_log_that_says_anything(line, tmp_path):
    write(tmp_path, expected={"clean": [1, 1.0]}, tasks=[("clean", 1.0)])
    log = tmp_path / "audit.jsonl"
    log.write_bytes(log.read_bytes() + line.encode("utf-8", "surrogateescape") + b"\n")
    assert status(tmp_path).state == "stopped"


@pytest.mark.parametrize(
    ("task", "kind"),
    [("clean", "clean"), ("sigma-3-17", "sigma-3"), ("doubled-2-4-0", "doubled"), ("x-1", "x")],
)
def test_kinds(task, kind):
    assert kind_of(task) == kind


def test_no_run(tmp_path):
    with pytest.raises(InputError, match="no run here"):
        status(tmp_path)


def test_the_command(tmp_path, run):
    write(tmp_path, expected={"sigma-0": [4, 5.0]}, tasks=[("sigma-0-0", 60.0)])
    code, out, err = run(["status", str(tmp_path)])
    assert (code, err) == (0, "")
    assert "0:01:00, about 0:03:00 left" in out
    assert "--resume goes on from here" in out
    assert max(map(len, out.splitlines()[-4:])) <= 80
    code, out, _ = run(["status", str(tmp_path), "--json"])
    assert json.loads(out)["kinds"][0] == {
        "name": "sigma-0",
        **{"done": 1, "tasks": 4, "seconds": 60.0, "gradients": 10, "forwards": 0},
    }
    assert run(["status", str(tmp_path / "none")])[0] == 2
