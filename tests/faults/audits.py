"""What run folders hold, after a fault and at the end."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from auditor.store import RunFolder


def comparable(folder: Path) -> dict:
    """What an audit found, without times."""
    record = json.loads((folder / "audit.json").read_text(encoding="utf-8"))
    for name in ("timings", "created"):
        del record[name]
    del record["profile"]["declared"], record["profile"]["tried"]
    return record


def whole(folder: Path) -> list[str]:
    """Tasks on disk; each must be readable."""
    names = sorted(path.stem for path in (folder / "tasks").glob("*.npz"))
    for name in names:
        arrays = RunFolder(folder).load(name)
        assert all(isinstance(values, np.ndarray) for values in arrays.values())
    return names
