"""Labels and subgroups that a user wrote down: hostile CSV and JSON tables, and arrays."""

from __future__ import annotations

import csv
import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import numpy.typing as npt

from auditor.errors import InputError
from auditor.usercode import describe

MAX_IMAGES = 2_000_000
MAX_TABLE_BYTES = {".csv": 256 * 2**20, ".json": 32 * 2**20}
"""JSON is read at once, and becomes up to twenty times as large."""
MAX_TEXT = 200
"""Longest class name or subgroup, in characters."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """What a table says of one image; ``where`` is the place in the table."""

    where: str
    label: str | None
    subgroup: str | None


def printable(name: str) -> str:
    """Escape what would break a line of a report: control characters, undecodable bytes."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in name)


def read_table(table: Path) -> dict[str, Row]:
    """File name → row, of ``labels.csv`` or ``labels.json``.

    A CSV table has a header with ``file`` and ``label``, ``subgroup``, or both. A JSON table is a
    list of objects with these keys, or one object from file to label. Either every row has a label
    or none, and the same holds for subgroups.

    Raises
    ------
    InputError
        If the table cannot be read, or a row is wrong or a repetition.
    """
    try:
        most = MAX_TABLE_BYTES[table.suffix]
        if table.stat().st_size > most:
            raise InputError(f"{table}: larger than {most // 2**20} MiB. Split the set.")
        return _rows(_csv(table) if table.suffix == ".csv" else _json(table))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        kind = table.suffix[1:].upper()
        raise InputError(f"{table}: cannot be read as UTF-8 {kind} ({describe(error)}).") from error


def resolve(
    rows: Mapping[str, Row], known: tuple[str, ...]
) -> tuple[dict[str, int], tuple[str, ...]]:
    """Class indices from names or numbers, and the names of the classes.

    Without ``known`` names, names are numbered in sorted order.
    """
    texts = {name: row.label for name, row in rows.items() if row.label is not None}
    if not known and not all(_is_index(text) for text in texts.values()):
        known = tuple(sorted(set(texts.values())))
    labels: dict[str, int] = {}
    for name, text in texts.items():
        where = f"{rows[name].where} ({name})"
        if not known or (text not in known and _is_index(text)):
            labels[name] = int(text)
            if known and int(text) >= len(known):
                raise InputError(f"{where}: class {text} of only {len(known)} classes.")
        else:
            labels[name] = class_index(text, known, where)
    return labels, known


def class_index(name: str, known: tuple[str, ...], where: str) -> int:
    """Place of a class name among the known ones, where it must occur once."""
    if known.count(name) != 1:
        what = "is not a class of the model" if name not in known else "names several classes"
        raise InputError(f"{where}: {name!r} {what}. Use the names given as --labels.")
    return known.index(name)


def check_labels(
    y: npt.NDArray[np.generic], count: int, known: Collection[str], where: str
) -> tuple[int, ...]:
    """Class indices of an array of labels: (count,) integers, not negative, within ``known``."""
    if y.shape != (count,) or not np.issubdtype(y.dtype, np.integer):
        raise wrong_labels(y.dtype, y.shape, count, where)
    labels = tuple(int(value) for value in y)
    top = len(known) if known else None
    bad = next((i for i, v in enumerate(labels) if v < 0 or (top and v >= top)), None)
    if bad is not None:
        raise InputError(f"{where}: label {labels[bad]} of image {bad} is no class index.")
    return labels


def wrong_labels(
    dtype: np.dtype[Any], shape: tuple[int, ...], count: int, where: str
) -> InputError:
    """The error that an array cannot be the labels of so many images."""
    return InputError(f"{where}: labels are {dtype} of shape {shape}. Give {count} class indices.")


def _csv(table: Path) -> Iterable[tuple[str, Mapping[str, str]]]:
    """Place and cells of each row."""
    with table.open(encoding="utf-8-sig", newline="") as stream:
        reader = csv.reader(stream)
        header = [cell.strip().lower() for cell in next(reader, [])]
        if "file" not in header or not {"label", "subgroup"} & set(header):
            raise InputError(f"{table}: no header 'file,label'. Write it on the first line.")
        for row in filter(None, reader):
            cells = dict.fromkeys(header, "") | dict(zip(header, row, strict=False))
            yield f"{table} line {reader.line_num}", cells


def _json(table: Path) -> Iterable[tuple[str, Mapping[str, str]]]:
    """Place and texts of each entry."""
    try:
        content = json.loads(table.read_text("utf-8-sig"), object_pairs_hook=_unrepeated)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{table}: not valid JSON ({describe(error)}).") from error
    if isinstance(content, dict):
        content = [{"file": file, "label": label} for file, label in content.items()]
    if not isinstance(content, list):
        raise InputError(f"{table}: neither a list nor an object. See docs/images.md.")
    for place, entry in enumerate(content):
        where = f"{table} entry {place}"
        if not isinstance(entry, dict) or not isinstance(entry.get("file"), str):
            raise InputError(f"{where}: no object with a file. See docs/images.md.")
        used = {key: entry[key] for key in ("file", "label", "subgroup") if key in entry}
        wrong = next((k for k, v in used.items() if type(v) not in (str, int)), None)
        if wrong is not None:
            raise InputError(f"{where}: its {wrong} is neither text nor a whole number.")
        yield where, {key: str(value) for key, value in used.items()}


def _unrepeated(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("an object has a key twice")
    return found


def _rows(entries: Iterable[tuple[str, Mapping[str, str]]]) -> dict[str, Row]:
    rows: dict[str, Row] = {}
    columns: set[str] | None = None
    for where, cells in entries:
        name = printable(PurePosixPath(cells["file"].strip()).as_posix())
        found = {
            key: printable(cells[key].strip()) for key in ("label", "subgroup") if key in cells
        }
        if len(rows) == MAX_IMAGES:
            raise InputError(f"{where}: more than {MAX_IMAGES:,} files. Split the set.")
        columns = columns if columns is not None else set(found) or {"label"}
        if name in rows:
            raise InputError(f"{where}: a second row for {name!r}. Give one for each file.")
        for column in sorted({*columns, *found}):
            if not found.get(column) or column not in columns:
                raise InputError(
                    f"{where}: no {column} for {name!r}. Give one for each file, or for none."
                )
            if len(found[column]) > MAX_TEXT:
                raise InputError(f"{where}: a {column} of more than {MAX_TEXT} characters.")
        rows[name] = Row(where=where, label=found.get("label"), subgroup=found.get("subgroup"))
    return rows


def _is_index(label: str) -> bool:
    return label.isascii() and label.isdigit() and len(label) < 10
