from __future__ import annotations

import warnings

import pytest
import torch
from torch import nn

from auditor.errors import InputError
from auditor.loading import load_model

pytest.importorskip("onnx2torch")


class Fixed(nn.Module):
    """A graph in which the batch size is written down."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(64, 3)

    def forward(self, x):
        return self.head(x.reshape(2, 64))


class Two(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 3)
        self.head = nn.Linear(72, 3)

    def forward(self, x):
        features = self.conv(x).relu()
        return features.mean((2, 3)), self.head(features.flatten(1))


class Constants(nn.Module):
    """A learned table that is added: onnx2torch keeps it outside of layers."""

    def __init__(self):
        super().__init__()
        self.table = nn.Parameter(torch.rand(64))
        self.head = nn.Linear(64, 3)

    def forward(self, x):
        return self.head(x.flatten(1) + self.table)


class Last(nn.Module):
    def __init__(self):
        super().__init__()
        self.head = nn.Linear(64 * 3, 3)

    def forward(self, x):
        return self.head(x.flatten(1))


class Sum(nn.Module):
    def forward(self, x, y):
        return (x + y).flatten(1)


def images(count, *shape, seed=0):
    return torch.rand(count, *shape, generator=torch.Generator().manual_seed(seed))


def save(network, path, *inputs, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter without onnxscript is deprecated
        torch.onnx.export(network.eval(), inputs, path, dynamo=False, **options)
    return str(path)


def load(spec, **arguments):
    return load_model(spec, mean=[0.0], std=[1.0], **arguments)


def test_a_batch_size_that_is_written_down(tmp_path):
    network = Fixed()
    model = load(save(network, tmp_path / "fixed.onnx", images(2, 1, 8, 8)))
    assert model.input_shape == (1, 8, 8)
    assert model.capabilities.batches == (2, 2)
    x = images(5, 1, 8, 8)
    torch.testing.assert_close(model(x), network.head(x.flatten(1)), rtol=1e-5, atol=1e-6)


def test_outputs_by_their_names(tmp_path):
    network = Two()
    names = ["features", "scores"]
    spec = save(network, tmp_path / "two.onnx", images(2, 1, 8, 8), output_names=names)
    with pytest.raises(InputError, match=r"features \(1×2\), scores \(1×3\)"):
        load(spec)
    x = images(4, 1, 8, 8)
    for index, name in enumerate(names):
        found = load(spec, output=name).scores(x)
        torch.testing.assert_close(found, network(x)[index], rtol=1e-5, atol=1e-6)


def test_weights_outside_of_layers_are_parameters_again(tmp_path):
    network = Constants()
    model = load(save(network, tmp_path / "constants.onnx", images(1, 1, 8, 8)))
    assert model.capabilities.reinitialization.able
    (table,) = (p for p in model.network.parameters() if p.shape == (64,))
    assert torch.equal(table, network.table)
    assert model.identity().parameters == 64 + 64 * 3 + 3


def test_weights_that_are_constants_of_the_graph_would_stay_learned(tmp_path):
    """As some exporters write all of them."""
    onnx = pytest.importorskip("onnx")
    proto = onnx.load(save(Constants(), tmp_path / "weights.onnx", images(1, 1, 8, 8)))
    for index, weight in enumerate(proto.graph.initializer):
        node = onnx.helper.make_node("Constant", [], [weight.name], value=weight)
        proto.graph.node.insert(index, node)
    proto.graph.ClearField("initializer")
    onnx.save(proto, tmp_path / "constants.onnx")
    can = load(str(tmp_path / "constants.onnx")).capabilities.reinitialization
    assert not can.able
    assert can.reason.startswith("259 of 259 numbers in this file are constants, not parameters")


def test_free_sizes_need_an_input_size(tmp_path):
    axes = {"x": {0: "batch", 2: "height", 3: "width"}}
    network = nn.Sequential(nn.Conv2d(1, 3, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    options = {"input_names": ["x"], "dynamic_axes": axes}
    spec = save(network, tmp_path / "free.onnx", images(1, 1, 8, 8), **options)
    with pytest.raises(InputError, match="--input-size"):
        load(spec)
    assert load(spec, input_size=10).input_shape == (1, 10, 10)


def test_graphs_that_are_no_image_classifiers(tmp_path):
    last = save(Last(), tmp_path / "last.onnx", images(1, 8, 8, 3))
    with pytest.raises(InputError, match="channels last"):
        load(last)
    two = save(Sum(), tmp_path / "sum.onnx", images(1, 1, 4, 4), images(1, 1, 4, 4))
    with pytest.raises(InputError, match="network of one tensor"):
        load(two)
    flat = save(nn.Linear(4, 2), tmp_path / "flat.onnx", images(1, 4))
    with pytest.raises(InputError, match="network of one tensor"):
        load(flat)


def test_an_operator_that_is_unknown_is_named(tmp_path):
    import onnx

    save(nn.Conv2d(1, 2, 3), tmp_path / "n.onnx", images(1, 1, 8, 8))
    proto = onnx.load(tmp_path / "n.onnx")
    proto.graph.node[0].op_type = "Alchemy"
    onnx.save(proto, tmp_path / "n.onnx")
    with pytest.raises(InputError, match="Alchemy"):
        load(str(tmp_path / "n.onnx"))
