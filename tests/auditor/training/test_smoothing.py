from __future__ import annotations

import copy
import json

import pytest
import torch
from torch import nn
from torchvision.models import vit_b_16

from auditor.errors import InputError
from auditor.training.architectures import WideResNet, lenet, resnet18, vgg16_cifar
from auditor.training.filters import FILTERS
from auditor.training.smoothing import (
    NAME,
    Insertion,
    SmoothingBlock,
    blocks_of,
    plan_insertion,
)


class Branches(nn.Module):
    """A network that is not a sequence."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.pool = nn.Conv2d(1, 4, 3, padding=1), nn.MaxPool2d(2)
        self.fc = nn.Linear(4 * 16, 3)

    def forward(self, x):
        return self.fc(self.pool(self.conv(x).relu()).flatten(1))


def block_of(network: nn.Module) -> SmoothingBlock:
    (block,) = (module for module in network.modules() if isinstance(module, SmoothingBlock))
    return block


def small_wide() -> nn.Module:
    return WideResNet(depth=10, widening=1, classes=3)


@pytest.fixture
def images() -> torch.Tensor:
    return torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", sorted(set(FILTERS) - {"identity", "random"}))
def test_a_new_block_is_the_identity(name):
    x = torch.randn(2, 4, 5, 5, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(SmoothingBlock(name, channels=4, side=8)(x), x, rtol=0, atol=0)


def test_the_ablation_filters_nothing():
    x = torch.randn(2, 4, 5, 5, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(SmoothingBlock("identity", channels=4, side=8)(x), 2 * x)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        block = SmoothingBlock("random", channels=4, side=8)
    assert block.mix.weight.std() > 0.1
    torch.testing.assert_close(block(x), x + nn.functional.conv2d(x, *block.mix.parameters()))


@pytest.mark.parametrize(
    ("factory", "shape", "expected"),
    [
        (lenet, (1, 28, 28), ["2", "5"]),
        (vgg16_cifar, (3, 32, 32), ["0.6", "0.13", "0.23", "0.33"]),
        (small_wide, (3, 16, 16), ["stage1", "stage2", "stage3"]),
        (resnet18, (3, 64, 64), ["layer1", "layer2", "layer3", "layer4"]),
        (Branches, (1, 8, 8), ["pool"]),
    ],
    ids=["lenet", "vgg16", "wide", "resnet18", "branches"],
)
def test_blocks_are_stages_or_end_at_pooling(factory, shape, expected):
    with torch.device("meta"):  # shapes alone
        network = factory()
        assert blocks_of(network, torch.zeros(2, *shape)) == expected
    assert network.training


@pytest.mark.parametrize(("factory", "after"), [(Branches, "pool"), (Branches, 1)], ids=str)
def test_a_block_keeps_the_weights_and_their_names(factory, after, images):
    network = factory()
    before, output = copy.deepcopy(network.state_dict()), network(images)
    plan_insertion(network, images, filter="median", after=after).apply(network)
    torch.testing.assert_close(network(images), output)
    now = network.state_dict()
    assert set(now) - set(before) == {f"pool.{NAME}.mix.weight", f"pool.{NAME}.mix.bias"}
    assert all(torch.equal(now[name], before[name]) for name in before)
    nn.init.normal_(block_of(network).mix.weight)
    assert (network(images) - output).abs().max() > 1e-3


def test_a_stage_that_is_a_sequence_runs_the_block_once():
    network, x = small_wide().eval(), torch.rand(2, 3, 16, 16)
    plan_insertion(network, x, filter="identity", after="stage2").apply(network)
    calls = []
    block_of(network).register_forward_hook(lambda *_: calls.append(1))
    network(x)
    assert calls == [1]


def test_copies_hold_their_own_block(images):
    network = Branches()
    plan_insertion(network, images, filter="mean", after=1).apply(network)
    copied = copy.deepcopy(network)
    nn.init.normal_(block_of(copied).mix.weight)
    assert not torch.equal(copied(images), network(images))


def test_weights_describe_their_block(images):
    planned = plan_insertion(Branches(), images, filter="gaussian", after="conv")
    assert planned == Insertion(filter="gaussian", after="conv", channels=4, side=8)
    assert Insertion.read(planned.metadata()) == planned
    assert Insertion.read({"format": "pt"}) is None
    assert Insertion.read(None) is None


GOOD = {"filter": "mean", "after": "conv", "channels": 4, "side": 8}


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[" * 100_000,
        "[]",
        "3",
        json.dumps(GOOD | {"more": 1}),
        json.dumps(GOOD | {"filter": "fourier"}),
        json.dumps(GOOD | {"filter": []}),
        json.dumps(GOOD | {"after": 1}),
        json.dumps(GOOD | {"channels": 10**9}),
        json.dumps(GOOD | {"channels": True}),
        json.dumps(GOOD | {"side": 0}),
    ],
    ids=range(11),
)
def test_a_header_that_is_not_understood_is_refused(text):
    with pytest.raises(InputError, match="not understood"):
        Insertion.read({NAME: text})


@pytest.mark.parametrize(
    ("after", "message"),
    [
        (2, r"no such block. Found: 1 \(pool\)"),
        (0, "no such block"),
        ("conf", "no such layer. Layers with a feature map: conv, pool"),
        ("", "no such layer"),
        ("fc", "no spatial feature map"),
    ],
)
def test_a_position_that_does_not_exist_is_refused(after, message, images):
    with pytest.raises(InputError, match=message):
        plan_insertion(Branches(), images, filter="mean", after=after)


def test_a_network_without_feature_maps_is_refused():
    with torch.device("meta"):
        network, x = vit_b_16(image_size=32, num_classes=3), torch.zeros(1, 3, 32, 32)
        with pytest.raises(InputError, match="Found: none"):
            plan_insertion(network, x, filter="mean", after=1)


def test_a_second_block_in_one_place_is_refused(images):
    network = Branches()
    planned = plan_insertion(network, images, filter="mean", after=1)
    planned.apply(network)
    with pytest.raises(InputError, match="already"):
        planned.apply(network)
