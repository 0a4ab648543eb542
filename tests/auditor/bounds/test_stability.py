from __future__ import annotations

import math
from itertools import combinations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from auditor.bounds.stability import Setting, add_logs, symmetric
from auditor.bounds.training import Training, parse_training
from auditor.errors import InputError

NORMS = st.lists(st.floats(0.1, 10), min_size=1, max_size=6)


@given(norms=NORMS, drop=st.integers(0, 6))
def test_symmetric_polynomials_are_sums_over_subsets(norms, drop):
    found = symmetric(norms, drop)
    if drop > len(norms):
        assert found == -math.inf
        return
    expected = sum(math.prod(s) for s in combinations(norms, len(norms) - drop))
    assert found == pytest.approx(math.log10(expected), abs=1e-9)


def test_logs_do_not_overflow():
    assert add_logs([400.0, 400.0]) == pytest.approx(400 + math.log10(2))
    assert add_logs([]) == -math.inf
    assert symmetric([1e200] * 5, 1) == pytest.approx(800 + math.log10(5))


def plain(norms: tuple[float, ...], C: float, t: Training, sigma: float) -> dict[str, float]:
    """The theorems of S0 as printed, without logarithms."""
    k = len(norms)

    def delta(count: int, i: int) -> float:
        return sum(math.prod(s) for s in combinations(norms[:count], count - i))

    L = delta(k, 1) * C
    beta = (3 * k + 1) * delta(k, 1) ** 2 * C**2 if t.kappa is None else L / t.kappa
    bc = beta * t.c
    inner = sum(delta(i, 1) for i in range(1, k))
    gamma = (2 * delta(k, 0) * inner * C) ** (1 / (bc + 1)) * (2 * delta(k, 0)) ** (bc / (bc + 1))
    up = (1 + bc) / (t.n - 1) * (2 * t.c * L) ** (1 / (bc + 1)) * t.T ** (bc / (bc + 1)) * gamma
    factor = (delta(k, 1) / (2 * sigma * delta(k, 0) * inner)) ** (1 / (bc + 1))
    lam = delta(k, 0) * sum(delta(i, 0) for i in range(1, k))
    return {
        "simple": up,
        "smooth": up * factor,
        "integrated": up * 2 * C,
        "fidelity": lam * sigma * math.sqrt(50),
        "fidelity_ig": lam * (3 * C + 1) * sigma * math.sqrt(50),
    }


@pytest.mark.parametrize("kappa", [None, 0.5])
@pytest.mark.parametrize("norms", [(1.2, 1.1), (1.5, 1.0, 2.0)])
def test_theorems_are_as_printed(norms, kappa):
    training = Training(n=1000, T=200, c=1e-3, kappa=kappa)
    setting = Setting(norms=norms, size=1.5, pixels=50)
    expected = plain(norms, 1.5, training, 0.2)
    found = {
        "simple": setting.simple_grad(training),
        "smooth": setting.smooth_grad(training, 0.2),
        "integrated": setting.integrated_gradients(training),
        "fidelity": setting.fidelity(0.2),
        "fidelity_ig": setting.fidelity(0.2, integrated=True),
    }
    for name, value in expected.items():
        assert found[name] == pytest.approx(math.log10(value), abs=1e-9), name


def test_given_constants_replace_those_of_the_layers():
    setting = Setting(norms=(2.0, 2.0), size=1.0, pixels=4)
    given_ones = Training(n=100, T=10, c=0.1, beta=3.0, L=5.0)
    assert setting.constants(given_ones) == (math.log10(5), math.log10(3))
    # Convex case: 2LL′/n·Σα_t, with L′ = 2·4·1·1 = 8.
    expected = 2 * 5 * 8 / 100 * 0.1 * (math.log(10) + 1)
    assert setting.convex(given_ones) == pytest.approx(math.log10(expected))


def softplus_network(seed: int, layers: int, beta: float) -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        parts: list[nn.Module] = []
        for _ in range(layers - 1):
            parts += [nn.Linear(6, 6, bias=False), nn.Softplus(beta)]
        return nn.Sequential(*parts, nn.Linear(6, 1, bias=False)).double()


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("layers", [2, 3, 4])
def test_curvature_bound_holds_on_random_networks(seed, layers):
    """Brute force on small functions, with weights scaled from tiny to large."""
    model = softplus_network(seed, layers, beta=2.0)
    scale = 10 ** (seed / 5 - 0.5)
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(scale)
    norms = tuple(float(torch.linalg.matrix_norm(w.detach(), 2)) for w in model.parameters())
    limit = 10 ** Setting(norms=norms, size=1.0, pixels=6).softplus_curvature(2.0)
    for _ in range(20):
        x = torch.randn(6, generator=torch.Generator().manual_seed(_)).double()
        bent = torch.autograd.functional.hessian(lambda v: model(v)[0], x)
        assert torch.linalg.matrix_norm(bent, 2) <= limit


def test_the_published_curvature_bound_is_refuted():
    x = torch.linspace(-6, 6, 2001).double().requires_grad_()
    f = nn.functional.softplus(0.5 * nn.functional.softplus(0.5 * x))
    (slope,) = torch.autograd.grad(f.sum(), x, create_graph=True)
    (bent,) = torch.autograd.grad(slope.sum(), x)
    published = 0.5**2 * 0.5**2 / 4
    assert bent.abs().max() == pytest.approx(0.0241, abs=1e-4)
    assert bent.abs().max() > published
    # Ours, the last softplus being followed by a layer of norm one.
    assert bent.abs().max() <= 10 ** Setting(
        norms=(0.5, 0.5, 1.0), size=1.0, pixels=1
    ).softplus_curvature(1.0)


@pytest.mark.parametrize("seed", range(5))
def test_fidelity_bound_holds_on_random_tanh_networks(seed):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = nn.Sequential(
            nn.Linear(4, 5, bias=False), nn.Tanh(), nn.Linear(5, 1, bias=False)
        ).double()
    norms = tuple(float(torch.linalg.matrix_norm(w.detach(), 2)) for w in model.parameters())
    setting = Setting(norms=norms, size=2.0, pixels=4)
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(1, 4, generator=generator).double().requires_grad_()
    z = torch.randn(4000, 4, generator=generator).double()
    plain_map = torch.autograd.grad(model(x).sum(), x)[0]
    noisy = (x.detach() + 0.5 * z).requires_grad_()
    smooth_map = torch.autograd.grad(model(noisy).sum(), noisy)[0].mean(dim=0)
    assert (smooth_map - plain_map).norm() <= 10 ** setting.fidelity(0.5)
    assert plain_map.norm() <= 10**setting.longest_map


def test_training_record_is_read():
    assert parse_training("n=60000, T=5e3,c=0.1,kappa=2") == Training(
        n=60000, T=5000, c=0.1, kappa=2.0
    )


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("n=100,T=10", "c is missing"),
        ("n=100,T=10,c=0", "c=0: not a positive number"),
        ("n=100,T=10,c=abc", "c=abc: not a positive"),
        ("n=1,T=10,c=1", "n=1: give a whole number from 2"),
        ("n=100,T=1.5,c=1", "T=1.5: give a whole"),
        ("n=100,n=100,T=1,c=1", "'n=100' is not understood"),
        ("epochs=3", "'epochs=3' is not understood"),
        ("", "'' is not understood"),
        ("n=inf,T=1,c=1", "n=inf: not a positive"),
    ],
    ids=range(9),
)
def test_bad_training_records_are_refused(text, problem):
    with pytest.raises(InputError, match=problem):
        parse_training(text)
