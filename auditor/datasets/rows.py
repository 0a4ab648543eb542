"""Images of equal size one behind the other in a file; only those asked for are read."""

from __future__ import annotations

import math
import os
import tempfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from auditor.errors import InputError
from auditor.usercode import describe

Array = npt.NDArray[Any]
MAX_ARRAY_BYTES = 4 * 2**30
MAX_DIMENSIONS = 8
_PIECE = 2**20


@dataclass(frozen=True, kw_only=True, eq=False)
class FileRows:
    """The rows of an array of any number of dimensions, in C order, in an open file.

    ``shape`` is that of the whole array, ``offset`` the place of its first byte; ``gap`` bytes that
    belong to something else lie between two rows.
    """

    stream: IO[bytes]
    offset: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    where: str
    gap: int = 0

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: int) -> Array:
        """Read one row."""
        size = self._row_bytes()
        return self._read(self.offset + index * (size + self.gap), size).reshape(self.shape[1:])

    def all(self) -> Array:
        """The whole array."""
        if self.gap:
            return np.stack([self[index] for index in range(len(self))])
        return self._read(self.offset, len(self) * self._row_bytes()).reshape(self.shape)

    def _row_bytes(self) -> int:
        return math.prod(self.shape[1:]) * self.dtype.itemsize

    def _read(self, start: int, size: int) -> Array:
        # Independent of the place in the stream, so that readers do not disturb each other.
        content = b""
        while len(content) < size:  # one call gives at most 2 GiB
            piece = os.pread(self.stream.fileno(), size - len(content), start + len(content))
            if not piece:
                raise InputError(f"{self.where}: became shorter while it was read. Start again.")
            content = content + piece if content else piece
        return np.frombuffer(content, dtype=self.dtype)


Rows = FileRows | Array


@dataclass(frozen=True, kw_only=True, eq=False)
class Part:
    """One file of images: rows (N, ...) and their labels; image 3 is called ``name[3]``."""

    name: str
    rows: Rows
    labels: Array | None


@dataclass(frozen=True, kw_only=True, eq=False)
class Dataset:
    """Files that belong together; ``class_names`` are those the data set itself brings along."""

    format: str
    parts: tuple[Part, ...]
    class_names: tuple[str, ...] = ()


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Tell what reading a damaged file raises as an :class:`InputError`."""
    try:
        yield
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise InputError(f"{path}: cannot be read ({describe(error)}).") from error


def check_size(shape: tuple[int, ...], itemsize: int, what: str) -> int:
    """Bytes of an array that a file declares.

    Raises
    ------
    InputError
        If a dimension is negative, or there are more dimensions or bytes than can be handled.
    """
    if len(shape) > MAX_DIMENSIONS or any(side < 0 for side in shape):
        raise InputError(f"{what} declares the shape {str(shape)[:60]}. Save it again.")
    size = math.prod(shape) * itemsize
    if size > MAX_ARRAY_BYTES:
        raise InputError(
            f"{what} of shape {str(shape)[:60]} takes {size / 2**30:.1f} GiB, more than "
            f"{MAX_ARRAY_BYTES // 2**30}. Save fewer images."
        )
    return size


def spool(read: Callable[[int], bytes], size: int, what: str, stack: ExitStack) -> IO[bytes]:
    """Copy ``size`` bytes of unpacked content to a temporary file that ``stack`` closes.

    Compressed content cannot be read from the middle, and may unpack to far more than it declares.

    Raises
    ------
    InputError
        If there are fewer bytes, or more.
    """
    stream = stack.enter_context(tempfile.TemporaryFile())  # noqa: SIM115  # the stack closes it
    left = size
    while left:
        piece = read(min(left, _PIECE))
        if not piece:
            raise InputError(f"{what} declares {size} bytes but holds {size - left} bytes.")
        stream.write(piece)
        left -= len(piece)
    if read(1):
        raise InputError(f"{what} declares {size} bytes but holds more.")
    stream.flush()
    return stream
