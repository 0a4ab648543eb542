"""A run is measured again from its own command line, and compared."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from .test_cli import words


@pytest.fixture
def finished_run(run, here):
    run(words(quiet=True, format="json"))
    return here / "run"


def test_a_run_again(run, here, finished_run):
    code, out, err = run(["verify", "run"])
    assert (code, err) == (0, "")
    assert "– inputs: not checked. Model and images were not loaded (--inputs)." in out
    kept = {path: path.read_bytes() for path in finished_run.rglob("*") if path.is_file()}
    code, out, err = run(["verify", "run", "--remeasure", "2"])
    assert (code, err) == (0, "")
    assert "✓ inputs: same." in out
    assert out.count("figures are the same when measured again.") == 2
    assert {p: p.read_bytes() for p in finished_run.rglob("*") if p.is_file()} == kept

    for path in (finished_run / "tasks").glob("sigma-*.npz"):  # a forger makes figures better
        with np.load(path) as arrays:
            forged = dict(arrays)
        figures = [
            n
            for n, a in forged.items()
            if a.dtype.kind == "f" and not n.startswith(("meter", "delta"))
        ]
        np.savez(path, **forged | {n: forged[n] + 0.1 for n in figures})
    code, out, _ = run(["verify", "run", "--remeasure", "99"])
    assert code == 1
    assert "✗" in out

    other = (here / "twin.safetensors").resolve()
    (here / "model.safetensors").unlink()
    shutil.copy(other, here / "model.safetensors")
    code, out, _ = run(["verify", "run", "--inputs"])
    assert code == 1
    assert "✗ inputs: changed." in out
    assert "model: " in out

    shutil.rmtree(finished_run / "tasks")
    (here / "model.safetensors").unlink()
    code, _, err = run(["verify", "run", "--inputs"])
    assert code == 2
    assert "model.safetensors" in err


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (["verify", "absent"], "is not there"),
        (["verify", "few.npz"], "cannot be read as a PDF"),
        (["verify", "few.npz", "--inputs"], "need the RUN folder"),
        (["verify", "."], "no audit.json here"),
        (["sign", "absent.pdf", "--key", "few.npz"], "absent.pdf: cannot be read"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_nothing_to_verify(run, here, line, says):
    code, out, err = run(line)
    assert (code, out) == (2, "")
    assert says in err
