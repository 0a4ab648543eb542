"""Hostile ``.npy`` and ``.npz`` files → rows of images; objects are never unpickled."""

from __future__ import annotations

import io
import os
import re
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from auditor.datasets.rows import Array, Dataset, FileRows, Part, Rows, check_size, spool
from auditor.decoding import UnusableImageError
from auditor.errors import InputError
from auditor.labels import wrong_labels
from auditor.safe_files import beside
from auditor.usercode import describe


@dataclass(frozen=True, kw_only=True)
class _Header:
    """What precedes an array; ``offset`` is the place of its first byte."""

    shape: tuple[int, ...]
    fortran: bool
    dtype: np.dtype[Any]
    offset: int


def open_npz(path: Path, stack: ExitStack) -> Dataset:
    """Arrays ``x`` and, if it is there, ``y``.

    The header of each is compared with the size of its entry before anything is read, and images
    are unpacked to a temporary file, not to memory.

    Raises
    ------
    InputError
        If the file is no such archive, is damaged, or declares more than it holds.
    """
    with _readable(path), zipfile.ZipFile(path) as archive:
        entries = {info.filename: info for info in archive.infolist()}
        if "x.npy" not in entries:
            found = ", ".join(sorted(entries)[:4])[:100] or "none"
            raise InputError(f"{path}: no array x (found {found}). Save with np.savez(x=...).")
        x = _entry(archive, entries["x.npy"], f"{path}: x", stack)
        y = None
        if "y.npy" in entries:
            y = _labels(_entry(archive, entries["y.npy"], f"{path}: y", stack), x, str(path))
    return Dataset(format="npz", parts=(Part(name="x", rows=x, labels=y),))


def open_npy(path: Path, stack: ExitStack) -> Dataset:
    """One array of images, with labels from the file beside it (:func:`label_file`).

    Raises
    ------
    InputError
        As :func:`open_npz`.
    """
    x = _file(path, stack)
    labels = label_file(path)
    y = None if labels is None else _labels(_file(labels, stack), x, str(labels))
    return Dataset(format="npy", parts=(Part(name=path.stem, rows=x, labels=y),))


def label_file(path: Path) -> Path | None:
    """The neighbor of an array of images that holds its labels, ``None`` if there is none.

    Its name has ``labels`` for ``images``, or ``y`` for a leading ``x``: ``test_labels.npy``
    belongs to ``test_images.npy``, ``y_test.npy`` to ``x_test.npy`` and to ``X_test.npy``.
    """
    names = [path.name.replace("images", "labels")]
    if re.match(r"[xX][^a-zA-Z0-9]", path.name):
        names += [("y" if path.name[0] == "x" else "Y") + path.name[1:], "y" + path.name[1:]]
    found = (beside(path.parent, name) for name in names if name != path.name)
    return next((file for file in found if file is not None), None)


def parse_npy(content: bytes) -> Array:
    """The array in the bytes of an ``.npy`` file that holds one image.

    Raises
    ------
    UnusableImageError
        If there is none, or not as much as is declared.
    """
    try:
        header = _header(io.BytesIO(content), len(content), "the file")
        pixels = np.frombuffer(content, dtype=header.dtype, offset=header.offset)
        return pixels.reshape(header.shape, order="F" if header.fortran else "C")
    except InputError as error:
        raise UnusableImageError(str(error)) from error
    except Exception as error:  # hostile headers raise many things
        raise UnusableImageError(f"damaged ({describe(error)[:100]})") from error


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # hostile archives and headers raise many things
        raise InputError(f"{path}: cannot be read ({describe(error)}).") from error


def _entry(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, what: str, stack: ExitStack) -> Rows:
    with archive.open(entry) as stream:
        header = _header(stream, entry.file_size, what)
        unpacked = spool(stream.read, entry.file_size - header.offset, what, stack)
    return _rows(unpacked, header, 0, what)


def _file(path: Path, stack: ExitStack) -> Rows:
    with _readable(path):
        stream = stack.enter_context(path.open("rb"))
        header = _header(stream, os.fstat(stream.fileno()).st_size, str(path))
        return _rows(stream, header, header.offset, str(path))


def _header(stream: IO[bytes], size: int, what: str) -> _Header:
    """Read what precedes the array, and compare it with the ``size`` of everything in bytes."""
    old = np.lib.format.read_magic(stream) == (1, 0)
    read = np.lib.format.read_array_header_1_0 if old else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = read(stream)
    offset = stream.tell()
    if dtype.hasobject:
        raise InputError(f"{what} holds Python objects. Save plain numbers.")
    if check_size(shape, dtype.itemsize, what) != size - offset:
        raise InputError(f"{what} declares shape {shape} but holds {size - offset} bytes.")
    return _Header(shape=shape, fortran=fortran, dtype=dtype, offset=offset)


def _rows(stream: IO[bytes], header: _Header, offset: int, what: str) -> Rows:
    if not header.shape:
        raise InputError(f"{what} is a single number. Give an array of images.")
    shape = header.shape[::-1] if header.fortran else header.shape
    rows = FileRows(stream=stream, offset=offset, shape=shape, dtype=header.dtype, where=what)
    # In Fortran order the values of one image are scattered over the file.
    return rows.all().T if header.fortran and len(shape) > 1 else rows


def _labels(y: Rows, x: Rows, where: str) -> Array:
    """Labels are read whole, but not before their shape is that of labels."""
    if y.shape != x.shape[:1]:
        raise wrong_labels(y.dtype, y.shape, len(x), where)
    return y.all() if isinstance(y, FileRows) else y
