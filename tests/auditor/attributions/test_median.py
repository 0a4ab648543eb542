from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage
from torch import Tensor, nn

from auditor.attributions import FRESH, SHOWN, MedianFiltered, Noise, SimpleGrad, Smoothed
from auditor.attributions.median import median
from auditor.errors import InputError
from auditor.evaluation import Evaluator


@pytest.fixture(scope="module")
def evaluator() -> Evaluator:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = nn.Sequential(
            nn.Conv2d(2, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(140, 3)
        )
    return Evaluator(model=network.requires_grad_(False), batch=2)


@pytest.fixture(scope="module")
def x() -> Tensor:
    return torch.rand(3, 2, 5, 7, generator=torch.Generator().manual_seed(1))


TARGET = torch.tensor([0, 2, 1])
IMAGES = (4, 5, 6)


@given(
    st.integers(0, 999),
    st.sampled_from((1, 3, 5, 7, 9)),
    st.tuples(st.integers(1, 3), st.integers(1, 2), st.integers(1, 8), st.integers(1, 8)),
    st.booleans(),
)
def test_is_the_median_filter_of_scipy(seed, size, shape, ties):
    maps = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    maps = maps.round() if ties else maps
    expected = ndimage.median_filter(maps.numpy(), size=(1, 1, size, size), mode="nearest")
    # A median picks a value: nothing is rounded.
    torch.testing.assert_close(median(maps, size), torch.from_numpy(expected), rtol=0, atol=0)


def test_a_spike_is_removed_and_an_edge_is_kept():
    maps = torch.zeros(2, 1, 6, 6)
    maps[0, 0, 2, 3] = 9
    maps[1, 0, :, 3:] = -1
    found = median(maps, 3)
    assert (found[0] == 0).all()
    assert torch.equal(found[1], maps[1])


def test_filters_the_maps_of_any_method(evaluator, x):
    inner = Smoothed(method=SimpleGrad(), sigma=0.1, samples=4, noise=Noise(seed=0, stream=SHOWN))
    for method in (SimpleGrad(), inner):
        filtered = MedianFiltered(method=method, size=3)
        plain, plain_logits = method(evaluator, x, TARGET, images=IMAGES, draw=1)
        maps, logits = filtered(evaluator, x, TARGET, images=IMAGES, draw=1)
        assert torch.equal(maps, median(plain, 3))
        assert not torch.equal(maps, plain)
        assert torch.equal(logits, plain_logits)
        assert (filtered.price, filtered.random) == (method.price, method.random)
    assert filtered.name == "median smooth_grad"
    assert (filtered.identity, filtered.is_gradient, filtered.differentiable) == (
        "3×3 gaussian 0.1 samples=4",
        False,
        False,
    )
    reseeded = filtered.seeded(Noise(seed=0, stream=FRESH))
    assert reseeded.method == inner.seeded(Noise(seed=0, stream=FRESH))


def test_can_be_smoothed_itself(evaluator, x):
    outer = Smoothed(
        method=MedianFiltered(method=SimpleGrad()),
        sigma=0.1,
        samples=3,
        noise=Noise(seed=0, stream=SHOWN),
    )
    maps, _ = outer(evaluator, x, TARGET, images=IMAGES, draw=0)
    assert maps.shape == x.shape
    assert outer.name == "smoothed median simple_grad"
    assert not outer.differentiable


def test_a_window_of_one_changes_nothing_and_an_even_one_is_refused(evaluator, x):
    same = MedianFiltered(method=SimpleGrad(), size=1)
    maps, _ = same(evaluator, x, TARGET, images=IMAGES, draw=0)
    assert torch.equal(maps, evaluator.gradients(x, TARGET)[0])
    for size in (0, -3, 4):
        with pytest.raises(InputError, match="odd number"):
            MedianFiltered(method=SimpleGrad(), size=size)


def test_has_no_derivative(evaluator, x):
    filtered = MedianFiltered(method=SimpleGrad())
    with pytest.raises(InputError, match="no derivative"):
        filtered.pullback(evaluator, x, TARGET, x, images=IMAGES, draw=0)


def test_what_is_not_finite_is_not_hidden():
    maps = torch.zeros(1, 1, 5, 5)
    maps[0, 0, 0, 0] = torch.nan
    found = median(maps, 3)
    assert found[0, 0, :2, :2].isnan().all()
    assert found.isnan().sum() == 4
