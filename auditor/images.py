"""The user's images as the auditor sees them: pixels in [0, 1], names, labels, and their hash."""

from __future__ import annotations

import hashlib
import math
import os
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from auditor.arrays import as_pixels, channels_first, read_npz
from auditor.decoding import EXTENSIONS, MAX_FILE_BYTES, UnusableImageError, decode
from auditor.errors import InputError
from auditor.folders import Skipped, check_labels, find_files, folder_labels

MAX_PIXEL_BYTES = 4 * 2**30

Pixels = npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True, eq=False)
class ImageSet:
    """Images to audit.

    Attributes
    ----------
    pixels
        (n, C, H, W), float32 in [0, 1].
    names
        One per image: the path inside the folder, or ``x[3]`` for arrays.
    labels
        Class indices, or ``None``.
    class_names
        Names for these indices; empty if unknown.
    source, format
        What was given; ``format`` is ``imagefolder``, ``folder``, ``npz`` or ``python``.
    manifest_sha256
        Hash over the sorted lines "name, SHA-256 of the image's bytes" of the images chosen.
    available
        Number of candidates before any was read; with ``labels.csv``, those that it lists.
    selection
        A sentence that says how the images were chosen.
    unreadable
        (name, reason) of what was skipped.
    """

    pixels: Tensor
    names: tuple[str, ...]
    labels: tuple[int, ...] | None
    class_names: tuple[str, ...]
    source: str
    format: str
    manifest_sha256: str
    available: int
    selection: str
    unreadable: tuple[tuple[str, str], ...]


@dataclass(frozen=True, kw_only=True)
class _Candidate:
    """An image not yet read: ``read`` gives its pixels and the hash of its bytes."""

    name: str
    label: int | None
    read: Callable[[], tuple[Pixels, str]]


def load_images(
    path: str | Path,
    *,
    input_shape: tuple[int, int, int],
    max_images: int | None = None,
    seed: int = 0,
    class_names: Sequence[str] | None = None,
) -> ImageSet:
    """Read a folder of images or an ``.npz`` file.

    A folder whose subfolders hold images is read in ImageFolder layout: subfolder = class; the
    class index is the subfolder's place in sorted order, or its place in ``class_names`` where
    they are given. A flat folder may hold ``labels.csv`` with the columns ``file`` and ``label``
    (a class name, or an index). Hidden files and files without an image extension are ignored.
    Links that leave the folder, damaged files and files without a label are skipped and listed.
    An ``.npz`` holds ``x``, (N, H, W), (N, H, W, C) or (N, C, H, W), uint8 or float in [0, 1], and
    optionally ``y``, (N,) class indices.

    Parameters
    ----------
    input_shape
        (C, H, W) of the model; images of other sizes are resized and cropped
        (:func:`auditor.decoding.fit`).
    max_images
        Choose so many by a seeded rule, as evenly over the classes as possible; ``None`` = all.
    class_names
        Names in the order of the model's logits.

    Raises
    ------
    InputError
        If nothing readable is there, or labels are wrong.
    """
    if max_images is not None and max_images < 1:
        raise InputError(f"--max-images {max_images}: give at least 1.")
    path = Path(path)
    known = tuple(class_names or ())
    skipped: Skipped = []
    if os.path.isdir(path):
        if input_shape[0] not in (1, 3):
            raise InputError(
                f"{path}: image files have 1 or 3 channels, the model takes {input_shape[0]}. "
                "Give an .npz file."
            )
        files = find_files(path, skipped)
        format_, labels, known = folder_labels(path, sorted(files), known, skipped)
        candidates = [
            _Candidate(name=name, label=labels[name], read=_file(files[name], input_shape))
            for name in sorted(labels)
        ]
    elif os.path.isfile(path) and path.suffix == ".npz":
        format_ = "npz"
        x, y = read_npz(path)
        x = channels_first(x, input_shape, str(path))
        indices = None if y is None else check_labels(y, len(x), known, str(path))
        candidates = _rows(x, indices, None, input_shape, str(path))
    else:
        what = "neither a folder nor an .npz file" if os.path.exists(path) else "does not exist"
        raise InputError(f"{path}: {what}. Give a folder of images, or an .npz file with x.")
    return _collect(
        candidates,
        skipped,
        max_images=max_images,
        seed=seed,
        class_names=known,
        source=str(path),
        format_=format_,
        shape=input_shape,
    )


