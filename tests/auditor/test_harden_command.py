from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

import auditor
from auditor.training.smoothing import NAME

LINE = ["harden", "--model", "net.py:network", "--input-size", "1x12x12", "--images", "train.npz"]


@pytest.fixture
def there(here: Path, digits: tuple[Tensor, Tensor]) -> Path:
    """The project, with 250 digits to train on."""
    x, y = digits
    np.savez(here / "train.npz", x=x[800:1050].numpy(), y=y[800:1050].numpy())
    return here


def test_trains_and_tells_before_from_after(there, run):
    line = [*LINE, "--recipe", "adversarial,epsilon=0.03,steps=3", "--epochs", "2"]
    code, out, err = run([*line, "--learning-rate", "0.05", "--batch", "20"])
    assert code == 0
    assert "200 images trained on, 50 measured" in out
    assert [f"Epoch {n} of 2" in err for n in (0, 1, 2)] == [True] * 3
    found = json.loads((there / "auditor-hardened" / "harden.json").read_text())
    assert found["recipe_settings"]["name"] == "adversarial"
    assert found["after"]["benign_accuracy"] > found["before"]["benign_accuracy"] + 0.2
    assert found["after"]["pgd_accuracy"] <= found["after"]["benign_accuracy"]
    assert 0 < found["after"]["gini"] < 1
    assert [epoch["number"] for epoch in found["history"]] == [0, 1, 2]


def test_starts_from_the_given_weights(there, run):
    line = [*LINE, "--weights", "model.safetensors", "--recipe", "natural", "--epochs", "1"]
    run([*line, "--learning-rate", "1e-9", "--quiet"])
    before = load_file(there / "model.safetensors")
    after = load_file(there / "auditor-hardened" / "model.safetensors")
    assert all(torch.allclose(before[name], after[name], atol=1e-6) for name in before)


def test_weights_with_a_block_load_into_the_plain_factory(there, run):
    line = [*LINE, "--weights", "model.safetensors", "--recipe", "natural,filter=median"]
    code, out, _ = run([*line, "--epochs", "1", "--json"])
    assert code == 0
    block = json.loads(out)["smoothing_block"]
    assert block == {"filter": "median", "after": "2", "channels": 6, "side": 12}
    weights = there / "auditor-hardened" / "model.safetensors"
    model = auditor.load_model("net.py:network", weights=weights, input_size=(1, 12, 12))
    assert f"2.{NAME}.mix.weight" in model.network.state_dict()
    assert model.factory is not None
    assert f"2.{NAME}.mix.weight" in model.factory().state_dict()
    x = torch.rand(3, 1, 12, 12)
    model.network.get_submodule(f"2.{NAME}.mix").weight.data.zero_()
    model.network.get_submodule(f"2.{NAME}.mix").bias.data.zero_()
    plain = auditor.load_model("net.py:network", input_size=(1, 12, 12))
    state = {n: v for n, v in model.network.state_dict().items() if NAME not in n}
    plain.network.load_state_dict(state)
    torch.testing.assert_close(model(x), plain(x))


def test_resumes_and_repeats_to_the_same_weights(there, run):
    line = [*LINE, "--recipe", "gaussian_noise", "--epochs", "2", "--seed", "3"]
    assert run([*line, "--run", "a"])[0] == 0
    assert run([*line, "--run", "b"])[0] == 0
    first = (there / "a" / "model.safetensors").read_bytes()
    assert (there / "b" / "model.safetensors").read_bytes() == first
    code, _, err = run([*line, "--run", "a", "--resume"])
    assert (code, "Epoch 2 of 2" in err) == (0, True)
    assert (there / "a" / "model.safetensors").read_bytes() == first
    code, _, err = run([*line[:-1], "4", "--run", "a", "--resume"])
    assert code == 2
    assert "seed: 3 → 4" in err


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--recipe", "ssr,beta=1"], "beta 1: out of range"),
        (["--recipe", "adversarial,epsilon=8"], "epsilon 8: out of range"),
        (["--recipe", "natural,filter=mean,after=2"], "no such block. Found: 1 (2)"),
        (["--recipe", "natural,filter=mean,after=4"], "no such block"),
        (["--recipe", "natural,filter=mean,after=conv"], "no such layer"),
        (["--recipe", "natural", "--epsilon", "0"], "epsilon 0: out of range"),
        (["--recipe", "natural", "--epochs", "0"], "at least one epoch"),
        (["--recipe", "natural", "--images", "nolabels.npz"], "has no labels"),
        (["--recipe", "natural", "--images", "eleven.npz"], "10 classes, 0 to 9"),
        (["--recipe", "natural", "--images", "one.npz"], "too few to train"),
    ],
    ids=range(10),
)
def test_bad_input_ends_with_two_lines_and_leaves_nothing(more, message, there, run):
    x = np.zeros((12, 1, 12, 12), dtype=np.float32)
    np.savez(there / "nolabels.npz", x=x)
    np.savez(there / "eleven.npz", x=x, y=np.arange(12))
    np.savez(there / "one.npz", x=x[:1], y=np.zeros(1, dtype=int))
    code, out, err = run([*LINE, *more])
    assert (code, out) == (2, "")
    assert message in err
    assert len(err.strip().splitlines()) <= 2
    assert not (there / "auditor-hardened").exists()


def test_a_diverging_training_ends_with_exit_code_3(there, run):
    line = [*LINE, "--recipe", "natural", "--epochs", "3", "--optimizer", "sgd"]
    code, _, err = run([*line, "--learning-rate", "1e30"])
    assert code == 3
    assert "in a new run" in err
    assert (there / "auditor-hardened" / "checkpoint.safetensors").is_file()
    assert not (there / "auditor-hardened" / "model.safetensors").exists()


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("[]", "not understood"),
        ('{"filter": "mean", "after": "9", "channels": 6, "side": 12}', "no layer '9'"),
        ('{"filter": "mean", "after": "2", "channels": 6, "side": 12}', "does not hold"),
        ('{"filter": "mean", "after": "9", "channels": 60000, "side": 12}', "does not hold"),
        ('{"filter": "embedded", "after": "9", "channels": 6, "side": 12}', "no layer '9'"),
    ],
    ids=range(5),
)
def test_weights_that_tell_of_a_wrong_block_are_refused(header, message, there, networks):
    state = networks[0].state_dict() | {f"9.{NAME}.mix.weight": torch.zeros(6, 6, 1, 1)}
    save_file(state, there / "odd.safetensors", metadata={NAME: header})
    with pytest.raises(auditor.InputError, match=message):
        auditor.load_model("net.py:network", weights="odd.safetensors", input_size=(1, 12, 12))


def test_lists_the_recipes(run):
    code, out, _ = run(["recipes"])
    assert code == 0
    assert all(len(line) <= 80 for line in out.splitlines())
    assert "Settings: beta=0.3, scale=1." in out
    rows = json.loads(run(["recipes", "--json"])[1])
    assert {row["name"] for row in rows} >= {"natural", "adversarial", "ssr", "ig_norm"}
