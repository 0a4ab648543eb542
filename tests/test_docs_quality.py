"""What docs/quality.md says of the metrics is complete, and its example runs."""

from __future__ import annotations

import fnmatch
import re
from pathlib import Path

import torch

from auditor.quality import METRICS

TEXT = (Path(__file__).parent.parent / "docs" / "quality.md").read_text()


def test_every_metric_is_explained_and_every_name_is_one():
    rows = [line for line in TEXT.splitlines() if line.startswith("| `")]
    named = {name for row in rows for name in re.findall(r"`([^`]+)`", row)}
    missing = [metric for metric in METRICS if not any(fnmatch.fnmatch(metric, n) for n in named)]
    assert missing == []
    assert [name for name in named if not fnmatch.filter(METRICS, name)] == []


def test_the_example_runs(capsys):
    (code,) = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    names: dict = {}
    with torch.random.fork_rng():
        exec(compile(code, "docs/quality.md", "exec"), names)
    printed = capsys.readouterr().out
    assert next(iter(names["randomized"].values)) == "randomized_spearman_3"
    assert list(names["randomized"].values)[-1] == "randomized_topk_intersection_0"
    assert "randomized_ssim_0: " in printed
    assert "tensor" in printed
