"""Ensembles: which networks learned the same task anew, and in what their trainings differ."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from auditor.errors import InputError
from auditor.models import Classifier
from auditor.training.ensemble import check_distinct
from auditor.weights import load_weights

MANIFEST = "members.json"
"""What ``auditor retrain`` writes beside the weights."""
SETTINGS = {
    "dt": "DT, disjoint training splits",
    "seed": "seed, same data and recipe",
    "dr": "DR, another recipe on the same data",
    "da": "DA, another architecture",
    "finetune": "fine-tuned on disjoint parts (an optimistic estimate of retraining)",
}
"""Setting → what the members differ in (S0 5)."""


@dataclass(frozen=True, kw_only=True)
class Ensemble:
    """Members that are compared with each other.

    Attributes
    ----------
    name
        Setting and what else tells it from others; named in every table.
    members
        Places among the audited model (0) and its twins (1, 2, …), at least two.
    """

    name: str
    members: tuple[int, ...]


def of_twins(settings: Sequence[str | None]) -> tuple[Ensemble, ...]:
    """The audited model with its twins, one ensemble for each setting that is named.

    >>> of_twins(["da", None, "da"])[0].members
    (0, 1, 3)

    Raises
    ------
    InputError
        If there is no such setting.
    """
    places: dict[str, list[int]] = {}
    for place, setting in enumerate(settings, start=1):
        if setting is None:
            continue
        if setting not in SETTINGS:
            raise InputError(f"setting={setting}: unknown. Choose one of {', '.join(SETTINGS)}.")
        places.setdefault(setting, [0]).append(place)
    return tuple(
        Ensemble(name=SETTINGS[setting], members=tuple(members))
        for setting, members in places.items()
    )


def read_members(
    folder: Path, *, like: Classifier, first: int
) -> tuple[list[Classifier], tuple[Ensemble, ...]]:
    """Networks that ``auditor retrain`` left in a folder, and how they belong together.

    Parameters
    ----------
    like
        The audited model: members have its architecture and preparation.
    first
        Place of the first of them among the audited model and its twins.

    Raises
    ------
    InputError
        If the folder or a file is not understood, or two members have the same weights.
    """
    classifiers: list[Classifier] = []
    ensembles: list[Ensemble] = []
    for name, files in _groups(folder):
        start = first + len(classifiers)
        members = [_member(folder / file, like) for file in files]
        check_distinct([member.network for member in members], files)
        classifiers += members
        ensembles.append(Ensemble(name=name, members=tuple(range(start, start + len(members)))))
    return classifiers, tuple(ensembles)


def manifest(groups: Sequence[dict[str, Any]]) -> bytes:
    """The file that :func:`read_members` reads: of each ensemble ``name`` and ``members``."""
    return json.dumps({"version": 1, "ensembles": list(groups)}, indent=1).encode()


def _groups(folder: Path) -> list[tuple[str, list[str]]]:
    file = folder / MANIFEST
    if not os.path.isfile(file):
        raise InputError(f"{folder}: no {MANIFEST} here. Make it with auditor retrain.")
    try:
        groups = json.loads(file.read_text(encoding="utf-8"))["ensembles"]
        found = [
            (group["name"], [member["weights"] for member in group["members"]]) for group in groups
        ]
        right = all(
            isinstance(name, str) and all(_plain(weights) for weights in files)
            for name, files in found
        )
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        right, found = False, []
    if not (right and found):
        raise InputError(f"{file}: not understood. Make it again with auditor retrain.")
    return found


def _plain(name: Any) -> bool:
    """Whether it names a file of weights in the folder itself."""
    return isinstance(name, str) and Path(name).name == name and name.endswith(".safetensors")


def _member(file: Path, like: Classifier) -> Classifier:
    member = like.copied()
    load_weights(member.network, file)
    member.name, member.remarks = file.stem, ()
    return member
