from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

USUAL = {
    "model": "net.py:network",
    "weights": "model.safetensors",
    "images": "few.npz",
    "input-size": "1x12x12",
    "mean": "0",
    "std": "1",
    "threads": "1",
    "effort": "quick",
}
PAGE = Path(__file__).parent.parent.parent / "docs" / "preflight.md"


def words(**changes):
    options = USUAL | {name.replace("_", "-"): value for name, value in changes.items()}
    line = ["check"]
    for name, value in options.items():
        if value is not None:
            line += [f"--{name}"] if value is True else [f"--{name}", str(value)]
    return line


def test_every_check_is_shown_and_has_its_line_in_the_docs(run, here):
    before = {path.name for path in here.iterdir()}
    code, out, _ = run(words())
    assert code == 0
    assert max(map(len, out.splitlines())) <= 80
    assert out.count("Double backward") == 1  # a note is not printed again under the cost
    listed = json.loads(run(words(json=True))[1])
    (checks,) = listed["checks"].values()
    names = {check["name"] for check in checks}
    assert len(names) >= 8
    for name in names:
        assert name.split()[0] in out
    documented = set(re.findall(r"^\| ([a-z ]+) \|", PAGE.read_text(), re.MULTILINE)) - {"check"}
    (here / "prep.py").write_text("def inside(x):\n    return x - 0.5\n")
    own = json.loads(run(words(json=True, preprocess="prep.py:inside", mean=None, std=None))[1])
    more = {
        check["name"]: check["status"] for check in own["checks"]["network (model.safetensors)"]
    }
    assert more.keys() - names == {"preprocessing", "differentiable preprocessing"}
    assert more.pop("preprocessing") == "note"  # of the loader, as of other loaders
    assert documented == names | more.keys()
    before.add("prep.py")
    assert listed["cost"]["evaluations"]["attack"] > 0
    assert {path.name for path in here.iterdir()} == before  # nothing is written


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": "missing.npz"}, "missing.npz"),
        ({"target": "99"}, r"--target 99: network \(model.safetensors\) has classes 0 to 9"),
        ({"input-size": "1x9x9"}, "rejects|size|shape"),
        ({"profile": "hope"}, "hope"),
    ],
)
def test_a_check_that_fails_ends_with_exit_code_2(run, here, changes, message):
    code, out, err = run(words(**changes))
    assert (code, out) == (2, "")
    assert re.search(message, err)
    assert len(err.strip().splitlines()) <= 2
