"""docs/bounds.md names every bound that there is, and its example runs."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
NAME = re.compile(r'(?:name=|^        +\(?)"([a-z]+(?:_[a-z]+)*)"(?= \+|,)', re.MULTILINE)
TEXT = (ROOT / "docs" / "bounds.md").read_text()


def test_every_bound_is_in_the_table():
    sources = (ROOT / "auditor" / "bounding").glob("*.py")
    names = {n for path in sources for n in NAME.findall(path.read_text())}
    assert {"topk_certificate", "stability", "fidelity"} <= names
    named = set()
    for row in TEXT.splitlines():
        if row.startswith("| `"):
            named |= set(re.findall(r"`([^`]+)`", row.split("|")[1]))
    assert names <= named


def test_the_example_runs(capsys):
    (code,) = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    names: dict = {}
    exec(compile(code, "docs/bounds.md", "exec"), names)
    assert "tensor" in capsys.readouterr().out
    assert (names["certified_overlap"](names["limits"], k=6, radius=0.0, sigma=0.2) > 0).all()
