"""What docs/methods.md says of the methods is complete, and its examples are right."""

from __future__ import annotations

import re
from pathlib import Path

import torch

from auditor.attributions.registry import METHODS, find_method

TEXT = (Path(__file__).parent.parent / "docs" / "methods.md").read_text()


def test_every_method_is_explained_with_its_options():
    found = {}
    for line in TEXT.splitlines():
        if line.startswith("| `"):
            names, _, options = line.split("|")[1:-1]
            for name in re.findall(r"`(\w+)`", names):
                found[name] = set(re.findall(r"`(\w+)`", options))
    assert found == {name: set(entry.options) for name, entry in METHODS.items()}


def test_the_method_of_the_example_exists():
    (spec,) = re.findall(r"--method (\S+,\S+)", TEXT)
    assert "points=50" in find_method(spec).identity


def test_values_that_are_named_are_all_there_are():
    sentences = re.findall(r"`(\w+)` ?\n?is ((?:`[\w-]+`[^.`]*(?:\([^)]*\))?[^.`]*)+)\.", TEXT)
    for option, values in sentences:
        named = re.findall(r"`([\w-]+)`", values)
        spec = {"sampler": "smooth_grad", "layer": ""}.get(option, "integrated_gradients")
        for value in named if spec else ():
            find_method(f"{spec},{option}={value}")
    assert {option for option, _ in sentences} >= {"sampler", "baseline", "rule"}


def test_the_example_runs(capsys):
    (code,) = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    with torch.random.fork_rng():
        exec(compile(code, "docs/methods.md", "exec"), {})
    assert "torch.Size([2, 3, 32, 32]) {'audit': 20}" in capsys.readouterr().out
