"""Rewritten programs against the eager surrogate of the model they were exported from."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram, export

from attacks.graph_surrogate import report_graph, smooth_graph
from attacks.surrogate import LIMIT, smooth

KINDS = ("softplus", "quadratic")


class Ramps(nn.Module):
    """Every ramp once, then a part of a tensor changed in place with the result thrown away."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(2, 4, 3)
        self.last = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = F.relu(self.first(x), inplace=True)
        h = h + torch.relu(h - 0.1) + F.relu6(h) + nn.ReLU6(inplace=True)(4 * h)
        h = h + F.hardtanh(h - 0.5) + F.leaky_relu(h - 0.3) + F.leaky_relu_(h - 0.2, 0.1)
        h = h + F.hardswish(h - 1) + F.hardsigmoid(h) + (h - 0.7).clamp(min=0) + h.clip(0, 2)
        h = h + torch.clamp_min(h - 0.4, 0) + torch.maximum(h - 0.6, torch.zeros(()).double())
        h = h.max(2).values.mean(2) - 0.9
        F.relu(h, inplace=True)
        h[:, 1:].clamp_(min=0.0, max=3.0)
        return self.last(h)


COUNTS = {
    "relu": 3,
    "relu6": 1,
    "hardtanh": 2,
    "leaky_relu": 2,
    "hardswish": 1,
    "hardsigmoid": 1,
    "clamp": 2,
    "clip": 1,
    "clamp_min": 1,
    "maximum": 1,
}


def images(count: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.rand(count, 2, 6, 6, generator=generator, dtype=torch.float64)


def exported(model: nn.Module, x: Tensor) -> ExportedProgram:
    return export(model, (x,), dynamic_shapes=({0: Dim("batch", min=2, max=16)},))


@pytest.fixture(scope="module")
def model() -> nn.Module:
    torch.manual_seed(0)
    return Ramps().double().eval()


@pytest.fixture(scope="module")
def program(model) -> ExportedProgram:
    return exported(model, images())


def derivatives(function, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    x = x.clone().requires_grad_()
    logits = function(x)
    map_ = torch.autograd.grad(logits[:, 0].sum(), x, create_graph=True)[0]
    return logits, map_, torch.autograd.grad(map_.square().sum(), x)[0]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("given", ["program", "its module", "its module under the mode"])
def test_rewritten_program_is_the_eager_surrogate(model, program, given, kind):
    rewritten = {
        "program": lambda: smooth_graph(program, beta=6.0, kind=kind),
        "its module": lambda: smooth_graph(program.module(), beta=6.0, kind=kind),
        "its module under the mode": lambda: smooth(program.module(), beta=6.0, kind=kind),
    }[given]()
    # Not the batch size of the export; the same operations, so equal up to rounding.
    expected = derivatives(smooth(model, beta=6.0, kind=kind), images(5))
    for ours, eager in zip(derivatives(rewritten, images(5)), expected, strict=True):
        torch.testing.assert_close(ours, eager, rtol=1e-12, atol=1e-12)


def test_the_original_is_left_alone(model, program):
    module = program.module()
    code, before = module.code, module(images())
    rewritten = smooth_graph(module, beta=2.0)
    assert module.code == code
    torch.testing.assert_close(module(images()), before, rtol=0, atol=0)
    assert (rewritten(images()) - before).abs().max() > 0.01
    theirs = {id(p) for p in module.parameters()}
    assert {id(p) for p in rewritten.parameters()} == theirs  # weights are shared


def test_a_sharp_program_is_the_model(model, program):
    x = images()
    torch.testing.assert_close(smooth_graph(program, beta=LIMIT)(x), model(x))


def test_every_ramp_is_counted_and_none_is_left(program):
    found = report_graph(program, images())
    assert found.counts == COUNTS
    assert found.missed == ()
    assert found.deviation < 1e-11


def test_a_decomposed_program_is_replaced_whole(model, program):
    decomposed = program.run_decompositions()
    found = report_graph(decomposed, images())
    assert found.missed == ()
    assert {"relu6", "hardswish", "hardsigmoid"}.isdisjoint(found.counts)  # clamps by now
    theirs = derivatives(smooth_graph(decomposed, beta=6.0), images(5))
    for ours, eager in zip(derivatives(smooth(model, beta=6.0), images(5)), theirs, strict=True):
        # A clamp at 0 and then one at 6 is not exactly the difference of two ramps:
        # off by log(1 + exp(−6β))/β = 4e-17.
        torch.testing.assert_close(ours, eager, rtol=1e-10, atol=1e-10)


def test_other_kinks_are_reported():
    class Kinks(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            h = F.relu(x).abs() - x.clamp(min=1e-6)
            return torch.where(h > 0, h, 0.1 * h).flatten(1)

    found = report_graph(exported(Kinks(), images()), images())
    assert found.counts == {"relu": 1}
    assert found.missed == ("gt (comparison)", "abs", "clamp", "where")


def test_integers_are_no_activations():
    class Index(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            index = (torch.arange(x.shape[1]) - 1).clamp(min=0)
            return F.relu(x[:, index] - 0.5).flatten(1)

    found = report_graph(exported(Index(), images()), images())
    assert found.counts == {"relu": 1}
    assert found.missed == ()


def test_beta_must_be_positive(program):
    with pytest.raises(ValueError, match="beta must be positive"):
        smooth_graph(program, beta=0.0)
