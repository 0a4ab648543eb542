"""A user's project: an ``attacks`` package of its own, an explanation, and 16-bit TIFFs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from auditor.results import AuditResult

EXPLANATIONS = {
    "times_input": """
from attacks.signs import gradient


def explain(model, x, target):
    return x * gradient(model, x, target)
""",
    "occlusion": """
import numpy as np
import torch
from attacks.signs import gradient  # the user's own, not ours


def explain(model, x, target):
    with torch.no_grad():
        base = model(x).gather(1, target[:, None])[:, 0]
        maps = np.zeros((len(x), 12, 12), np.float32)
        for row in range(0, 12, 3):
            for column in range(0, 12, 3):
                hidden = x.clone()
                hidden[:, :, row : row + 3, column : column + 3] = 0
                drop = base - model(hidden).gather(1, target[:, None])[:, 0]
                maps[:, row : row + 3, column : column + 3] = drop.numpy()[:, None, None]
    return maps + 1e-6 * x[:, 0].numpy()
""",
}


AUDIT = [
    *("audit", "--model", "net.py:network", "--weights", "model.safetensors"),
    *("--images", "scans", "--input-size", "1x12x12", "--mean", "0", "--std", "1"),
    *("--effort", "quick", "--sigma", "0.1", "--samples", "4", "--run", "run", "--quiet"),
]


@pytest.fixture
def project_here(here, held_out) -> Path:
    """The tiny project with a package called ``attacks``, explanations, and TIFFs of 16 bits."""
    root = here
    (root / "attacks").mkdir()
    (root / "attacks" / "__init__.py").write_text("OWNER = 'user'\n")
    (root / "attacks" / "signs.py").write_text(
        "import torch\nimport attacks\nassert attacks.OWNER == 'user'\n\n\n"
        "def gradient(model, x, target):\n"
        "    x = x if x.requires_grad else x.detach().clone().requires_grad_()\n"
        "    score = model(x).gather(1, target[:, None]).sum()\n"
        "    return torch.autograd.grad(score, x, create_graph=True)[0]\n"
    )
    for name, text in EXPLANATIONS.items():
        (root / f"{name}.py").write_text(text)
    folder = root / "scans"
    folder.mkdir()
    for index, picture in enumerate(held_out[0][:12].numpy()):
        levels = np.round(picture[0] * 65535).astype(np.uint16)
        Image.fromarray(levels).save(folder / f"scan{index:02}.tiff")
    return root


@pytest.mark.parametrize(("name", "differentiable"), [("times_input", True), ("occlusion", False)])
def test_it_is_audited_like_ours(project_here, run, name, differentiable):
    code, _, errors = run([*AUDIT, "--explain", f"{name}.py:explain"])
    assert code == 1, errors  # twelve images are too few for a verdict
    result = AuditResult.load(project_here / "run")
    assert result.explanation.name == "explain"
    assert result.explanation.differentiable is differentiable
    assert result.explanation.price == (1 if differentiable else 6)
    assert {m.method for m in result.measurements} == {"explain"}
    assert "curvature" in result.not_applicable
    conditions = {"probe": "attack", "metric": "topk_intersection", "sigma": 0.0, "epsilon": 4.0}
    found = {m.attack: m.estimate.mean for m in result.find(**conditions)}
    assert found["strongest"] < found["random_signs"]
    assert found["strongest"] <= found["transfer"]  # from the gradient
    settings = {s.name: (s.value, s.origin) for s in result.settings}
    assert settings["explain"] == ("explain", "command line")
    assert (project_here / "run" / "report.pdf").stat().st_size > 10_000


def test_another_explanation_does_not_resume_the_run(project_here, run):
    line = [*AUDIT, "--explain", "times_input.py:explain"]
    assert run(line)[0] == 1
    text = EXPLANATIONS["times_input"].replace("x * gradient", "2 * x * gradient")
    (project_here / "times_input.py").write_text(text)
    code, _, errors = run([*line, "--resume"])
    assert code == 2
    assert "cannot resume with other settings (explain:" in errors


def test_it_can_be_attacked_alone(project_here, run):
    line = [
        *("attack", "--model", "net.py:network", "--weights", "model.safetensors"),
        *("--images", "scans", "--input-size", "1x12x12", "--mean", "0", "--std", "1"),
        *("--explain", "occlusion.py:explain", "--budget", "240", "--oracle", "difference"),
    ]
    code, out, errors = run(line)
    assert code == 0, errors
    assert "Explanation: explain." in out
    found = json.loads((project_here / "attack-out" / "attack.json").read_text())
    assert found["explanation"] == "explain"
    assert any("RandomSearch" in search for search in found["searches"])
