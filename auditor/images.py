"""The user's images as the auditor sees them: pixels in [0, 1], names, labels, and their hash."""

from __future__ import annotations

import dataclasses
import hashlib
import math
import os
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from auditor.datasets.choose import KINDS, open_file, open_folder
from auditor.datasets.rows import Dataset, Part
from auditor.decoding import EXTENSIONS, Prepare, Shape, UnusableImageError
from auditor.draw import draw, sentence
from auditor.errors import IncompleteRunError, InputError
from auditor.folders import enter_split, folder_labels
from auditor.labels import MAX_TEXT, printable
from auditor.listing import ImageFile, Listing, Reader, of_dataset
from auditor.preprocess import load_preprocess
from auditor.safe_files import Skipped, find_files

MAX_PIXEL_BYTES = 4 * 2**30


@dataclass(frozen=True, kw_only=True, eq=False)
class ImageSet:
    """Images to audit; their pixels are read in pieces, when they are needed.

    Attributes
    ----------
    shape
        (C, H, W) of each image.
    names
        One per image: the path inside the folder, or ``x[3]`` for arrays.
    labels
        Class indices, or ``None``.
    class_names
        Names for these indices; empty if unknown.
    subgroups
        The subgroup that each image belongs to, or ``None``; results are also given for each.
    source, format
        What was given; ``format`` is ``imagefolder``, ``imagefolder with class map``, ``folder``,
        ``npz``, ``npy``, ``idx``, ``cifar10``, ``cifar100`` or ``python``.
    manifest_sha256
        Hash over the sorted lines "name, SHA-256 of the image's bytes" of the images chosen.
    available
        Number of candidates before any was read; with a table of labels, those that it lists.
    selection
        A sentence that says how the images were chosen.
    unreadable
        (name, reason) of what was skipped.
    digests
        SHA-256 of the bytes of each image.
    readers
        What reads each image again.
    preprocess
        Name and hash of the user's own preprocessing; empty if there is none.
    """

    shape: Shape
    names: tuple[str, ...]
    labels: tuple[int, ...] | None
    class_names: tuple[str, ...]
    source: str
    format: str
    manifest_sha256: str
    available: int
    selection: str
    unreadable: tuple[tuple[str, str], ...]
    digests: tuple[str, ...] = field(repr=False)
    readers: tuple[Reader, ...] = field(repr=False)
    subgroups: tuple[str, ...] | None = None
    preprocess: str = ""

    def batch(self, rows: Sequence[int]) -> Tensor:
        """Pixels of some of the images, by index: (B, C, H, W), float32 in [0, 1].

        Raises
        ------
        IncompleteRunError
            If the bytes of an image are no longer those that were chosen.
        """
        return torch.from_numpy(np.stack([self._pixels(row) for row in rows]))

    @property
    def pixels(self) -> Tensor:
        """Pixels of all images at once, (n, C, H, W); meant for small sets.

        Raises
        ------
        InputError
            If they would take more memory than :data:`MAX_PIXEL_BYTES`.
        """
        if len(self.names) * math.prod(self.shape) * 4 > MAX_PIXEL_BYTES:
            raise InputError(
                f"{self.source}: all pixels at once take more than {MAX_PIXEL_BYTES // 2**30} GiB. "
                "Read them in batches."
            )
        return self.batch(range(len(self.names)))

    def _pixels(self, row: int) -> npt.NDArray[np.float32]:
        try:
            pixels, digest = self.readers[row]()
        except UnusableImageError as error:
            raise IncompleteRunError(
                f"{self.names[row]}: can no longer be read: {error}. Put it back, then --resume."
            ) from error
        if digest != self.digests[row]:
            raise IncompleteRunError(
                f"{self.names[row]}: changed during the audit. Put it back, then use --resume."
            )
        return pixels


def load_images(
    path: str | Path,
    *,
    input_shape: Shape,
    max_images: int | None = None,
    seed: int = 0,
    class_names: Sequence[str] | None = None,
    preprocess: object = None,
) -> ImageSet:
    """Read a folder of images, or files that hold many.

    A folder whose subfolders hold images is read in ImageFolder layout: subfolder = class; the
    class index is the subfolder's place in sorted order, or its place in ``class_names`` where
    they are given, or what a class map says of it (:mod:`auditor.classmap`). A ``labels.csv`` or
    ``labels.json`` in the folder gives labels, subgroups or both
    (:func:`auditor.labels.read_table`). Hidden files and files without an image extension are
    ignored. Links that leave the folder, damaged files and files without a label are skipped and
    listed.

    Other data sets: an ``.npz`` with ``x``, (N, H, W), (N, H, W, C) or (N, C, H, W), uint8, uint16
    or float in [0, 1], and optionally ``y``, (N,) class indices; an ``.npy`` of images with one of
    labels beside it; IDX files; CIFAR-10 and CIFAR-100 batches. See docs/images.md.

    Parameters
    ----------
    input_shape
        (C, H, W) of the model; images of other sizes are resized and cropped
        (:func:`auditor.decoding.fit`).
    max_images
        Choose so many by a seeded rule, as evenly over the classes as possible; ``None`` = all.
    class_names
        Names in the order of the model's logits.
    preprocess
        The user's own, instead of our resizing: ``model.preprocess``, or what
        :func:`auditor.preprocess.load_preprocess` takes. Its part for pictures is done here.

    Raises
    ------
    InputError
        If nothing readable is there, or labels are wrong.
    """
    if max_images is not None and max_images < 1:
        raise InputError(f"--max-images {max_images}: give at least 1.")
    path = Path(path)
    found = None if preprocess is None else load_preprocess(preprocess)
    prepare = found.prepare if found is not None and found.pixels is not None else None
    known = tuple(class_names or ())
    skipped: Skipped = []
    with ExitStack() as stack:
        if os.path.isdir(path):
            dataset = open_folder(path, stack)
            path = path if dataset is not None else enter_split(path)
        elif os.path.isfile(path):
            dataset = open_file(path, stack)
        else:
            what = "neither a folder nor a file" if os.path.exists(path) else "does not exist"
            raise InputError(f"{path}: {what}. Give a folder of images, or a file ({KINDS}).")
        if dataset is None:
            listing = _of_folder(path, input_shape, known, skipped, prepare)
        else:
            listing = of_dataset(
                dataset, shape=input_shape, known=known, where=str(path), prepare=prepare
            )
        images = _choose(
            listing, skipped, max_images=max_images, seed=seed, source=str(path), shape=input_shape
        )
    identity = found.identity if found is not None and prepare is not None else ""
    return dataclasses.replace(images, preprocess=identity)


