"""Damaged files of every kind: an error of ours with a message, or a result; nothing else."""

from __future__ import annotations

import io
import json
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import nn

from auditor.classmap import MAPS, read_class_map
from auditor.decoding import UnusableImageError, decode
from auditor.engine import execute
from auditor.errors import AuditorError
from auditor.formats.vetting import vet_exported, vet_torchscript
from auditor.images import load_images
from auditor.labels import read_table
from auditor.lock import read_holder
from auditor.results import AuditResult
from auditor.status import status
from auditor.store import RunFolder
from auditor.weights import load_weights
from profiles import ProfileError, load_profile

Try = Callable[[Path, bytes], object]

edits = st.lists(
    st.tuples(
        st.sampled_from(["set", "cut", "insert", "repeat", "swap"]),
        st.floats(0, 1, exclude_max=True),
        st.one_of(
            st.binary(min_size=1, max_size=8), st.sampled_from([b"\0", b"9" * 40, b"[" * 99])
        ),
    ),
    min_size=1,
    max_size=6,
)


def damaged(content: bytes, changes: list[tuple[str, float, bytes]]) -> bytes:
    for how, place, piece in changes:
        at = int(place * len(content))
        if how == "set":
            content = content[:at] + piece + content[at + len(piece) :]
        elif how == "cut":
            content = content[:at]
        elif how == "insert":
            content = content[:at] + piece + content[at:]
        elif how == "repeat":
            content = content[:at] + content[at // 2 :]
        else:
            content = content[at:] + content[:at]
    return content


def picture(form: str) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, form)
    return content.getvalue()


def npz() -> bytes:
    content = io.BytesIO()
    x = np.random.default_rng(0).integers(0, 256, (4, 1, 12, 12), dtype=np.uint8)
    np.savez_compressed(content, x=x, y=np.arange(4))
    return content.getvalue()


def archive(**files: bytes) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as file:
        for name, data in files.items():
            file.writestr(name.replace("__", "/"), data)
    return content.getvalue()


CLASSES = MAPS[1]
NETWORK = nn.Linear(3, 2)
SHAPE = (1, 12, 12)
IDX = b"\0\0\x08\x03\0\0\0\x02\0\0\0\x0c\0\0\0\x0c" + bytes(range(144)) * 2
BATCH = {b"data": np.zeros((2, 3072), np.uint8), b"labels": [1, 2], b"batch_label": b"x"}
PROFILE = (Path(__file__).parents[2] / "profiles" / "compliance.toml").read_bytes()
LOCKED = {"host": "h", "pid": 1, "machine": "m", "process": "p", "token": "t", "beat": 1}


def loaded(name: str) -> Try:
    def attempt(folder: Path, content: bytes) -> object:
        (folder / name).write_bytes(content)
        shape = (3, 32, 32) if "batch" in name else SHAPE
        where = folder if "batch" in name else folder / name
        return load_images(where, input_shape=shape).pixels

    return attempt


def table(name: str) -> Try:
    def attempt(folder: Path, content: bytes) -> object:
        (folder / name).write_bytes(content)
        return read_table(folder / name)

    return attempt


def kept(name: str, read: Callable[[Path], object]) -> Try:
    """A file of a run folder, and what reads it."""

    def attempt(folder: Path, content: bytes) -> object:
        (folder / "tasks").mkdir(exist_ok=True)
        (folder / "run.json").write_text("{}")
        (folder / name).write_bytes(content)
        return read(folder)

    return attempt


def weights(folder: Path, content: bytes) -> object:
    (folder / "w.safetensors").write_bytes(content)
    return load_weights(nn.Linear(3, 2), folder / "w.safetensors")


def state(folder: Path, content: bytes) -> object:
    (folder / "w.pt").write_bytes(content)
    return load_weights(nn.Linear(3, 2), folder / "w.pt")


def saved_state() -> bytes:
    content = io.BytesIO()
    torch.save(NETWORK.state_dict(), content)
    return content.getvalue()


def profile(folder: Path, content: bytes) -> object:
    (folder / "p.toml").write_bytes(content)
    return load_profile(folder / "p.toml")


