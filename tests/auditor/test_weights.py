from __future__ import annotations

import os
import pickle

import pytest
import safetensors
import safetensors.torch
import torch
from torch import nn

from auditor.errors import InputError
from auditor.weights import load_weights, packed, read_state


def network():
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(2, 4))


@pytest.fixture
def trained():
    source = network()
    with torch.no_grad():
        for p in source.parameters():
            p.normal_(generator=torch.Generator().manual_seed(p.numel()))
    return source


def same(a, b):
    return all(torch.equal(v, b.state_dict()[k]) for k, v in a.state_dict().items())


@pytest.mark.parametrize(
    ("suffix", "wrap"),
    [
        (".safetensors", lambda s: s),
        (".pt", lambda s: s),
        (".pth", lambda s: {"state_dict": s, "epoch": 3}),
        (".bin", lambda s: {"model_state_dict": s}),
        (".pt", lambda s: {f"module.{k}": v for k, v in s.items()}),
        (".pt", lambda s: {k: v.double() for k, v in s.items()}),
    ],
)
def test_round_trip(suffix, wrap, tmp_path, trained):
    file = tmp_path / f"w{suffix}"
    state = wrap(trained.state_dict())
    save = safetensors.torch.save_file if suffix == ".safetensors" else torch.save
    save(state, file)
    target = network()
    assert not same(trained, target)
    load_weights(target, file)
    assert same(trained, target)
    assert target[0].weight.dtype == torch.float32


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda s: s.pop("3.bias"), "missing: 3.bias"),
        (lambda s: s.update(extra=torch.ones(1)), "not in the network: extra"),
        (
            lambda s: s.update({"3.weight": torch.ones(5, 2)}),
            "3.weight is 5×2, the network has 4×2",
        ),
        (lambda s: s.update({f"e{i}": torch.ones(1) for i in range(9)}), "and 6 more"),
    ],
)
def test_a_state_dict_that_does_not_fit(change, says, tmp_path, trained):
    state = dict(trained.state_dict())
    change(state)
    torch.save(state, tmp_path / "w.pt")
    with pytest.raises(InputError) as caught:
        load_weights(network(), tmp_path / "w.pt")
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


class Mark:
    """Unpickling this creates a file: proof that code ran."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_a_pickle_is_not_run_unless_trusted(tmp_path, trained):
    file = tmp_path / "w.pt"
    torch.save({**trained.state_dict(), "3.extra": Mark(tmp_path / "ran")}, file)
    with pytest.raises(InputError, match="--trust-pickle"):
        read_state(file)
    assert not (tmp_path / "ran").exists()
    read_state(file, trust_pickle=True)
    assert (tmp_path / "ran").exists()


def test_a_trusted_pickle_of_the_whole_network(tmp_path, trained):
    torch.save(trained, tmp_path / "w.pt")
    target = network()
    load_weights(target, tmp_path / "w.pt", trust_pickle=True)
    assert same(trained, target)


@pytest.mark.parametrize("trust", [False, True])
@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("w.safetensors", b"\xff" * 100),
        ("w.safetensors", b""),
        ("w.pt", b"hello, not weights"),
        ("w.pt", b""),
        ("w.pt", b"PK\x03\x04 broken"),
        ("w.pt", pickle.dumps([1, 2, 3])),
        ("w.pt", pickle.dumps({"a": 1})),
    ],
)
def test_files_that_are_no_weights(name, content, trust, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError) as caught:
        read_state(tmp_path / name, trust_pickle=trust)
    assert "\n" not in str(caught.value)


def test_missing_file(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        read_state(tmp_path / "w.pt")
    with pytest.raises(InputError, match="no such file"):
        read_state(tmp_path)


def test_packed_weights_come_back_whatever_their_layout(tmp_path):
    weight = torch.rand(4, 3, 2, 2).to(memory_format=torch.channels_last)
    state = {"weight": weight, "tied": weight, "steps": 3}
    (tmp_path / "w.safetensors").write_bytes(packed(state, header={"block": "none"}))
    found = read_state(tmp_path / "w.safetensors")
    assert set(found) == {"weight", "tied"}
    assert torch.equal(found["tied"], weight)
    with safetensors.safe_open(tmp_path / "w.safetensors", framework="pt") as file:
        assert file.metadata() == {"block": "none"}
