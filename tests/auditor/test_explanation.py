from __future__ import annotations

import pytest
import torch
from captum.attr import IntegratedGradients
from torch import nn

from auditor import from_captum, from_network
from auditor.attributions import SimpleGrad
from auditor.errors import InputError
from auditor.evaluation import Evaluator
from auditor.explanation import examine, load_explanation, try_on

X = torch.rand((3, 1, 12, 12), generator=torch.Generator().manual_seed(0))


def model(seed: int = 0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(400, 3))
    for parameter in network.parameters():
        parameter.data.mul_(3)  # curved enough for second derivatives to matter
    return from_network(network, input_shape=(1, 12, 12))


def seen(function, batch: int = 8):
    return examine(load_explanation(function), Evaluator(model=model(), batch=batch), X)


def gradient(model, x, target, *, create_graph=True):
    x = x if x.requires_grad else x.requires_grad_()
    score = model(x).gather(1, target[:, None]).sum()
    return torch.autograd.grad(score, x, create_graph=create_graph)[0]


def times_input(model, x, target):
    return x * gradient(model, x, target)


def half_differentiable(model, x, target):
    # autograd sees the last term alone: its derivative is not that of the map
    return gradient(model, x, target, create_graph=False).detach() + 0.01 * x


def occlusion(model, x, target):
    maps = torch.zeros_like(x)
    with torch.no_grad():
        base = model(x).gather(1, target[:, None])[:, 0]
        for row in range(0, 12, 4):
            for column in range(0, 12, 4):
                hidden = x.clone()
                hidden[:, :, row : row + 4, column : column + 4] = 0
                drop = base - model(hidden).gather(1, target[:, None])[:, 0]
                maps[:, :, row : row + 4, column : column + 4] = drop[:, None, None, None]
    return maps


def noisy(model, x, target):
    return gradient(model, x + 0.3 * torch.randn_like(x), target)


@pytest.mark.parametrize(
    ("function", "price", "random", "differentiable"),
    [
        (times_input, 1, False, True),
        (half_differentiable, 1, False, False),
        (occlusion, 4, False, False),  # ten forward passes of a third each
        (noisy, 1, True, True),
        (lambda m, x, t: times_input(m, x, t) + times_input(m, x / 2, t), 2, False, True),
    ],
)
def test_price_randomness_and_derivatives_are_found_out(function, price, random, differentiable):
    method, checks = seen(function)
    assert (method.price, method.random, method.differentiable) == (price, random, differentiable)
    assert len(checks) == 3
    assert all(check.status in ("ok", "note") for check in checks)


def test_captum_objects_are_found_out_too():
    inner = model()
    method, _ = seen(from_captum(IntegratedGradients(inner.network), n_steps=7))
    assert method.price == 7
    assert not method.random


def test_an_explanation_that_ignores_the_model_is_noted():
    method, checks = seen(lambda m, x, t: x - 0.5)
    assert method.price == 1
    assert checks[0].status == "note"
    assert "not seen calling the model" in checks[0].message


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (lambda m, x, t: 0 * x, "zero on all 3 images"),
        (lambda m, x, t: x / 0 * gradient(m, x, t), "not finite"),
        (lambda m, x, t: gradient(m, x, t) / gradient(m, x, t).norm(), "otherwise in a batch"),
        (lambda m, x, t: gradient(m, x, t)[:, 0, 0], "returned shape"),
    ],
)
def test_what_cannot_be_audited_is_refused(function, said):
    with pytest.raises(InputError, match=said):
        seen(function)


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("nowhere.py:fn", "no such file"),
        ("explain.py:", "not understood"),
        ("explain.py", "not understood"),
        ("{}:other", "no function 'other'"),
        ("{}:NUMBER", "NUMBER is no function"),
        ("nowhere.such:fn", "importing it failed"),
    ],
)
def test_a_spec_that_names_nothing_is_refused(spec, said, tmp_path):
    file = tmp_path / "explain.py"
    file.write_text("NUMBER = 3\ndef fn(model, x, target):\n    return x\n")
    with pytest.raises(InputError, match=said):
        load_explanation(spec.format(file))


def test_a_file_is_told_from_another_version_of_it(tmp_path):
    file = tmp_path / "explain.py"
    found = []
    for text in ("return x", "return 2 * x"):
        file.write_text(f"def fn(model, x, target):\n    {text}\n")
        found.append(load_explanation(f"{file}:fn"))
    assert {method.name for method in found} == {"fn"}
    assert found[0].identity != found[1].identity


def test_nothing_given_is_the_gradient():
    assert load_explanation(None) == SimpleGrad()
    assert examine(SimpleGrad(), Evaluator(model=model(), batch=4), X) == (SimpleGrad(), ())


def test_a_twin_that_cannot_be_explained_is_named():
    def needs_layer(model, x, target):
        return model.network[9](x)

    with pytest.raises(InputError, match="needs_layer: calling it failed"):
        try_on(load_explanation(needs_layer), Evaluator(model=model(), batch=4), X)
