from __future__ import annotations

import pytest
import torch
from torch import nn

import auditor
from auditor.models import Classifier
from auditor.probes.surrogates import kinks_left


class Last(nn.Module):
    """Linear scores behind an activation."""

    def __init__(self, activation: nn.Module) -> None:
        super().__init__()
        self.activation, self.linear = activation, nn.Linear(144, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        scores: torch.Tensor = self.linear(self.activation(x.flatten(1) - 0.5))
        return scores


def wrapped(activation: nn.Module) -> Classifier:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = Last(activation).eval()
    return auditor.from_network(network, input_shape=(1, 12, 12), mean=[0.0], std=[1.0])


@pytest.mark.parametrize(
    ("activation", "left"),
    [(nn.ReLU(), ()), (nn.Hardswish(), ()), (nn.PReLU(), ("prelu_kernel",))],
    ids=["relu", "hardswish", "prelu"],
)
def test_what_a_surrogate_cannot_replace_is_named(activation, left):
    assert kinks_left(wrapped(activation), torch.rand(2, 1, 12, 12)) == left


def test_an_attack_reports_it(images):
    spoiled = wrapped(nn.PReLU())
    plain = auditor.from_arrays(images.pixels[:4])
    result = auditor.attack(spoiled, plain, budget=40, epsilons=(8.0,))
    assert result.oracle is not None
    assert result.oracle.kinks_left == ("prelu_kernel",)
    result = auditor.attack(spoiled, plain, budget=40, epsilons=(8.0,), oracle="difference")
    assert result.oracle is not None
    assert result.oracle.kinks_left == ()
