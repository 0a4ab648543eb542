"""Audits on a Ray cluster that the test starts: the same figures, whatever is lost on the way."""

from __future__ import annotations

import os
import signal

import pytest

from auditor.engine import execute
from auditor.errors import InputError
from auditor.executors import choose_executor
from auditor.executors.on_ray import Ray
from auditor.store import RunFolder

pytest.importorskip("ray")


class Killer:
    """Kills a worker for good when the fourth task begins."""

    def __init__(self, executor: Ray) -> None:
        self.executor = executor
        self.tasks = 0

    def start(self, total: float) -> None:
        pass

    def advance(self, gradients: float) -> None:
        pass

    def task(self, name: str) -> None:
        self.tasks += 1
        if self.tasks == 4:
            number, _ = next(at for at in self.executor._running.values() if at[1] is not None)
            process = self.executor._names[number].split()[-1]
            os.kill(int(process), signal.SIGKILL)


# Ray's own clean-up leaves sockets and processes to the garbage collector.
@pytest.mark.filterwarnings("ignore")
@pytest.mark.slow
def test_two_workers_one_of_them_killed_find_what_one_process_finds(plan, alone, figures, tmp_path):
    executor = Ray(2)
    shared = execute(
        plan, RunFolder(tmp_path), command="", executor=executor, progress=Killer(executor)
    )
    assert figures(shared) == figures(alone)
    assert executor.lost == 1
    workers = {event["worker"] for event in RunFolder(tmp_path).events() if "worker" in event}
    assert len(workers) in (2, 3)
    assert all(worker.startswith("ray ") for worker in workers)


@pytest.mark.parametrize("kind", ["rays", "ray2:x", "", "here"])
def test_unknown_executors_are_refused(kind):
    with pytest.raises(InputError, match="Write processes, ray or ray:ADDRESS"):
        choose_executor(kind=kind, workers=2)


def test_an_address_is_not_limited_by_the_cores_here():
    executor = choose_executor(kind="ray:10.0.0.1:6379", workers=500)
    assert isinstance(executor, Ray)
    assert executor.slots == 500
    executor.close()  # never started
