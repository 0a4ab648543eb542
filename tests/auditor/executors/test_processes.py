"""Audits in worker processes: the same figures, whatever is lost on the way."""

from __future__ import annotations

import os
import signal

import pytest
import torch
from torch import nn

import auditor
from auditor.engine import execute
from auditor.errors import IncompleteRunError, InputError
from auditor.executors import Here, Processes, choose_executor, processes
from auditor.executors.parcel import pack, unpack
from auditor.plan import make_plan
from auditor.run import Run
from auditor.store import RunFolder


class Killer:
    """Presses Ctrl-C in the workers at the second task, kills one for good at the fourth."""

    def __init__(self, executor: Processes) -> None:
        self.executor = executor
        self.tasks = 0
        self.killed = False

    def start(self, total: float) -> None:
        self.total, self.done = total, 0.0

    def advance(self, gradients: float) -> None:
        self.done += gradients

    def task(self, name: str) -> None:
        self.tasks += 1
        if self.tasks == 2:
            for worker in self.executor._workers:
                os.kill(worker.process.pid, signal.SIGINT)
        busy = [worker for worker in self.executor._workers if worker.work is not None]
        if self.tasks >= 4 and busy and not self.killed:  # both may be between two tasks
            self.killed = True
            os.kill(busy[0].process.pid, signal.SIGKILL)


def test_two_workers_one_of_them_killed_find_what_one_process_finds(plan, alone, figures, tmp_path):
    executor = Processes(2)
    killer = Killer(executor)
    shared = execute(
        plan, RunFolder(tmp_path / "shared"), command="", executor=executor, progress=killer
    )
    assert figures(shared) == figures(alone)
    assert executor.lost == 1
    assert executor._workers == []
    # What workers spend is seen here too.
    spent = sum(cost.gradients + cost.forwards / 3 for cost in shared.costs)
    assert killer.done == pytest.approx(spent)


class Backwards(Here):
    """Takes two pieces of work at a time and does the last first."""

    slots = 2

    def __init__(self) -> None:
        super().__init__()
        self.order: list[str] = []
        self.pieces: list = []

    def submit(self, work) -> None:
        self.pieces.append(work)

    def wait(self):
        super().submit(self.pieces.pop())
        finished = super().wait()
        self.order.append(finished.name)
        return finished


def test_the_order_of_tasks_changes_nothing(plan, alone, figures, tmp_path):
    executor = Backwards()
    other = execute(plan, RunFolder(tmp_path / "run"), command="", executor=executor)
    assert figures(other) == figures(alone)
    order = executor.order
    # Those at σ > 0 do not wait for all those at σ = 0, but for that of their own images.
    assert order.index("sigma-1-1") < order.index("sigma-0-0") < order.index("sigma-1-0")


@pytest.mark.parametrize(
    ("workers", "threads", "message"),
    [
        (0, None, "give at least 1"),
        (3, None, "--workers 3 with 1 thread each: more than the 2 cores here"),
        (2, 2, "--workers 2 with 2 threads each"),
    ],
)
def test_more_threads_than_cores_are_refused(workers, threads, message, monkeypatch):
    monkeypatch.setattr(processes, "available_cores", lambda: 2)
    with pytest.raises(InputError, match=message):
        choose_executor(workers=workers, threads=threads)


def test_one_worker_is_this_process():
    assert isinstance(choose_executor(), Here)


class TestParcels:
    """What a worker gets is the same as here."""

    def bench(self, plan, folder):
        return Run(plan, RunFolder(folder), None).bench

    def loaded(self, here, **options):
        classifier = auditor.load_model(
            "net.py:network", weights="model.safetensors", input_size=12, **options
        )
        twin = auditor.load_model("net.py:network", weights="twin.safetensors", input_size=12)
        images = auditor.load_images("few.npz", input_shape=classifier.input_shape)
        return make_plan(classifier, images, twins=[twin], effort="quick", sigmas=(0.1,))

    def test_models_are_loaded_again_by_name(self, here, tmp_path):
        bench = self.bench(self.loaded(here), tmp_path)
        parcel = pack(bench)
        assert b"_user_" not in parcel  # no class of the user's file
        again = unpack(parcel)
        x = bench.images.batch(range(12))
        assert torch.equal(again.images.batch(range(12)), x)
        pairs = zip(
            (bench.classifier, *bench.twins, bench.control),
            (again.classifier, *again.twins, again.control),
            strict=True,
        )
        for one, two in pairs:
            assert (one.name, one.sha256()) == (two.name, two.sha256())
            assert torch.equal(one(x), two(x))
        assert again.settings == bench.settings

    def test_a_file_that_changed_is_noticed(self, here, tmp_path):
        parcel = pack(self.bench(self.loaded(here), tmp_path))
        (here / "model.safetensors").unlink()
        (here / "model.safetensors").write_bytes((here / "twin.safetensors").read_bytes())
        with pytest.raises(IncompleteRunError, match="Put back what changed during the audit"):
            unpack(parcel)

    def test_the_users_own_code_is_found_again(self, here, tmp_path):
        (here / "own.py").write_text(
            "import torch\n"
            "def explain(model, x, target):\n"
            "    x = x.requires_grad_()\n"
            "    score = model(x).gather(1, target[:, None]).sum()\n"
            "    return torch.autograd.grad(score, x, create_graph=True)[0].abs()\n"
            "def pixels(picture):\n"
            "    gray = bytearray(picture.convert('L').tobytes())\n"
            "    return torch.tensor(gray).reshape(1, 12, 12) / 255\n"
            "def prepare():\n"
            "    return (lambda picture: pixels(picture.resize((12, 12))), lambda x: x * 1.0)\n"
        )
        plan = self.loaded(here)
        classifier = auditor.load_model(
            "net.py:network", weights="model.safetensors", preprocess="own.py:prepare"
        )
        planned = make_plan(
            classifier, plan.images, effort="glance", sigmas=(0.1,), explain="own.py:explain"
        )
        bench = self.bench(planned, tmp_path)
        again = unpack(pack(bench))
        assert again.method.price == bench.method.price
        assert again.method.differentiable == bench.method.differentiable
        x = bench.images.batch([0, 1])
        target = torch.tensor([1, 2])
        maps = [
            b.method(b.evaluator("x"), x, target, images=[0, 1], draw=0)[0] for b in (bench, again)
        ]
        assert torch.equal(*maps)
        assert torch.equal(again.classifier(x), bench.classifier(x))

    def test_what_is_only_in_this_process_is_refused(self, images, tmp_path, networks):
        class Local(nn.Sequential):
            pass

        network = auditor.from_network(Local(*networks[0]), input_shape=(1, 12, 12))
        plan = make_plan(network, images, effort="glance", sigmas=(0.1,))
        with pytest.raises(InputError, match="cannot be sent to worker processes"):
            pack(self.bench(plan, tmp_path))
