"""A hostile folder → image files that are safe to open, with their class labels."""

from __future__ import annotations

import csv
import os
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np
import numpy.typing as npt

from auditor.decoding import EXTENSIONS
from auditor.errors import InputError

LABELS_FILE = "labels.csv"

Skipped = list[tuple[str, str]]


def printable(name: str) -> str:
    """Escape what would break a line of a report: control characters, undecodable bytes."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in name)


def find_files(folder: Path, skipped: Skipped) -> dict[str, Path]:
    """Image files by their path inside the folder; what must not be opened goes to ``skipped``."""
    root = Path(os.path.realpath(folder))
    files: dict[str, Path] = {}

    def fail(error: OSError) -> None:
        raise InputError(f"{folder}: cannot be listed ({error.strerror}).") from error

    for place, subfolders, names in os.walk(root, onerror=fail):
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        for name in [*subfolders, *sorted(n for n in names if not n.startswith("."))]:
            file = Path(place, name)
            shown = printable(file.relative_to(root).as_posix())
            if name in subfolders:
                if file.is_symlink():
                    skipped.append((shown, "link to a folder, not followed"))
            elif file.suffix.lower() not in EXTENSIONS:
                continue
            elif not Path(os.path.realpath(file)).is_relative_to(root):
                skipped.append((shown, "link that leaves the folder"))
            elif not os.path.isfile(file):
                skipped.append((shown, "not a regular file"))
            else:
                files[shown] = file
    return files


def folder_labels(
    folder: Path, files: Sequence[str], known: tuple[str, ...], skipped: Skipped
) -> tuple[str, dict[str, int | None], tuple[str, ...]]:
    """Tell the layout of a folder and the class of each image.

    Parameters
    ----------
    files
        Image files by their path inside the folder.
    known
        Class names in the order of the logits; empty if unknown.
    skipped
        Gets the images that ``labels.csv`` leaves out, and its rows without an image.

    Returns
    -------
    tuple
        Format, class index (or ``None``) of each image to use, class names.

    Raises
    ------
    InputError
        If a class is unknown, or the layout is ambiguous.
    """
    table = folder / LABELS_FILE
    if os.path.isfile(table):
        texts = _read_table(table)
        skipped += [(name, f"not in {LABELS_FILE}") for name in files if name not in texts]
        skipped += [(name, f"only in {LABELS_FILE}") for name in texts if name not in files]
        rows = {name: texts[name] for name in files if name in texts}
        return ("folder", *_resolve(rows, known, table))
    top = {name: name.partition("/")[0] for name in files if "/" in name}
    if not top:
        return "folder", dict.fromkeys(files), known
    if len(top) < len(files):
        loose = next(name for name in files if name not in top)
        raise InputError(
            f"{folder}: images in class folders and also beside them ({loose}). Keep one layout."
        )
    folders = (entry.name for entry in folder.iterdir() if entry.is_dir())
    classes = known or tuple(sorted(printable(n) for n in folders if not n.startswith(".")))
    return (
        "imagefolder",
        {name: class_index(label, classes, f"{folder}/{label}") for name, label in top.items()},
        classes,
    )


def class_index(name: str, known: tuple[str, ...], where: str) -> int:
    """Place of a class name among the known ones, where it must occur once."""
    if known.count(name) != 1:
        what = "is not a class of the model" if name not in known else "names several classes"
        raise InputError(f"{where}: {name!r} {what}. Use the names given as --labels.")
    return known.index(name)


def check_labels(
    y: npt.NDArray[np.generic], count: int, known: tuple[str, ...], where: str
) -> tuple[int, ...]:
    """Class indices of an array of labels: (count,) integers, not negative, within ``known``."""
    if y.shape != (count,) or not np.issubdtype(y.dtype, np.integer):
        raise InputError(
            f"{where}: labels are {y.dtype} of shape {y.shape}. Give {count} class indices."
        )
    labels = tuple(int(value) for value in y)
    top = len(known) if known else None
    bad = next((i for i, v in enumerate(labels) if v < 0 or (top and v >= top)), None)
    if bad is not None:
        raise InputError(f"{where}: label {labels[bad]} of image {bad} is no class index.")
    return labels


def _read_table(table: Path) -> dict[str, tuple[int, str]]:
    """File name → (line, text of the label)."""
    rows: dict[str, tuple[int, str]] = {}
    try:
        with table.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.reader(stream)
            header = [cell.strip().lower() for cell in next(reader, [])]
            if not {"file", "label"} <= set(header):
                raise InputError(f"{table}: no header 'file,label'. Write it on the first line.")
            for row in filter(None, reader):
                where = f"{table} line {reader.line_num}"
                cells = dict(zip(header, row, strict=False))
                name = printable(PurePosixPath(cells.get("file", "").strip()).as_posix())
                label = cells.get("label", "").strip()
                if not label or name in rows:
                    what = "no label" if not label else "a second row"
                    raise InputError(f"{where}: {what} for {name!r}. Give one label for each file.")
                rows[name] = (reader.line_num, label)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{table}: cannot be read as UTF-8 CSV ({error}).") from error
    return rows


def _resolve(
    rows: dict[str, tuple[int, str]], known: tuple[str, ...], table: Path
) -> tuple[dict[str, int | None], tuple[str, ...]]:
    """Class indices from names or numbers."""
    numeric = all(_is_index(label) for _, label in rows.values())
    if not known and not numeric:
        known = tuple(sorted({label for _, label in rows.values()}))
    labels: dict[str, int | None] = {}
    for name, (line, label) in rows.items():
        where = f"{table} line {line} ({name})"
        if not known or (label not in known and _is_index(label)):
            labels[name] = int(label)
            if known and int(label) >= len(known):
                raise InputError(f"{where}: class {label} of only {len(known)} classes.")
        else:
            labels[name] = class_index(label, known, where)
    return labels, known


def _is_index(label: str) -> bool:
    return label.isascii() and label.isdigit() and len(label) < 10
