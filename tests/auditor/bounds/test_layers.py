from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from auditor.bounds.layers import operator_norm, read_chain

CONVOLUTIONS = {
    "plain": nn.Conv2d(2, 3, 3, bias=True),
    "padded": nn.Conv2d(2, 3, 3, padding=1),
    "strided": nn.Conv2d(2, 4, 3, stride=2, padding=1),
    "circular": nn.Conv2d(2, 3, 3, padding=1, padding_mode="circular"),
    "grouped": nn.Conv2d(2, 4, 3, groups=2, dilation=2),
}


def dense(layer: nn.Module, shape: tuple[int, ...]) -> Tensor:
    return torch.autograd.functional.jacobian(
        lambda v: layer(v.reshape(shape)).flatten(), torch.zeros(shape).double().flatten()
    )


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_norm_of_a_convolution_is_that_of_its_dense_matrix(name):
    torch.manual_seed(0)
    layer = CONVOLUTIONS[name].double().requires_grad_(False)
    shape = (1, 2, 7, 6)
    exact = torch.linalg.matrix_norm(dense(layer, shape), 2).item()
    assert operator_norm(layer, shape) == pytest.approx(exact, rel=1e-6)
    # The reshaped kernel is another number.
    kernel = torch.linalg.matrix_norm(layer.weight.flatten(1), 2).item()
    assert abs(kernel - exact) > 0.01 * exact


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1) + self.layer(x.flatten(1))


class Branching(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x.flatten(1)) if x.sum() > 0 else x.flatten(1)


def statuses(network: nn.Module, shape: tuple[int, ...] = (1, 1, 2, 2)) -> list[str]:
    return [a.status for a in read_chain(network.eval(), torch.rand(shape)).assumptions]


def test_a_chain_without_constants_meets_everything():
    network = nn.Sequential(nn.Flatten(), nn.Linear(4, 3, bias=False), nn.Tanh())
    network.append(nn.Linear(3, 2, bias=False))
    chain = read_chain(network, torch.rand(1, 1, 2, 2))
    assert [layer.name for layer in chain.layers] == ["1", "3"]
    assert {a.status for a in chain.assumptions} == {"met"}
    assert chain.smooth
    exact = [torch.linalg.matrix_norm(w, 2).item() for w in network.parameters()]
    assert chain.norms == pytest.approx(exact)


def test_batch_normalization_is_a_linear_layer():
    network = nn.Sequential(nn.Conv2d(1, 3, 1, bias=False), nn.BatchNorm2d(3), nn.ReLU()).eval()
    network[1].running_var.copy_(torch.tensor([0.25, 1.0, 4.0]))
    network[1].weight.data.copy_(torch.tensor([1.0, -3.0, 2.0]))
    chain = read_chain(network, torch.rand(1, 1, 2, 2))
    assert chain.norms[1] == pytest.approx(3.0, rel=1e-4)
    assert not chain.smooth


@pytest.mark.parametrize(
    ("network", "expected"),
    [
        (Residual(), ["not met", "met", "met"]),
        (Branching(), ["not checkable", "met", "met"]),
        (nn.Sequential(nn.Flatten(), nn.LayerNorm(4)), ["met", "not met", "met"]),
        (
            nn.Sequential(nn.Flatten(), nn.Linear(4, 2), nn.Softplus()),
            ["met", "not met", "not met"],
        ),
        (nn.Sequential(nn.Conv2d(1, 1, 1), nn.MaxPool2d(2, 1)), ["met", "not met", "not met"]),
    ],
    ids=["residual", "branching", "layer norm", "softplus", "overlapping pool"],
)
def test_what_is_out_of_scope_is_said(network, expected):
    assert statuses(network) == expected
