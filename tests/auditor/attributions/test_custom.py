from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from auditor.attributions import Custom, Noise, SimpleGrad
from auditor.attributions.custom import as_maps
from auditor.errors import InputError
from auditor.evaluation import Evaluator


def network() -> nn.Module:
    torch.manual_seed(0)
    layers = nn.Conv2d(3, 4, 3), nn.Softplus(), nn.Flatten(), nn.Linear(4 * 36, 5)
    return nn.Sequential(*layers).double().eval().requires_grad_(False)


def images(count: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    x = torch.rand((count, 3, 8, 8), generator=generator, dtype=torch.float64)
    return x, torch.arange(count) % 5


def gradient(model, x, target):
    x = x.detach().clone().requires_grad_() if not x.requires_grad else x
    score = model(x).gather(1, target[:, None]).sum()
    return torch.autograd.grad(score, x, create_graph=True)[0]


def noisy(model, x, target):
    z = torch.randn(x.shape) + float(np.random.rand()) + random.random()
    return gradient(model, x + 0.1 * z.to(x), target)


def method(function, **settings) -> Custom:
    return Custom(function=function, name="mine", **settings)


@given(batch=st.integers(1, 6))
@settings(max_examples=6, deadline=None)
def test_a_gradient_of_the_users_is_the_gradient_in_any_batch(batch):
    x, target = images()
    evaluator = Evaluator(model=network(), batch=batch)
    own, logits = method(gradient)(evaluator, x, target, images=range(5), draw=0)
    ours, said = SimpleGrad()(evaluator, x, target, images=range(5), draw=0)
    torch.testing.assert_close(own, ours)
    torch.testing.assert_close(logits, said)


def test_what_it_asks_of_the_model_is_booked_once():
    x, target = images()
    evaluator = Evaluator(model=network(), batch=2, probe="attack")
    method(gradient)(evaluator, x, target, images=range(5), draw=0)
    # The logits come from the function's own call, not from another one.
    assert evaluator.meter.gradients == {"attack": 5}
    assert evaluator.meter.forwards == {"attack": 0}
    twice = method(lambda m, x, t: (gradient(m, x, t) + gradient(m, x / 2, t)) * m(x / 3).mean())
    twice(evaluator, x, target, images=range(5), draw=0)
    assert evaluator.meter.gradients == {"attack": 15}
    assert evaluator.meter.forwards == {"attack": 5}


def test_a_map_without_channels_is_shared_among_them():
    x, _ = images(2)
    flat = torch.arange(2 * 64.0, dtype=torch.float64).reshape(2, 8, 8) - 30
    for returned in (flat, flat[:, None], flat.numpy()):
        maps = as_maps(returned, x, name="mine")
        assert maps.shape == x.shape
        torch.testing.assert_close(maps.abs().sum(dim=1), flat.abs())


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (lambda m, x, t: None, "returned NoneType"),
        (lambda m, x, t: x[:, :, 1:], r"shape \(2, 3, 7, 8\)"),
        (lambda m, x, t: x[:1], r"shape \(1, 3, 8, 8\)"),
        (lambda m, x, t: [x], "returned list"),
        (lambda m, x, t: 1 / 0, "calling it failed.*division by zero"),
        (lambda m, x, t: exit(0), "calling it failed.*SystemExit"),
    ],
)
def test_what_is_no_map_is_refused(function, said):
    x, target = images(2)
    with pytest.raises(InputError, match=said):
        method(function)(Evaluator(model=network(), batch=4), x, target, images=range(2), draw=0)


def test_random_numbers_belong_to_image_draw_and_stream_not_to_the_batch():
    x, target = images()
    own = method(noisy, random=True)
    state = torch.random.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()

    def maps(batch, rows=range(5), draw=0, stream=0):
        seeded = own.seeded(Noise(seed=0, stream=stream))
        evaluator = Evaluator(model=network(), batch=batch)
        found = seeded(evaluator, x[list(rows)], target[list(rows)], images=rows, draw=draw)
        return found[0]

    whole = maps(5)
    torch.testing.assert_close(maps(2), whole)
    torch.testing.assert_close(maps(5, rows=[3, 1]), whole[[3, 1]])
    for other in (maps(5, draw=1), maps(5, stream=1)):
        assert (other - whole).flatten(1).norm(dim=1).min() > 1e-3
    assert torch.equal(torch.random.get_rng_state(), state[0])
    assert np.array_equal(np.random.get_state()[1], state[1])
    assert random.getstate() == state[2]


def test_the_pullback_is_the_derivative_of_the_map():
    x, target = images(3)
    own = method(lambda m, x, t: x * gradient(m, x, t))
    evaluator = Evaluator(model=network(), batch=2)
    v = torch.randn(x.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)

    def score(at):
        maps, _ = own(evaluator, at, target, images=range(3), draw=0)
        return (maps * v).flatten(1).sum(dim=1)

    u = torch.randn(x.shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    h = 1e-5  # central differences in float64: an error of about 1e-9
    measured = (score(x + h * u) - score(x - h * u)) / (2 * h)
    bent = own.pullback(evaluator, x, target, v, images=range(3), draw=0)
    torch.testing.assert_close((bent * u).flatten(1).sum(dim=1), measured, rtol=1e-6, atol=1e-8)
