"""Saved models, outputs and targets from the command line."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from torch import nn

from auditor.cli import cli
from auditor.errors import InputError
from auditor.specs import parse_target, parse_twin


class Both(nn.Module):
    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, x):
        logits = self.network(x)
        return {"twice": 2 * logits, "once": logits}


@pytest.fixture(scope="module")
def folder(tmp_path_factory, networks, held_out):
    folder = tmp_path_factory.mktemp("saved")
    for name, network in zip(("model", "twin"), networks, strict=True):
        program = torch.export.export(Both(network), (held_out[0][:4],))
        torch.export.save(program, folder / f"{name}.pt2")
    np.savez(folder / "few.npz", x=held_out[0][:8].numpy(), y=held_out[1][:8].numpy())
    return folder


def audit(folder, *more):
    line = ["audit", "--model", f"{folder}/model.pt2", "--images", f"{folder}/few.npz"]
    line += ["--mean", "0", "--std", "1", "--effort", "quick", "--sigma", "0.1", "--samples", "4"]
    line += ["--budget", "80", *more]
    return CliRunner().invoke(cli, line, standalone_mode=False)


def test_a_saved_model_with_a_saved_twin(folder):
    twin = f"{folder}/twin.pt2,output=once"
    run = ("--json", "--run", f"{folder}/run")
    result = audit(folder, "--output", "once", "--twin", twin, "--target", "label", *run)
    assert result.exception is None, result.exception
    assert json.loads(result.stdout)["verdict"] == "inconclusive"
    record = json.loads((folder / "run" / "audit.json").read_text())
    assert record["model"]["format"] == record["twins"][0]["format"] == "torch.export"
    chosen = {s["name"]: (s["value"], s["origin"]) for s in record["settings"]}
    assert chosen["output"] == ("once", "command line")
    assert chosen["target"] == ("label", "command line")
    assert list(record["not_applicable"]) == ["RRS"]  # no layers to look into
    assert (folder / "run" / "report.pdf").is_file()


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ([], r"several tensors, twice \(4×10\), once \(4×10\). Choose one: --output KEY"),
        (["--output", "thrice"], "no 'thrice' for --output, but twice"),
        (["--output", "once", "--target", "best"], "--target best: not understood"),
        (["--output", "once", "--target", "10"], "classes 0 to 9"),
        (["--output", "once", "--input-size", "1x14x14"], "Check --input-size"),
    ],
)
def test_bad_input(folder, more, says):
    result = audit(folder, *more, "--dry-run")
    assert isinstance(result.exception, InputError)
    with pytest.raises(InputError, match=says):
        raise result.exception


def test_what_is_typed_for_targets_and_twins():
    assert [parse_target(text) for text in ("predicted", "label", "0", "12")] == [
        *("predicted", "label"),
        *(0, 12),
    ]
    for text in ("", "-1", "1.0", "²", "Predicted"):
        with pytest.raises(InputError):
            parse_target(text)
    assert parse_twin("a.pt2,output=logits")["output"] == "logits"
