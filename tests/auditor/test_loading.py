from __future__ import annotations

import socket
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import nn

from auditor.errors import InputError
from auditor.loading import load_model

NET = """
import torch
from torch import nn
from layers import Half

def make():
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(72, 3)).train()

def sized():
    network = make()
    network.input_size = (8, 8)
    return network

def whole():
    return Half(72)

def nothing():
    return {"not": "a network"}
"""
LAYERS = """
from torch import nn
class Half(nn.Module):
    def __init__(self, n):
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 3)
        self.head = nn.Linear(n, 3).half()
    def forward(self, x):
        return self.head(self.conv(x).relu().flatten(1))
"""


@pytest.fixture
def spec(tmp_path):
    (tmp_path / "net.py").write_text(NET)
    (tmp_path / "layers.py").write_text(LAYERS)
    return str(tmp_path / "net.py")


def test_a_factory_with_weights(spec, tmp_path):
    plain = load_model(f"{spec}:make", input_size=8)
    safetensors.torch.save_file(plain.network.state_dict(), tmp_path / "w.safetensors")
    model = load_model(
        f"{spec}:make", weights=tmp_path / "w.safetensors", input_size=8, mean=[0.5], std=[0.5]
    )
    assert model.sha256() == plain.sha256()
    assert (model.format, model.name) == ("factory", "make (w.safetensors)")
    assert model.remarks == ()
    assert plain.name == "make"
    assert plain.remarks[0].name == "normalization"
    assert not model.network.training
    fresh = model.factory()
    assert isinstance(fresh, nn.Sequential)
    assert fresh is not model.network
    assert not torch.equal(fresh[0].weight, model.network[0].weight)


def test_size_from_the_network_and_names_and_labels(spec, tmp_path):
    (tmp_path / "labels.txt").write_text("eins\nzwei\ndreizehn: größer\n", encoding="utf-8")
    model = load_model(f"{spec}:sized", labels=tmp_path / "labels.txt", name="N")
    assert model.input_shape == (1, 8, 8)
    assert model.labels == ("eins", "zwei", "dreizehn: größer")
    assert model.name == "N"
    assert load_model(f"{spec}:sized", labels=["a", "b", "c"]).labels == ("a", "b", "c")


def test_float32_whatever_the_network_was(spec):
    model = load_model(f"{spec}:whole", input_size=8)
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert model.classes == 3


def test_a_trusted_pickle_of_the_users_own_classes(spec, tmp_path):
    # The user saved the whole network from a script: pickle finds its class by import.
    model = load_model(f"{spec}:whole", input_size=8)
    from auditor.usercode import UserCode

    with UserCode(tmp_path).active():
        import layers  # the user's module

        whole = layers.Half(72)
        torch.save(whole, tmp_path / "whole.pt")
    with pytest.raises(InputError, match="--trust-pickle"):
        load_model(f"{spec}:whole", weights=tmp_path / "whole.pt", input_size=8)
    loaded = load_model(
        f"{spec}:whole", weights=tmp_path / "whole.pt", input_size=8, trust_pickle=True
    )
    assert torch.equal(loaded.network.conv.weight, whole.conv.weight)
    assert loaded.sha256() != model.sha256()


def test_torchvision_never_downloads(monkeypatch):
    def refuse(*_args, **_kwargs):
        raise AssertionError("network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", refuse)
    model = load_model("torchvision:squeezenet1_1")
    assert (model.format, model.name) == ("torchvision", "squeezenet1_1")
    assert model.input_shape == (3, 224, 224)
    assert [c.name for c in model.remarks] == ["weights", "normalization"]
    assert "untrained" in model.remarks[0].message
    assert isinstance(model.factory(), type(model.network))


def test_torchvision_input_size_is_the_models_own():
    model = load_model("torchvision:inception_v3", mean=[0], std=[1])
    assert model.input_shape == (3, 299, 299)
    assert load_model("torchvision:squeezenet1_1", input_size=64).input_shape == (3, 64, 64)


@pytest.mark.parametrize(
    ("model", "arguments", "says"),
    [
        ("net.py", {}, "not understood"),
        (":make", {}, "not understood"),
        ("{}:make()", {}, "not understood"),
        ("torchvision:resnet18000", {}, "no classifier of that name"),
        ("torchvision:fasterrcnn_resnet50_fpn", {}, "no classifier of that name"),
        ("missing.py:make", {}, "no such file"),
        ("{}:nothing", {}, "Return the network"),
        ("{}:make", {}, "--input-size"),
        ("{}:make", {"input_size": 8, "weights": "missing.pt"}, "no such file"),
        ("{}:make", {"input_size": 8, "labels": "missing.txt"}, "--labels missing.txt"),
        ("{}:make", {"input_size": 8, "device": "abacus"}, "device abacus"),
        ("{}:make", {"input_size": 8, "std": (0,)}, "must be positive"),
    ],
)
def test_bad_input(model, arguments, says, spec, monkeypatch):
    monkeypatch.chdir(Path(spec).parent)
    with pytest.raises(InputError) as caught:
        load_model(model.format(spec), **arguments)
    assert says in str(caught.value)
    assert len(str(caught.value).splitlines()) <= 2


def test_labels_that_are_not_text(spec, tmp_path):
    (tmp_path / "labels.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="UTF-8"):
        load_model(f"{spec}:sized", labels=tmp_path / "labels.txt")
