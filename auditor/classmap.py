"""What ImageNet's folder names mean: WordNet identifiers → class indices and names."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from auditor.errors import InputError
from auditor.labels import MAX_TEXT, class_index, printable
from auditor.safe_files import beside
from auditor.usercode import describe

MAPS = ("classes.json", "imagenet_class_index.json", "LOC_synset_mapping.txt", "synset_words.txt")
SPLITS = frozenset({"train", "training", "val", "valid", "validation", "test", "testing"})
MAX_MAP_BYTES = 2**24
MAX_CLASSES = 10**6
_WORDNET = re.compile(r"n\d{8}")


@dataclass(frozen=True, kw_only=True)
class ClassMap:
    """Folder names with their class index, their names, or both.

    A class may have several names that mean the same, as "tench" and "Tinca tinca".
    """

    indices: Mapping[str, int]
    names: Mapping[str, tuple[str, ...]]

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names in the order of the indices; empty where a class has no name or no index."""
        by_index = {index: self.names.get(folder) for folder, index in self.indices.items()}
        found = [by_index.get(index) for index in range(len(by_index))]
        return tuple(names[0] for names in found if names) if all(found) else ()

    def index(self, folder: str, known: tuple[str, ...], where: str) -> int:
        """Class index of a folder among the model's classes.

        A name that is one of the model's decides; else the index of the map, if the map may be
        about the same classes as the model.

        Raises
        ------
        InputError
            If neither does.
        """
        names = self.names.get(folder, ())
        places = {known.index(name) for name in names if known.count(name) == 1}
        if len(places) == 1:
            return places.pop()
        index = self.indices.get(folder)
        fits = (
            not known or (not names and folder in self.indices) or len(known) == len(self.indices)
        )
        if index is not None and fits and not (known and index >= len(known)):
            return index
        if folder in known or not _WORDNET.fullmatch(folder):
            return class_index(names[0] if names else folder, known, where)
        meaning = f" ({names[0]!r})" if names else ""
        raise InputError(
            f"{where}: {folder!r}{meaning} is not a class of the model. Use the names given as "
            "--labels, or add a class map (docs/images.md)."
        )


def read_class_map(folder: Path) -> ClassMap | None:
    """The first of :data:`MAPS` in a folder of class folders, or beside its ``train`` and ``val``.

    Raises
    ------
    InputError
        If the map cannot be read, or names a folder or an index twice.
    """
    places = (folder, folder.absolute().parent) if folder.name in SPLITS else (folder,)
    found = (beside(place, name) for place in places for name in MAPS)
    path = next((file for file in found if file is not None), None)
    if path is None:
        return None
    try:
        if path.stat().st_size > MAX_MAP_BYTES:
            raise InputError(f"{path}: larger than {MAX_MAP_BYTES // 2**20} MiB, no class map.")
        text = path.read_text("utf-8-sig")
        rows = _lines(text) if path.suffix == ".txt" else _entries(json.loads(text), path.name)
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(
            f"{path}: no class map ({describe(error)}). See docs/images.md."
        ) from error
    return _check(rows, path)


_Rows = list[tuple[str, int | None, tuple[str, ...]]]
"""Folder, index, names."""


def _lines(text: str) -> _Rows:
    """Lines "n01440764 tench, Tinca tinca" in the order of the classes."""
    lines = [line.strip().partition(" ") for line in text.splitlines() if line.strip()]
    return [
        (folder, place, tuple(name.strip() for name in names.split(",") if name.strip()))
        for place, (folder, _, names) in enumerate(lines)
    ]


def _entries(content: Any, file: str) -> _Rows:
    """``{"0": ["n01440764", "tench"]}``, or ``{"n01440764": "tench"}``, or the index as value."""
    if not isinstance(content, dict):
        raise ValueError("not an object")
    rows: _Rows = []
    for key, value in content.items():
        if file == "imagenet_class_index.json":
            if not (key.isascii() and key.isdigit()) or not _is_pair(value):
                raise ValueError(f"entry {key[:40]!r} is not as '0': ['n01440764', 'tench']")
            rows.append((value[0], int(key[:9]), (value[1],)))
        elif type(value) is int:
            rows.append((key, value, ()))
        elif isinstance(value, str) and value:
            rows.append((key, None, (value,)))
        else:
            raise ValueError(f"entry {key[:40]!r} is neither a name nor an index")
    return rows


def _is_pair(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(type(v) is str and v for v in value)


def _check(rows: _Rows, path: Path) -> ClassMap:
    indices: dict[str, int] = {}
    names: dict[str, tuple[str, ...]] = {}
    for folder, index, found in rows:
        if folder in indices or folder in names:
            raise InputError(f"{path}: {folder[:40]!r} occurs twice. Keep one.")
        if any(len(name) > MAX_TEXT for name in found):
            raise InputError(f"{path}: a name of more than {MAX_TEXT} characters. Shorten it.")
        if index is not None and not 0 <= index < MAX_CLASSES:
            raise InputError(f"{path}: {index} is no class index. Count from 0.")
        if index is not None:
            indices[folder] = index
        if found:
            names[folder] = tuple(printable(name) for name in found)
    if len(set(indices.values())) < len(indices):
        raise InputError(f"{path}: two folders have the same class index. Correct one.")
    if indices and len(indices) < len(rows):
        raise InputError(f"{path}: some classes have an index, some have none. Give all or none.")
    return ClassMap(indices=indices, names=names)
