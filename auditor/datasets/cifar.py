"""CIFAR-10 and CIFAR-100 batches, the Python version (without running it) and the binary one."""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from auditor.datasets.pickled import UnsafePickleError, read_pickle
from auditor.datasets.rows import Dataset, FileRows, Part, readable
from auditor.errors import InputError
from auditor.labels import MAX_TEXT, printable
from auditor.safe_files import beside

PICKLE = b"\x80"
SIDES = (3, 32, 32)
PIXELS = 3 * 32 * 32
MAX_PICKLE_BYTES = 256 * 2**20
"""The largest, the training images of CIFAR-100, has 155 million bytes."""
MAX_NAMES_BYTES = 2**20
_CLASSES = {"cifar10": 10, "cifar100": 100}
_NAMES_FILES = {
    "cifar10": ("batches.meta", "batches.meta.txt"),
    "cifar100": ("meta", "fine_label_names.txt"),
}


def open_cifar(paths: list[Path], stack: ExitStack) -> Dataset:
    """Batches that belong together; CIFAR-100 with its fine labels.

    A pickle of the Python version has 10,000 or 50,000 rows of 3,072 bytes (red, green and blue
    planes of 32×32) and a list of labels; a record of the binary version is one label, or for
    CIFAR-100 the coarse and the fine one, and 3,072 bytes. Names of classes are read from the file
    beside the batches that the archive comes with. Source: A. Krizhevsky, *The CIFAR-10 dataset*
    and *The CIFAR-100 dataset*, "Dataset layout".

    Raises
    ------
    InputError
        If a file is no batch, is damaged, or holds more than such a batch may.
    """
    found = [_binary(path, stack) if path.suffix == ".bin" else _python(path) for path in paths]
    kinds = {kind for kind, _ in found}
    if len(kinds) > 1:
        raise InputError(f"{paths[0].parent}: batches of CIFAR-10 and CIFAR-100. Keep one.")
    kind = kinds.pop()
    for path, (_, part) in zip(paths, found, strict=True):
        if part.labels is not None and part.labels.max() >= _CLASSES[kind]:
            raise InputError(
                f"{path}: label {part.labels.max()} is none of {_CLASSES[kind]} classes."
            )
    return Dataset(
        format=kind,
        parts=tuple(part for _, part in found),
        class_names=_class_names(paths[0].parent, kind),
    )


def _python(path: Path) -> tuple[str, Part]:
    batch = _pickle(path)
    data = batch.get("data")
    key = "fine_labels" if "fine_labels" in batch else "labels"
    if not isinstance(data, np.ndarray) or data.shape[1:] != (PIXELS,) or not len(data):
        raise InputError(f"{path}: no batch of CIFAR images (rows of {PIXELS} bytes).")
    labels = batch.get(key)
    if not _are_labels(labels, len(data)):
        raise InputError(f"{path}: {key} are not {len(data)} class indices.")
    kind = "cifar100" if key == "fine_labels" else "cifar10"
    rows = data.reshape(-1, *SIDES)
    return kind, Part(name=path.name, rows=rows, labels=np.array(labels, dtype=np.int64))


def _are_labels(labels: Any, count: int) -> bool:
    return (
        isinstance(labels, list)
        and len(labels) == count
        and all(type(label) is int and 0 <= label < 2**31 for label in labels)
    )


def _binary(path: Path, stack: ExitStack) -> tuple[str, Part]:
    with readable(path):
        stream = stack.enter_context(path.open("rb"))
        size = os.fstat(stream.fileno()).st_size
    kinds = [
        kind for kind, lead in (("cifar10", 1), ("cifar100", 2)) if size % (lead + PIXELS) == 0
    ]
    if not size or len(kinds) != 1:
        raise InputError(
            f"{path}: {size} bytes are no CIFAR batch (records of {PIXELS + 1} bytes, or "
            f"{PIXELS + 2} for CIFAR-100). Copy it again."
        )
    lead = 1 if kinds[0] == "cifar10" else 2
    count = size // (lead + PIXELS)

    def rows(offset: int, shape: tuple[int, ...], gap: int) -> FileRows:
        kind = np.dtype(np.uint8)
        return FileRows(
            stream=stream, offset=offset, shape=shape, dtype=kind, where=str(path), gap=gap
        )

    labels = rows(lead - 1, (count,), lead - 1 + PIXELS).all()
    return kinds[0], Part(name=path.name, rows=rows(lead, (count, *SIDES), lead), labels=labels)


def _class_names(folder: Path, kind: str) -> tuple[str, ...]:
    """Names of all classes from the file beside the batches; empty if there is none."""
    for name in _NAMES_FILES[kind]:
        path = beside(folder, name)
        if path is None:
            continue
        names = _lines(path) if path.suffix == ".txt" else _pickled_names(path)
        good = all(0 < len(name) <= MAX_TEXT for name in names)
        if len(names) != _CLASSES[kind] or len(set(names)) != len(names) or not good:
            raise InputError(f"{path}: not {_CLASSES[kind]} names of classes. Remove the file.")
        return tuple(printable(name) for name in names)
    return ()


def _lines(path: Path) -> list[str]:
    with readable(path):
        if path.stat().st_size > MAX_NAMES_BYTES:
            raise InputError(f"{path}: larger than {MAX_NAMES_BYTES // 2**20} MiB, no class names.")
        lines = path.read_text("utf-8").splitlines()
    return [line.strip() for line in lines if line.strip()]


def _pickled_names(path: Path) -> list[str]:
    meta = _pickle(path)
    names = meta.get("fine_label_names", meta.get("label_names"))
    if not isinstance(names, list) or not all(type(name) in (bytes, str) for name in names):
        raise InputError(f"{path}: no list of class names. Remove the file.")
    return [name.decode("latin-1") if isinstance(name, bytes) else name for name in names]


def _pickle(path: Path) -> dict[str, Any]:
    with readable(path), path.open("rb") as stream:
        size = os.fstat(stream.fileno()).st_size
        if size > MAX_PICKLE_BYTES:
            raise InputError(
                f"{path}: larger than {MAX_PICKLE_BYTES // 2**20} MiB, no CIFAR batch."
            )
        try:
            return read_pickle(stream, size)
        except UnsafePickleError as error:
            raise InputError(
                f"{path}: a pickle is read as data only, and this one holds {error}. Get the batch "
                "from its source, or save an .npz."
            ) from error
