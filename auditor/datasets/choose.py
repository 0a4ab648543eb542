"""Which reader a file belongs to, and which files of a folder belong together."""

from __future__ import annotations

import os
from collections import defaultdict
from contextlib import ExitStack
from pathlib import Path

from auditor.datasets import idx
from auditor.datasets.cifar import PICKLE, open_cifar
from auditor.datasets.idx import GZIP, open_idx
from auditor.datasets.numpy_files import open_npy, open_npz
from auditor.datasets.rows import Dataset, readable
from auditor.errors import InputError
from auditor.safe_files import unsafe

KINDS = ".npz, .npy, IDX (MNIST), CIFAR batches"
_TRAINING = tuple(f"data_batch_{i}" for i in range(1, 6))
# Names of CIFAR-100 are ordinary words: they count only beside the file of class names.
_CIFAR_FILES = {
    "CIFAR-10 training images": _TRAINING,
    "CIFAR-10 test images": ("test_batch",),
    "CIFAR-10 training images, binary": tuple(f"{name}.bin" for name in _TRAINING),
    "CIFAR-10 test images, binary": ("test_batch.bin",),
}
_CIFAR_100_FILES = {
    "meta": {"CIFAR-100 training images": "train", "CIFAR-100 test images": "test"},
    "fine_label_names.txt": {
        "CIFAR-100 training images, binary": "train.bin",
        "CIFAR-100 test images, binary": "test.bin",
    },
}


def open_file(path: Path, stack: ExitStack) -> Dataset:
    """Images of a single file, with the labels that belong to it; ``stack`` closes what stays open.

    Raises
    ------
    InputError
        If its kind is unknown, or it is damaged.
    """
    if path.suffix == ".npz":
        return open_npz(path, stack)
    if path.suffix == ".npy":
        return open_npy(path, stack)
    with readable(path), path.open("rb") as stream:
        head = stream.read(2)
    if path.suffix == ".bin" or head[:1] == PICKLE:
        return open_cifar([path], stack)
    if head in (GZIP, b"\0\0"):
        return open_idx(path, stack)
    raise InputError(f"{path}: neither a folder nor a known kind of file ({KINDS}).")


def find_sets(folder: Path) -> dict[str, list[Path]]:
    """Sets of files in a folder by what they are; usually one, or none.

    Raises
    ------
    InputError
        If a file of such a name must not be opened.
    """
    try:
        names = sorted(os.listdir(folder))
    except OSError as error:
        raise InputError(f"{folder}: cannot be listed ({error.strerror}).") from error
    found: dict[str, list[str]] = defaultdict(list)
    for name in names:
        match = idx.NAME.fullmatch(name.removesuffix(".gz"))
        if match and not (name.endswith(".gz") and name.removesuffix(".gz") in names):
            found[f"IDX images {match['split']!r}"].append(name)
    for what, files in _CIFAR_FILES.items():
        found[what] += [name for name in files if name in names]
    for names_file, sets in _CIFAR_100_FILES.items():
        for what, name in sets.items():
            if names_file in names and name in names:
                found[what].append(name)
    root = Path(os.path.realpath(folder))
    sets_found = {what: [folder / name for name in files] for what, files in found.items() if files}
    for file in (file for files in sets_found.values() for file in files):
        problem = unsafe(file, root)
        if problem is not None:
            raise InputError(f"{file}: {problem}. Copy it into the folder, or remove it.")
    return sets_found


def open_folder(folder: Path, stack: ExitStack) -> Dataset | None:
    """The one set of a folder; ``None`` if there is none, as in a folder of image files.

    Raises
    ------
    InputError
        If there are several, as training and test images, or the files are damaged.
    """
    sets = find_sets(folder)
    if len(sets) > 1:
        shown = "; ".join(f"{what}: {files[0].name}" for what, files in sets.items())
        raise InputError(
            f"{folder}: holds several sets ({shown}). Give the file of one of them as --images."
        )
    if not sets:
        return None
    (files,) = sets.values()
    return open_file(files[0], stack) if len(files) == 1 else open_cifar(files, stack)
