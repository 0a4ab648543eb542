from __future__ import annotations

import socket

import pytest
import torch
from safetensors.torch import save_file

from auditor.errors import InputError
from auditor.loading import load_model

timm = pytest.importorskip("timm")


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    def refuse(*_args, **_kwargs):
        raise AssertionError("network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def test_timm_with_weights_of_another_task(tmp_path):
    torch.manual_seed(0)
    network = timm.create_model("test_resnet", pretrained=False, num_classes=7, in_chans=1)
    save_file(network.state_dict(), tmp_path / "w.safetensors")
    model = load_model(
        "timm:test_resnet", weights=tmp_path / "w.safetensors", input_size=32, mean=[0.0], std=[1.0]
    )
    assert (model.classes, model.input_shape) == (7, (1, 32, 32))
    assert (model.format, model.name) == ("timm", "test_resnet (w.safetensors)")
    x = torch.rand(2, 1, 32, 32)
    torch.testing.assert_close(model(x), network.eval()(x), rtol=1e-4, atol=1e-5)
    assert model.factory().num_classes == 7


def test_timm_knows_its_normalization_and_size():
    model = load_model("timm:test_resnet")
    config = timm.data.resolve_model_data_config(timm.create_model("test_resnet"))
    assert (model.mean, model.std) == (config["mean"], config["std"])
    assert model.input_shape == config["input_size"]
    assert [check.name for check in model.remarks] == ["weights", "normalization"]
    assert load_model("timm:test_resnet", mean=[0.5]).mean == (0.5,) * 3


@pytest.mark.parametrize(
    "name", ["resnet18000", "hf-hub:someone/something", "local-dir:/tmp", "resnet18.a1_in1k", ""]
)
def test_timm_names_that_are_none(name):
    with pytest.raises(InputError, match="no model of that name"):
        load_model(f"timm:{name}")


def test_an_extra_that_is_missing_is_named(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(InputError, match=r"attribution-auditor\[timm\]"):
        load_model("timm:resnet18")


@pytest.mark.parametrize("file", ["a.pt2", "a.ts", "a.onnx", "folder"])
def test_files_hold_their_own_weights(file, tmp_path):
    (tmp_path / "folder").mkdir()
    with pytest.raises(InputError, match="holds its own"):
        load_model(str(tmp_path / file), weights=tmp_path / "w.safetensors")
