from __future__ import annotations

import pytest
import torch
from torchvision.models import resnet18, vgg16_bn

from auditor.models import from_network
from auditor.training.architectures import ARCHITECTURES, WideResNet


def count(network: torch.nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("lenet", 3_274_634),
        ("wide_resnet_28_10", 36_479_194),  # 36.5 M in the paper
        ("vgg16_cifar", count(vgg16_bn().features) + 5130),
        ("resnet18", count(resnet18()) - 990 * 513),
    ],
)
def test_named_networks_have_the_published_size(name, parameters):
    with torch.device("meta"):  # no time for 36 million random numbers
        assert count(ARCHITECTURES[name]()) == parameters


def test_a_named_network_brings_the_size_of_its_images():
    network = ARCHITECTURES["lenet"]()
    assert from_network(network, input_shape=network.input_size).input_shape == (1, 28, 28)


def test_a_small_wide_network_learns():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = WideResNet(depth=10, widening=1, classes=2)
        x = torch.rand(8, 3, 8, 8)
    y = torch.arange(8) % 2
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    losses = []
    for _ in range(15):
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(network(x), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.2 * losses[0]


@pytest.mark.parametrize("depth", [4, 9, 27])
def test_a_depth_that_is_not_6n_plus_4_is_refused(depth):
    with pytest.raises(ValueError, match="6n"):
        WideResNet(depth=depth, widening=1, classes=2)
