"""The printed code is run: it must give the map that was audited."""

from __future__ import annotations

import pytest
import torch

from auditor.attributions.registry import find_method
from auditor.evaluation import Evaluator
from reports import captum_snippet
from reports.snippet import method_snippet, own_snippet

MEAN, STD = (0.4, 0.5), (0.2, 0.3)


class Tiny(torch.nn.Module):
    """A smooth network on normalized images (N, 2, 3, 3)."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(3)
        self.first = torch.nn.Parameter(torch.randn(18, 6, generator=generator) / 3)
        self.second = torch.nn.Parameter(torch.randn(6, 4, generator=generator))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.tanh(x.flatten(1) @ self.first) @ self.second


def run(sigma: float, samples: int, mean=MEAN, std=STD) -> dict:
    names: dict = {}
    exec(captum_snippet(sigma, samples, mean, std), names)
    return names


def pixel_gradient(network: Tiny, x: torch.Tensor, target: int) -> torch.Tensor:
    """Gradient of the logit by hand: chain rule through tanh and the normalization."""
    mean, std = (torch.tensor(v).view(1, 2, 1, 1) for v in (MEAN, STD))
    hidden = ((x - mean) / std).flatten(1) @ network.first
    slope = (1 - torch.tanh(hidden) ** 2) * network.second[:, target]
    return (slope @ network.first.T).view_as(x) / std


def test_without_noise_it_is_the_signed_gradient():
    names, network = run(0.0, 4), Tiny()
    x = torch.rand(3, 2, 3, 3, generator=torch.Generator().manual_seed(1))
    got = names["smoothed_map"](names["FromPixels"](network), x, 2)
    expected = pixel_gradient(network, x, 2)
    torch.testing.assert_close(got, expected)
    assert (expected < 0).any()
    assert not x.requires_grad


def test_it_is_the_mean_gradient_under_noise():
    """Against our own average over other draws of the same noise."""
    sigma, samples, mine = 0.1, 1000, 20_000
    names, network = run(sigma, samples), Tiny()
    x = torch.rand(1, 2, 3, 3, generator=torch.Generator().manual_seed(1))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        got = names["smoothed_map"](names["FromPixels"](network), x, 1)
    noise = sigma * torch.randn(mine, 2, 3, 3, generator=torch.Generator().manual_seed(2))
    gradients = pixel_gradient(network, x + noise, 1)
    # five standard errors of the difference of the two averages
    tolerance = 5 * gradients.std(0) * (1 / samples + 1 / mine) ** 0.5
    assert ((got[0] - gradients.mean(0)).abs() < tolerance).all()
    # the noise matters: the plain gradient is further away than that
    assert ((pixel_gradient(network, x, 1)[0] - gradients.mean(0)).abs() > tolerance).any()


def test_each_image_has_a_class_of_its_own():
    names, network = run(0.0, 4), Tiny()
    x = torch.rand(3, 2, 3, 3, generator=torch.Generator().manual_seed(1))
    got = names["smoothed_map"](names["FromPixels"](network), x, torch.tensor([2, 0, 3]))
    expected = [pixel_gradient(network, x[i : i + 1], c) for i, c in enumerate((2, 0, 3))]
    torch.testing.assert_close(got, torch.cat(expected))


@pytest.mark.parametrize("samples", [1, 13])
def test_the_noise_takes_one_value_from_each_part_of_the_distribution(samples):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        z = run(0.1, samples)["stratified_normal"](samples, (2, 4, 5))
    assert z.shape == (samples, 2, 4, 5)
    parts = (torch.special.ndtr(z.double()) * samples).floor().sort(dim=0).values
    assert (parts == torch.arange(samples)[:, None, None, None]).all()


def test_any_explanation_is_averaged_over_the_same_noise():
    names: dict = {}
    exec(own_snippet('fn"""', 0.2, 400), names)
    network, seen = Tiny(), []

    def explain(model, x, target):
        seen.append((len(x), target.tolist()))
        return model(x)[:, target, None, None].expand(-1, 2, 3, 3) + x

    x = torch.rand(2, 2, 3, 3, generator=torch.Generator().manual_seed(1))
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        got = names["smoothed_map"](explain, network, x, torch.tensor([2, 0]))
        noise = 0.2 * torch.randn(20_000, 2, 3, 3)
        scores = [network(x[i] + noise)[:, c].mean() for i, c in enumerate((2, 0))]
    assert seen == [(1, [2])] * 400 + [(1, [0])] * 400
    expected = x + torch.stack(scores)[:, None, None, None]
    # The mean noise of a pixel deviates by .2 · .02 / 20; the scores by .2 / √20,000 and less.
    torch.testing.assert_close(got, expected, rtol=0, atol=0.02)


@pytest.mark.parametrize(("samples", "batch"), [(1, 1), (5, 5), (50, 8)])
def test_settings_are_in_the_text(samples, batch):
    words = captum_snippet(0.15306122448979592, samples, (), ())
    assert f"n={samples}, sigma=0.153061, batch={batch})" in words
    assert "FromPixels" not in words


def test_identity_normalization_needs_no_wrapper():
    assert "FromPixels" not in captum_snippet(0.1, 8, (0.0, 0.0), (1.0, 1.0))
    assert "FromPixels" in captum_snippet(0.1, 8, (0.0, 0.0), (1.0, 0.5))


def test_a_preprocessing_without_mean_and_std_is_mentioned():
    assert "preprocess" not in captum_snippet(0.1, 8, MEAN, STD)
    assert "# preprocess in this report) to x." in captum_snippet(0.1, 8, (), ())


@pytest.mark.parametrize("spec", ["grad_x_input", "integrated_gradients,points=7"])
def test_a_method_of_ours_is_made_by_its_name(spec):
    names: dict = {}
    exec(method_snippet(spec, 1e-4, 4), names)
    network = Tiny()
    x = torch.rand(2, 2, 3, 3, generator=torch.Generator().manual_seed(1))
    target = torch.tensor([2, 0])
    got = names["smoothed_map"](names["explain"], network, x, target)
    evaluator = Evaluator(model=network, batch=2)
    expected, _ = find_method(spec)(evaluator, x, target, images=range(2), draw=0)
    # Four draws of noise as small as this change a smooth map by about 1e-4 of its size.
    torch.testing.assert_close(got, expected, rtol=0, atol=2e-3 * float(expected.abs().max()))
