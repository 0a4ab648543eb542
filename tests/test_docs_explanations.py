"""What docs/explanations.md shows runs as it is written."""

from __future__ import annotations

import re
from pathlib import Path

import torch
from torch import nn

import auditor
from auditor.evaluation import Evaluator
from auditor.explanation import examine, load_explanation

TEXT = (Path(__file__).parent.parent / "docs" / "explanations.md").read_text()
OWN, CAPTUM = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)


def network() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(400, 3))


def test_the_function_is_found_and_differentiable(tmp_path):
    (tmp_path / "explain.py").write_text(OWN)
    method = load_explanation(f"{tmp_path / 'explain.py'}:saliency")
    model = auditor.from_network(network(), input_shape=(1, 12, 12))
    x = torch.rand((3, 1, 12, 12), generator=torch.Generator().manual_seed(0))
    found, _ = examine(method, Evaluator(model=model, batch=4), x)
    assert found.differentiable
    assert not found.random


def test_the_captum_example_is_an_audit(monkeypatch):
    seen = {}

    def audit(classifier, images, **given):
        seen.update(given, images=images)

    monkeypatch.setattr(auditor, "audit", audit)
    exec(CAPTUM, {"network": network(), "images": "mine"})
    assert seen["images"] == "mine"
    assert seen["explain"].name == "IntegratedGradients"
