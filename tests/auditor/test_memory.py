"""Batches that fit into memory, on a model that runs out of it."""

from __future__ import annotations

import functools

import pytest
import torch
from torch import nn

import auditor
from auditor.engine import execute
from auditor.errors import IncompleteRunError, InputError
from auditor.evaluation import Evaluator
from auditor.memory import halving, is_out_of_memory, largest_batch, parse_memory, saved_bytes
from auditor.plan import make_plan
from auditor.store import RunFolder


class Small(nn.Module):
    """A device with room for so many images at a time, once it is made small."""

    room = 10**9

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x):
        if len(x) > Small.room:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return self.network(x)


@pytest.fixture
def room(monkeypatch):
    return lambda images: monkeypatch.setattr(Small, "room", images)


@pytest.fixture
def small(networks):
    return auditor.from_network(Small(networks[0]), input_shape=(1, 12, 12), mean=[0], std=[1])


GLANCE = {"effort": "glance", "sigmas": (0.1, 0.2), "samples": 6}


def test_an_audit_goes_on_with_half_the_batch_and_says_so(small, images, room, tmp_path):
    planned = make_plan(small, images, batch=48, **GLANCE)
    usual = execute(planned, RunFolder(tmp_path / "usual"), command="")
    room(10)
    halved = execute(planned, RunFolder(tmp_path / "halved"), command="")
    (note,) = set(halved.notes) - set(usual.notes)
    assert "batches of 48 images: from then on they had 6" in note
    assert halved.environment["batch"] == usual.environment["batch"]
    for one, two in zip(usual.measurements, halved.measurements, strict=True):
        pairs = zip(one.values, two.values, strict=True)
        assert all(a == pytest.approx(b, rel=1e-3, abs=1e-4) for a, b in pairs), one.metric
    assert halved.costs == usual.costs  # failed attempts are not counted


def test_a_plan_starts_with_a_batch_that_fits(small, images, room):
    room(20)
    assert make_plan(small, images, batch=64, **GLANCE).batch == 16


def test_not_even_one_image(small, images, room, tmp_path):
    planned = make_plan(small, images, **GLANCE)
    room(0)
    with pytest.raises(IncompleteRunError, match=r"batch of one image.*--resume"):
        execute(planned, RunFolder(tmp_path), command="")


def test_other_errors_are_not_taken_for_it():
    def fail(batch):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="mat1"):
        halving(8, fail)


@pytest.mark.parametrize(
    ("error", "out"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), True),
        (MemoryError(), True),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), True),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: not enough memory"), True),
        (RuntimeError("shape mismatch"), False),
    ],
)
def test_what_running_out_of_memory_looks_like(error, out):
    assert is_out_of_memory(error) is out


def test_the_cpu_says_so_itself():
    with pytest.raises((RuntimeError, MemoryError)) as caught:
        torch.empty(2**62 // 8, dtype=torch.float64)
    assert is_out_of_memory(caught.value)


@pytest.mark.parametrize(
    ("text", "size"),
    [("4G", 4 * 2**30), ("1.5GiB", 1.5 * 2**30), ("800m", 800 * 2**20), ("512", 512 * 2**20)],
)
def test_sizes(text, size):
    assert parse_memory(text) == size


@pytest.mark.parametrize("text", ["", "G", "-1G", "1e9G", "0", "4 gigs", "9" * 400, "nan", "1.G"])
def test_no_sizes(text):
    with pytest.raises(InputError, match="Write 4G or 800M"):
        parse_memory(text)


def test_what_a_gradient_keeps(small):
    evaluator = Evaluator(model=small, batch=8)
    one, four = (saved_bytes(evaluator, torch.rand(n, 1, 12, 12)) for n in (1, 4))
    # By hand, for one image: the ramp's output, which pooling needs too, and pooling's indices.
    least = 4 * 6 * 144 + 8 * 6 * 36
    assert least <= one <= 1.5 * least
    assert four == pytest.approx(4 * one, rel=0.1)


def test_the_cap(small):
    evaluator = Evaluator(model=small, batch=64)
    x = torch.rand(1, 1, 12, 12)
    each = 1.5 * saved_bytes(evaluator, x)
    room = functools.partial(largest_batch, evaluator, x, resident=1000)
    assert room(memory=int(1001 + 5 * each)) == 5
    assert room(memory=10**9) == 64
    with pytest.raises(InputError, match="too little"):
        room(memory=1000)


def test_double_precision(here):
    """Rounding in float32 is what separates the two, and another precision is another run."""
    asked = {"weights": "model.safetensors", "input_size": 12}
    single = auditor.load_model("net.py:network", **asked)
    double = auditor.load_model("net.py:network", **asked, dtype="float64")
    assert (single.dtype, double.dtype) == (torch.float32, torch.float64)
    x = auditor.load_images("few.npz", input_shape=single.input_shape).pixels
    assert double(x).dtype == torch.float64
    error = (double(x) - single(x)).abs().max()
    assert 0 < error < 1e-4
    maps, _ = Evaluator(model=double, batch=4).gradients(x, torch.zeros(12, dtype=torch.long))
    assert maps.dtype == torch.float32
    images = auditor.load_images("few.npz", input_shape=single.input_shape)
    result = auditor.audit(double, images, **GLANCE)
    assert len(result.measurements) > 10


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dtype": "float16"}, "Write float32 or float64"),
        ({"dtype": "float64", "device": "mps"}, "mps has none"),
    ],
)
def test_other_precisions_are_refused(here, options, message):
    with pytest.raises(InputError, match=message):
        auditor.load_model("net.py:network", input_size=12, **options)


@pytest.mark.filterwarnings("ignore:`torch.jit")
def test_a_graph_keeps_its_precision(here, networks):
    torch.jit.trace(networks[0], torch.rand(1, 1, 12, 12)).save("net.ts")
    with pytest.raises(InputError, match="precision written into it"):
        auditor.load_model("net.ts", input_size=(1, 12, 12), dtype="float64")


def test_memory_on_the_command_line(run, here):
    line = ["audit", "--model", "net.py:network", "--input-size", "12", "--images", "few.npz"]
    line += ["--effort", "glance", "--dry-run"]
    code, _, err = run([*line, "--memory", "64G"])
    assert code == 0, err
    code, _, err = run([*line, "--memory", "1M"])
    assert code == 2
    assert err.startswith("Error: --memory: 1 MiB are too little.")
