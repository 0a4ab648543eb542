"""IDX files, the format of MNIST and its family, plain or compressed with gzip."""

from __future__ import annotations

import gzip
import os
import re
from contextlib import ExitStack
from pathlib import Path
from typing import IO, cast

import numpy as np

from auditor.datasets.rows import Dataset, FileRows, Part, check_size, readable, spool
from auditor.errors import InputError
from auditor.safe_files import beside

GZIP = b"\x1f\x8b"
UBYTE = 8
NAME = re.compile(r"(?P<split>.*)images[-.]idx\d-ubyte")
"""Names of files of images, without ``.gz``: ``t10k-images-idx3-ubyte``."""


def open_idx(path: Path, stack: ExitStack) -> Dataset:
    """A file of images with its labels file, which lies beside it.

    The labels of ``t10k-images-idx3-ubyte.gz`` are in ``t10k-labels-idx1-ubyte``, with or without
    ``.gz``; without such a file the images have no labels. Source: Y. LeCun, C. Cortes and
    C. J. C. Burges, *The MNIST database of handwritten digits*, "The IDX file format".

    Raises
    ------
    InputError
        If a file is no IDX file of bytes, is damaged, or declares more or less than it holds, or
        if there is not one label for each image.
    """
    images = _rows(path, stack)
    if len(images.shape) not in (3, 4):
        raise InputError(
            f"{path}: holds an array of shape {images.shape}, which are no images. Give the file "
            "of the images; that of the labels is found beside it."
        )
    file = label_file(path)
    labels = None
    if file is not None:
        rows = _rows(file, stack)
        if rows.shape != images.shape[:1]:
            raise InputError(
                f"{file}: labels of shape {rows.shape} for {len(images)} images. Give the labels "
                "of these images, one for each, or remove the file."
            )
        labels = rows.all()
    name = path.name.removesuffix(".gz")
    return Dataset(format="idx", parts=(Part(name=name, rows=images, labels=labels),))


def label_file(path: Path) -> Path | None:
    """The labels file of a file of images."""
    name = path.name.removesuffix(".gz")
    wanted = re.sub(r"idx\d", "idx1", name.replace("images", "labels"))
    if wanted == name:
        return None
    # As packed as the images are, if there are both.
    endings = (".gz", "") if path.name.endswith(".gz") else ("", ".gz")
    found = (beside(path.parent, wanted + ending) for ending in endings)
    return next((file for file in found if file is not None), None)


def _rows(path: Path, stack: ExitStack) -> FileRows:
    """The array of an IDX file, not yet read."""
    with readable(path):
        stream: IO[bytes] = stack.enter_context(path.open("rb"))
        packed = stream.read(2) == GZIP
        stream.seek(0)
        if packed:
            stream = cast(IO[bytes], stack.enter_context(gzip.GzipFile(fileobj=stream)))
        head = stream.read(4)
        if len(head) < 4 or head[:2] != b"\0\0" or not head[3]:
            raise InputError(
                f"{path}: no IDX file{' inside' if packed else ''}. Unpack other archives first."
            )
        if head[2] != UBYTE:
            raise InputError(f"{path}: IDX values of type 0x{head[2]:02x}. Give bytes (0x08).")
        sides = stream.read(4 * head[3])
        if len(sides) < 4 * head[3]:
            raise InputError(f"{path}: ends in its header. Copy it again.")
        shape = tuple(int(side) for side in np.frombuffer(sides, dtype=">u4"))
        size = check_size(shape, 1, f"{path}: an array")
        offset = stream.tell()
        if packed:
            stream, offset = spool(stream.read, size, f"{path}: it", stack), 0
        elif (held := os.fstat(stream.fileno()).st_size - offset) != size:
            raise InputError(f"{path}: it declares {size} bytes but holds {held} bytes.")
    return FileRows(
        stream=stream, offset=offset, shape=shape, dtype=np.dtype(np.uint8), where=str(path)
    )
