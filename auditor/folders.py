"""A folder of image files → what is in it: layout, labels, classes, subgroups."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from auditor.classmap import SPLITS, ClassMap, read_class_map
from auditor.errors import InputError
from auditor.labels import Row, printable, read_table, resolve
from auditor.safe_files import Skipped, beside, subfolders

TABLES = ("labels.csv", "labels.json")


@dataclass(frozen=True, kw_only=True)
class FolderLabels:
    """Files to use, by their path inside the folder, and what is known of each."""

    format: str
    names: tuple[str, ...]
    labels: tuple[int, ...] | None
    class_names: tuple[str, ...]
    subgroups: tuple[str, ...] | None


def enter_split(folder: Path) -> Path:
    """The folder of class folders: the given one, or its only ``train``, ``val`` or ``test``.

    A folder is such a data set's if all its folders have these names and one of them holds
    folders; a folder of classes that happen to be called "train" and "test" holds images.

    Raises
    ------
    InputError
        If there are several to choose from.
    """
    splits = subfolders(folder)
    if not splits or not set(splits) <= SPLITS or _table(folder) is not None:
        return folder
    if not any(subfolders(folder / split) for split in splits):
        return folder
    if len(splits) > 1:
        raise InputError(
            f"{folder}: holds {' and '.join(splits)}. Give one of them: {folder / splits[-1]}."
        )
    if (folder / splits[0]).is_symlink():
        raise InputError(
            f"{folder / splits[0]}: a link to a folder, not followed. Give its target."
        )
    return folder / splits[0]


def folder_labels(
    folder: Path, files: Sequence[str], known: tuple[str, ...], skipped: Skipped
) -> FolderLabels:
    """Tell the layout of a folder and the class of each image.

    Parameters
    ----------
    files
        Image files by their path inside the folder.
    known
        Class names in the order of the logits; empty if unknown.
    skipped
        Gets the images that a table leaves out, and its rows without an image.

    Raises
    ------
    InputError
        If a class is unknown, or the layout is ambiguous.
    """
    path = _table(folder)
    table = read_table(path) if path is not None else {}
    if path is not None:
        skipped += [(name, f"not in {path.name}") for name in files if name not in table]
        there = set(files)
        skipped += [(name, f"only in {path.name}") for name in table if name not in there]
    rows = {name: table[name] for name in files if name in table}
    names = tuple(rows) if path is not None else tuple(files)
    format_, labels, classes = _classes(folder, names, rows, known)
    subgroups = tuple(row.subgroup for row in rows.values() if row.subgroup is not None)
    return FolderLabels(
        format=format_,
        names=names,
        labels=tuple(labels[name] for name in names) if labels else None,
        class_names=classes,
        subgroups=subgroups or None,
    )


def _table(folder: Path) -> Path | None:
    found = [file for name in TABLES if (file := beside(folder, name)) is not None]
    if len(found) > 1:
        raise InputError(f"{folder}: holds {' and '.join(TABLES)}. Keep one.")
    return found[0] if found else None


def _classes(
    folder: Path, names: Sequence[str], rows: dict[str, Row], known: tuple[str, ...]
) -> tuple[str, dict[str, int], tuple[str, ...]]:
    """Format, class index of each image, and class names."""
    if any(row.label is not None for row in rows.values()):
        return ("folder", *resolve(rows, known))
    top = {name: name.partition("/")[0] for name in names if "/" in name}
    if not top:
        return "folder", {}, known
    if len(top) < len(names):
        loose = next(name for name in names if name not in top)
        raise InputError(
            f"{folder}: images in class folders and also beside them ({loose}). Keep one layout."
        )
    there = tuple(sorted(printable(name) for name in subfolders(folder)))
    class_map = read_class_map(folder)
    if class_map is None:
        class_map = ClassMap(indices={}, names={})
    numbered = bool(class_map.indices)
    if known or numbered:
        classes = known or class_map.class_names
        used = {
            name: class_map.index(name, known, f"{folder}/{name}") for name in set(top.values())
        }
    else:
        classes = tuple(class_map.names.get(name, (name,))[0] for name in there)
        used = {name: there.index(name) for name in set(top.values())}
    format_ = "imagefolder with class map" if numbered else "imagefolder"
    return format_, {name: used[label] for name, label in top.items()}, classes
