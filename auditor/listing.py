"""Images that could be audited, before any is read."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from auditor.arrays import Layout, arrange, as_pixels, layout
from auditor.datasets.numpy_files import parse_npy
from auditor.datasets.rows import Array, Dataset
from auditor.decoding import MAX_FILE_BYTES, Prepare, Shape, UnusableImageError, decode
from auditor.errors import InputError
from auditor.labels import MAX_IMAGES, check_labels, class_index

Pixels = npt.NDArray[np.float32]
Reader = Callable[[], tuple[Pixels, str]]
"""Gives an image's pixels, float32 (C, H, W) in [0, 1], and the SHA-256 of its bytes."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Listing:
    """What is known of images that were not read yet.

    ``reader`` prepares to read one of them, by its place; ``held`` is the memory in bytes that each
    prepared reader needs.
    """

    format: str
    names: Sequence[str]
    labels: Sequence[int] | None
    class_names: tuple[str, ...]
    reader: Callable[[int], Reader]
    held: int = 0
    subgroups: Sequence[str] | None = None


@dataclass(frozen=True)
class ImageFile:
    """Reader of one image file, which is opened again whenever its pixels are needed."""

    file: Path
    shape: Shape
    prepare: Prepare | None = None

    def __call__(self) -> tuple[Pixels, str]:
        """Read and decode the file."""
        try:
            if self.file.stat().st_size > MAX_FILE_BYTES:
                raise UnusableImageError(f"larger than {MAX_FILE_BYTES // 2**20} MiB")
            content = self.file.read_bytes()  # once, so that the hash is that of what was decoded
        except OSError as error:
            raise UnusableImageError(f"cannot be read ({error.strerror})") from error
        digest = hashlib.sha256(content).hexdigest()
        if self.file.suffix.lower() == ".npy":
            return _one_array(parse_npy(content), self.shape, self.prepare), digest
        return decode(content, self.shape, self.prepare), digest


@dataclass(frozen=True, eq=False)
class RowImage:
    """Reader of one image of an array; holds its values as they are in the file."""

    values: Array
    shape: Shape
    where: str
    prepare: Prepare | None = None

    def __call__(self) -> tuple[Pixels, str]:
        """Scale to [0, 1] and to the size of the model."""
        digest = hashlib.sha256(self.values.tobytes()).hexdigest()
        return as_pixels(self.values, self.shape, self.where, self.prepare), digest


def of_dataset(
    dataset: Dataset,
    *,
    shape: Shape,
    known: tuple[str, ...],
    where: str,
    prepare: Prepare | None = None,
) -> Listing:
    """List the images of files that hold many.

    Raises
    ------
    InputError
        If images or labels cannot be those of a model that takes ``shape`` and whose classes have
        the ``known`` names.
    """
    parts = dataset.parts
    layouts = [layout(part.rows.shape, part.rows.dtype, shape, where) for part in parts]
    if sum(part.rows.shape[0] for part in parts) > MAX_IMAGES:
        raise InputError(f"{where}: more than {MAX_IMAGES:,} images. Save a part of them.")
    places = [(part, row) for part in range(len(parts)) for row in range(len(parts[part].rows))]
    labels: list[int] = []
    for part in parts:
        if part.labels is not None:
            own = dataset.class_names or known
            labels += check_labels(part.labels, len(part.rows), own, f"{where}: {part.name}")
    if labels and dataset.class_names and known:
        used = sorted(set(labels))
        index = {old: class_index(dataset.class_names[old], known, where) for old in used}
        labels = [index[old] for old in labels]

    def reader(place: int) -> Reader:
        part, row = places[place]
        # Copied, so that this one image does not keep all the others in memory.
        values = np.array(arrange(parts[part].rows[row], layouts[part]), order="C")
        return RowImage(values, shape, where, prepare)

    first = parts[0].rows
    return Listing(
        format=dataset.format,
        names=[f"{parts[part].name}[{row}]" for part, row in places],
        labels=labels or None,
        class_names=known or dataset.class_names,
        reader=reader,
        held=int(np.prod(first.shape[1:])) * first.dtype.itemsize,
    )


def _one_array(values: Array, shape: Shape, prepare: Prepare | None) -> Pixels:
    """Pixels of an array file that holds a single image."""
    try:
        found: Layout = layout((1, *values.shape), values.dtype, shape, "the array")
        return as_pixels(arrange(values, found), shape, "the array", prepare)
    except InputError as error:  # one file of many: skipped and counted
        raise UnusableImageError(str(error)) from error
