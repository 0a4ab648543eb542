"""The demo, killed and resumed; slow, because it is the real one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

ROOT = Path(__file__).parent.parent


def start(inputs: Path, run: Path) -> subprocess.Popen[bytes]:
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    with run.with_suffix(".log").open("ab") as log:
        return subprocess.Popen(
            ["sh", "examples/mnist.sh", str(inputs), str(run)],
            cwd=ROOT,
            env=os.environ | {"PATH": path},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def measured(run: Path) -> dict[str, Any]:
    """The results without times, and without the command, which names the folder."""
    result = json.loads((run / "audit.json").read_text())
    for key in ("timings", "created", "command"):
        del result[key]
    del result["profile"]["declared"], result["profile"]["tried"]
    return result


@pytest.mark.slow
def test_the_demo_killed_three_times_gives_the_same_audit(tmp_path):
    inputs, whole, killed = tmp_path / "input", tmp_path / "whole", tmp_path / "killed"
    subprocess.run([sys.executable, "examples/mnist.py", inputs], cwd=ROOT, check=True)
    assert start(inputs, whole).wait() == 0
    expected = measured(whole)
    assert expected["recommendation"]["verdict"] != "inconclusive"
    moments = np.random.default_rng(0).uniform(20, 90, size=3)
    for seconds in moments:
        process = start(inputs, killed)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(timeout=seconds)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert start(inputs, killed).wait() == 0
    assert measured(killed) == expected