def class_map(folder: Path, content: bytes) -> object:
    (folder / CLASSES).write_bytes(content)
    return read_class_map(folder)


LOG = b'{"event": "started", "workers": 2, "expected": {"clean": [1, 5.0]}, "elapsed": 3}\n' * 3

CASES: dict[str, tuple[bytes, Try]] = {
    "png": (picture("PNG"), lambda _, content: decode(content, (3, 12, 12))),
    "jpeg": (picture("JPEG"), lambda _, content: decode(content, (3, 12, 12))),
    "gif": (picture("GIF"), lambda _, content: decode(content, (1, 12, 12))),
    "tiff": (picture("TIFF"), lambda _, content: decode(content, (3, 12, 12))),
    "webp": (picture("WEBP"), lambda _, content: decode(content, (3, 12, 12))),
    "npz": (npz(), loaded("x.npz")),
    "idx": (IDX, loaded("x-images-idx3-ubyte")),
    "cifar": (pickle.dumps(BATCH, protocol=2), loaded("test_batch")),
    "labels.csv": (b"file,label,subgroup\na.png,1,x\nb.png,2,y\n", table("labels.csv")),
    "labels.json": (b'[{"file": "a.png", "label": 1}, {"file": "b", "label": 2}]', table("l.json")),
    "class map": (b'{"0": ["n01", "tench"], "1": ["n02", "fish"]}', class_map),
    "profile": (PROFILE, profile),
    "safetensors": (safetensors.torch.save(NETWORK.state_dict()), weights),
    "state dict": (saved_state(), state),
    "exported": (
        archive(a__models__model_json=b"{}", a__version=b"1"),
        lambda folder, content: vet_exported(content, folder / "m.pt2"),
    ),
    "torchscript": (
        archive(a__constants_pkl=b"x", a__code__net_py=b"def f(x): return x"),
        lambda folder, content: vet_torchscript(content, folder / "m.ts"),
    ),
    "run.json": (
        json.dumps({"request": {"a": 1}, "fixed": {"created": "x"}}).encode(),
        kept("run.json", lambda folder: RunFolder(folder).open({"a": 1}, {})),
    ),
    "log": (LOG, kept("audit.jsonl", status)),
    "lock": (json.dumps(LOCKED | {"elapsed": 1.5}).encode(), kept("run.lock", read_holder)),
    "task": (npz(), kept("tasks/clean.npz", lambda folder: RunFolder(folder).load("clean"))),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", CASES)
def test_damaged_files(kind, tmp_path, long):
    seed, attempt = CASES[kind]

    @settings(
        max_examples=150 if long else 12,
        suppress_health_check=list(HealthCheck),
        database=None,
    )
    @given(edits)
    def check(changes):
        refused(attempt, tmp_path, damaged(seed, changes))

    check()


def refused(attempt: Try, folder: Path, content: bytes) -> bool:
    """Whether it is refused, as it should be if at all: a line or two, and nothing to undo."""
    try:
        attempt(folder, content)
    except (AuditorError, ProfileError, UnusableImageError) as error:
        said = str(error)
    else:
        return False
    assert 0 < len(said.splitlines()) <= 3, said
    assert "Traceback" not in said
    return True


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", [k for k in CASES if k not in ("exported", "torchscript")])
def test_undamaged_files_are_read(kind, tmp_path):
    """Else the damaged ones would prove nothing."""
    seed, attempt = CASES[kind]
    assert not refused(attempt, tmp_path, seed)


@pytest.mark.filterwarnings("ignore")
def test_damaged_results(plan, tmp_path, long):
    text = execute(plan, RunFolder(tmp_path), command="").to_json().encode()

    def attempt(folder: Path, content: bytes) -> object:
        (folder / "audit.json").write_bytes(content)
        (folder / "SHA256SUMS").unlink(missing_ok=True)
        return AuditResult.load(folder)

    @settings(
        max_examples=150 if long else 6, suppress_health_check=list(HealthCheck), database=None
    )
    @given(edits)
    def check(changes):
        refused(attempt, tmp_path, damaged(text, changes))

    check()