def from_arrays(
    x: Tensor | npt.NDArray[np.generic],
    y: Sequence[int] | Tensor | npt.NDArray[np.generic] | None = None,
    *,
    names: Sequence[str] | None = None,
    class_names: Sequence[str] | None = None,
    subgroups: Sequence[str] | None = None,
) -> ImageSet:
    """Images that are already in memory, all of them, at their own size.

    Parameters
    ----------
    x
        (n, C, H, W), uint8, uint16, or float in [0, 1].
    y
        (n,) class indices.
    names
        One for each image; ``x[0]``, ``x[1]``, ... without.
    subgroups
        One for each image.

    Raises
    ------
    InputError
        If shapes, values or labels are wrong.
    """
    array = _to_numpy(x)
    if array.ndim != 4:
        raise InputError(f"x has shape {array.shape}. Give (n, C, H, W).")
    for what, texts in (("names", names), ("subgroups", subgroups)):
        if texts is not None and len(texts) != len(array):
            raise InputError(f"{len(texts)} {what} for {len(array)} images. Give one for each.")
    shape = (int(array.shape[1]), int(array.shape[2]), int(array.shape[3]))
    labels = None if y is None else _to_numpy(y)
    dataset = Dataset(format="python", parts=(Part(name="x", rows=array, labels=labels),))
    listing = of_dataset(dataset, shape=shape, known=tuple(class_names or ()), where="x")
    listing = dataclasses.replace(
        listing,
        names=names or listing.names,
        subgroups=None if subgroups is None else [_subgroup(text) for text in subgroups],
    )
    return _choose(listing, [], max_images=None, seed=0, source="python", shape=shape)


def _subgroup(text: str) -> str:
    if not text or len(text) > MAX_TEXT:
        raise InputError(f"Subgroup {text[:40]!r}: give 1 to {MAX_TEXT} characters.")
    return printable(text)


def _to_numpy(values: object) -> npt.NDArray[Any]:
    return values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)


def _of_folder(
    path: Path, shape: Shape, known: tuple[str, ...], skipped: Skipped, prepare: Prepare | None
) -> Listing:
    files = find_files(path, skipped)
    found = folder_labels(path, sorted(files), known, skipped)
    return Listing(
        format=found.format,
        names=found.names,
        labels=found.labels,
        class_names=found.class_names,
        subgroups=found.subgroups,
        reader=lambda place: ImageFile(files[found.names[place]], shape, prepare),
    )


def _choose(
    listing: Listing,
    skipped: Skipped,
    *,
    max_images: int | None,
    seed: int,
    source: str,
    shape: Shape,
) -> ImageSet:
    """Choose by the seeded rule, and put together what is known of the images chosen."""
    available = len(listing.names)
    wanted = min(max_images or available, available)
    if wanted * listing.held > MAX_PIXEL_BYTES:
        raise InputError(
            f"{source}: {wanted} images take more than {MAX_PIXEL_BYTES // 2**30} GiB of memory. "
            "Pass --max-images."
        )
    drawn = draw(listing, wanted, seed=seed, skipped=skipped)
    if not drawn:
        problem = f" First problem: {skipped[0][0]}: {skipped[0][1]}." if skipped else ""
        kinds = " ".join(sorted(EXTENSIONS))
        raise InputError(f"{source}: no readable image (known: {kinds}).{problem}")
    lines = sorted(f"{listing.names[i]}\t{image.digest}\n" for i, image in drawn.items())
    labels, subgroups = listing.labels, listing.subgroups
    return ImageSet(
        shape=shape,
        names=tuple(listing.names[i] for i in drawn),
        labels=None if labels is None else tuple(labels[i] for i in drawn),
        class_names=listing.class_names,
        subgroups=None if subgroups is None else tuple(subgroups[i] for i in drawn),
        source=source,
        format=listing.format,
        manifest_sha256=hashlib.sha256("".join(lines).encode()).hexdigest(),
        available=available,
        selection=sentence(len(drawn), available, wanted, seed=seed, labeled=labels is not None),
        unreadable=tuple(sorted(skipped)),
        digests=tuple(image.digest for image in drawn.values()),
        readers=tuple(image.read for image in drawn.values()),
    )