def from_arrays(
    x: Tensor | npt.NDArray[np.generic],
    y: Sequence[int] | Tensor | npt.NDArray[np.generic] | None = None,
    *,
    names: Sequence[str] | None = None,
    class_names: Sequence[str] | None = None,
) -> ImageSet:
    """Images that are already in memory, all of them, at their own size.

    Parameters
    ----------
    x
        (n, C, H, W), uint8, or float in [0, 1].
    y
        (n,) class indices.
    names
        One for each image; ``x[0]``, ``x[1]``, ... without.

    Raises
    ------
    InputError
        If shapes, values or labels are wrong.
    """
    array = _to_numpy(x)
    if array.ndim != 4:
        raise InputError(f"x has shape {array.shape}. Give (n, C, H, W).")
    if names is not None and len(names) != len(array):
        raise InputError(f"{len(names)} names for {len(array)} images. Give one for each.")
    shape = (int(array.shape[1]), int(array.shape[2]), int(array.shape[3]))
    array = channels_first(array, shape, "x")
    known = tuple(class_names or ())
    labels = None if y is None else check_labels(_to_numpy(y), len(array), known, "y")
    return _collect(
        _rows(array, labels, names, shape, "x"),
        [],
        max_images=None,
        seed=0,
        class_names=known,
        source="python",
        format_="python",
        shape=shape,
    )


def _to_numpy(values: object) -> npt.NDArray[Any]:
    return values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)


def _file(file: Path, shape: tuple[int, int, int]) -> Callable[[], tuple[Pixels, str]]:
    def read() -> tuple[Pixels, str]:
        try:
            if file.stat().st_size > MAX_FILE_BYTES:
                raise UnusableImageError(f"larger than {MAX_FILE_BYTES // 2**20} MiB")
            content = file.read_bytes()  # once, so that the hash is that of what was decoded
        except OSError as error:
            raise UnusableImageError(f"cannot be read ({error.strerror})") from error
        return decode(content, shape), hashlib.sha256(content).hexdigest()

    return read


def _rows(
    x: npt.NDArray[Any],
    labels: Sequence[int] | None,
    names: Sequence[str] | None,
    shape: tuple[int, int, int],
    where: str,
) -> list[_Candidate]:
    def reader(image: npt.NDArray[Any]) -> Callable[[], tuple[Pixels, str]]:
        return lambda: (as_pixels(image, shape, where), hashlib.sha256(image.tobytes()).hexdigest())

    return [
        _Candidate(
            name=names[i] if names else f"x[{i}]",
            label=labels[i] if labels else None,
            read=reader(image),
        )
        for i, image in enumerate(x)
    ]


def _collect(
    candidates: Sequence[_Candidate],
    skipped: Skipped,
    *,
    max_images: int | None,
    seed: int,
    class_names: tuple[str, ...],
    source: str,
    format_: str,
    shape: tuple[int, int, int],
) -> ImageSet:
    """Choose by the seeded rule, read, and put back in order."""
    available = len(candidates)
    wanted = min(max_images or available, available)
    if wanted * math.prod(shape) * 4 > MAX_PIXEL_BYTES:
        raise InputError(
            f"{source}: {wanted} images take more than {MAX_PIXEL_BYTES // 2**30} GiB of memory. "
            "Pass --max-images."
        )
    read = _draw(candidates, wanted, np.random.default_rng(seed), skipped)
    if not read:
        problem = f" First problem: {skipped[0][0]}: {skipped[0][1]}." if skipped else ""
        kinds = " ".join(sorted(EXTENSIONS))
        raise InputError(f"{source}: no readable image (known: {kinds}).{problem}")
    chosen = [candidates[i] for i in sorted(read)]
    labels = tuple(c.label for c in chosen if c.label is not None)
    lines = sorted(f"{candidates[i].name}\t{digest}\n" for i, (_, digest) in read.items())
    return ImageSet(
        pixels=torch.from_numpy(np.stack([read[i][0] for i in sorted(read)])),
        names=tuple(c.name for c in chosen),
        labels=labels if labels else None,
        class_names=class_names,
        source=source,
        format=format_,
        manifest_sha256=hashlib.sha256("".join(lines).encode()).hexdigest(),
        available=available,
        selection=_sentence(len(chosen), available, wanted, seed, bool(labels)),
        unreadable=tuple(sorted(skipped)),
    )


def _draw(
    candidates: Sequence[_Candidate], wanted: int, rng: np.random.Generator, skipped: Skipped
) -> dict[int, tuple[Pixels, str]]:
    """Read one image of each class in turn until there are enough, replacing what is unreadable."""
    groups: dict[int | None, list[int]] = defaultdict(list)
    for i, candidate in enumerate(candidates):
        groups[candidate.label].append(i)
    queues = [rng.permutation(group).tolist() for group in groups.values()]
    queues = [queues[i] for i in rng.permutation(len(queues))]
    read: dict[int, tuple[Pixels, str]] = {}
    while any(queues) and len(read) < wanted:
        for queue in queues:
            while queue and len(read) < wanted:
                i = queue.pop()
                try:
                    read[i] = candidates[i].read()
                except UnusableImageError as error:
                    skipped.append((candidates[i].name, str(error)))
                else:
                    break
    return read


def _sentence(count: int, available: int, wanted: int, seed: int, labeled: bool) -> str:
    if wanted == available:
        return f"All {count} readable images of {available}, in order of name."
    return (
        f"{count} of {available} images, drawn at random with seed {seed}"
        + (", one of each class in turn" if labeled else "")
        + "; an unreadable image is replaced by the next of the draw"
        + (" from its class." if labeled else ".")
    )
