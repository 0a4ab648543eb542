"""An audit that trains its members itself."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from torch import Tensor

from auditor.asked_members import check_retraining
from auditor.errors import InputError

MODEL = ["--model", "net.py:network", "--weights", "model.safetensors", "--input-size", "1x12x12"]
SMALL = [
    "--effort",
    "quick",
    "--sigma",
    "0.2",
    "--epsilon",
    "8",
    "--samples",
    "2",
    "--budget",
    "20",
]
LINE = ["audit", *MODEL, "--images", "new.npz", *SMALL, "--profile", "debugging"]

FIT = """
from pathlib import Path

import torch
from net import network


def fit(split, seed):
    torch.manual_seed(seed)
    with open("calls.txt", "a") as calls:
        calls.write(f"{len(split[0])} {seed}\\n")
    if Path("stop").exists() and seed == 10008:
        raise KeyboardInterrupt
    return network()
"""


@pytest.fixture
def there(here: Path, digits: tuple[Tensor, Tensor]) -> Iterator[Path]:
    """The project, with digits to train on and three to explain."""
    x, y = (values.numpy() for values in digits)
    np.savez(here / "train.npz", x=x[800:1100], y=y[800:1100])
    np.savez(here / "new.npz", x=x[1100:1103], y=y[1100:1103])
    (here / "fit.py").write_text(FIT)
    yield here
    sys.modules.pop("net", None)  # what an interrupted function had imported


def test_members_are_a_task_of_the_run_that_resumes(there, run):
    line = [*LINE, "--retrain", "--images train.npz --train fit.py:fit", "--exit-zero"]
    (there / "stop").touch()
    code, _, err = run(line)
    assert (code, "--resume goes on" in err) == (3, True)
    (there / "stop").unlink()
    code, _, err = run(line)
    assert (code, "Use --resume" in err) == (2, True)
    code, _, err = run([*line, "--resume", "--format", "json"])
    assert code == 0, err
    # The first member was trained once, before the stop.
    assert (there / "calls.txt").read_text().splitlines() == ["135 10007"] + ["135 10008"] * 2
    audit = json.loads((there / "auditor-run" / "audit.json").read_text())
    assert {m["partner"] for m in audit["measurements"] if m["metric"] == "variance"} == {
        "DT, disjoint training splits; 2 members of 135 images, seed 10007"
    }
    assert [twin["name"] for twin in audit["twins"]] == ["dt-10007-0", "dt-10007-1"]
    code, out, _ = run(["verify", "auditor-run", "--inputs"])
    assert code == 0, out
    # Another audit takes them from there.
    again = [*LINE, "--members", "auditor-run/members", "--run", "other", "--dry-run", "--json"]
    assert json.loads(run(again)[1])["evaluations"]["twin"] > 0


def test_nothing_is_trained_before_the_audit_is_checked(there, run):
    members = ["--retrain", "--images train.npz --train fit.py:fit"]
    line = ["audit", *MODEL, "--images", "new.npz", *members]
    for more, says in {
        ("--profile", "nosuch"): "nosuch",
        ("--effort", "glance"): "compares no members",
    }.items():
        code, _, err = run([*line, *more])
        assert (code, says in err) == (2, True), err
    code, _, err = run([*line, "--dry-run"])
    assert (code, "trains no members" in err) == (0, True)
    assert not (there / "calls.txt").exists()
    assert not (there / "auditor-run").exists()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("--setting dt", "'--images'"),
        ("--images a --setting xy", "'xy' is not one of"),
        ("--images a --nonsense 1", "No such option"),
        ("--images 'a", "No closing quotation"),
        ("--help", "see auditor retrain --help"),
        ("--images a --model b.py:c", "--model is the audit's own"),
        ("--images a --run there", "--run is the audit's own"),
        ("--images a --input-size 28", "--input-size is the audit's own"),
        ("--images a --device cuda", "--device is the audit's own"),
    ],
)
def test_options_that_will_not_do(text, says, capsys):
    with pytest.raises(InputError, match="--retrain") as caught:
        check_retraining(text)
    assert says in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_options_are_read_as_the_command_reads_them():
    found = check_retraining(
        "--images 'a b' --setting seed --members 5 --training epochs=3,batch=8"
    )
    assert (found["images"], found["settings"]) == (Path("a b"), ("seed",))
    assert (found["members"], found["training"]) == (5, "epochs=3,batch=8")
