from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from torch import Tensor

from attacks import Boundary, Clean, Mass, overlap, top_set
from attacks.clean import magnitude

# Small integers, so that ties and zeros are frequent.
tied_maps = arrays.arrays(np.float32, (2, 2, 3, 4), elements=st.integers(-2, 2).map(float))


def numpy_top(raw: np.ndarray, k: int) -> set[int]:
    """The k largest pixels of one map; among equals the first in reading order."""
    sizes = np.abs(raw).sum(axis=0).ravel()
    return set(np.lexsort((np.arange(sizes.size), -sizes))[:k].tolist())


def maps(seed: int, shape: tuple[int, ...] = (3, 3, 5, 4)) -> Tensor:
    """Signed maps whose values are at least 0.1 away from the kink of |a| at zero."""
    generator = torch.Generator().manual_seed(seed)
    sizes = 0.1 + torch.rand(shape, generator=generator, dtype=torch.float64)
    return sizes * (torch.randint(0, 2, shape, generator=generator) * 2 - 1)


def differences(objective: Callable[[Tensor], Tensor], a: Tensor, h: float = 1e-6) -> Tensor:
    """Central finite differences (B, C, H, W) of a per-image objective."""
    found = torch.zeros_like(a)
    for index in np.ndindex(*a.shape[1:]):
        step = torch.zeros_like(a)
        step[(slice(None), *index)] = h
        found[(slice(None), *index)] = (objective(a + step) - objective(a - step)) / (2 * h)
    return found


@given(raw=tied_maps, k=st.integers(1, 12))
def test_top_set_and_its_ties(raw, k):
    found = top_set(torch.from_numpy(raw), k)
    assert [set(row.nonzero()[:, 0].tolist()) for row in found] == [numpy_top(m, k) for m in raw]


@given(clean=tied_maps, moved=tied_maps, k=st.integers(1, 12))
def test_overlap_is_the_share_of_common_pixels(clean, moved, k):
    found = overlap(torch.from_numpy(moved), top_set(torch.from_numpy(clean), k))
    expected = [
        len(numpy_top(a, k) & numpy_top(b, k)) / k if b.any() else 0.0
        for a, b in zip(clean, moved, strict=True)
    ]
    assert found.tolist() == pytest.approx(expected, abs=1e-15)


def test_a_zero_map_keeps_nothing():
    clean = top_set(maps(0, (2, 1, 3, 3)), 4)
    moved = maps(0, (2, 1, 3, 3))
    moved[1] = 0
    assert overlap(moved, clean).tolist() == [1.0, 0.0]


def test_magnitude_sums_channels():
    a = torch.tensor([[[[1.0, -2.0]], [[-3.0, 0.5]]]])
    assert magnitude(a).tolist() == [[4.0, 2.5]]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("temperature", [0.05, 0.1, 0.3])
def test_boundary_gradient_equals_finite_differences(seed, temperature):
    k, a = 5, maps(seed)
    reference = Clean(maps=maps(seed + 100), k=k)
    clean = reference.top
    # t belongs to the map at which the gradient is taken, and is held fixed.
    t = np.sort(a.abs().sum(dim=1).flatten(1).numpy(), axis=1)[:, -k]
    level = torch.from_numpy(t)[:, None]

    def sigmoid(moved: Tensor) -> Tensor:
        m = moved.abs().sum(dim=1).flatten(1)
        return 1 / (1 + torch.exp(-(m - level) / (temperature * level)))

    # So do the weights of the two sides, which make them count alike.
    s = sigmoid(a)
    inside, outside = ((s * (1 - s) * side).sum(dim=1) for side in (clean, ~clean))

    def objective(moved: Tensor) -> Tensor:
        s = sigmoid(moved)
        return (s * clean).sum(dim=1) / inside - (s * ~clean).sum(dim=1) / outside

    found = Boundary(temperature=temperature).gradient(a, reference)
    found = found / torch.from_numpy(temperature * t)[:, None, None, None]
    # Truncation h²·f‴/6 ≈ 1e-12·(1/(T·t))³/60 < 1e-9, rounding 1e-16·12/h ≈ 1e-9; the weights of a
    # side that is far from t are small, and dividing by them enlarges both.
    torch.testing.assert_close(found, differences(objective, a), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_mass_gradient_equals_finite_differences(seed):
    a = maps(seed)
    reference = Clean(maps=maps(seed + 100), k=5)
    clean = reference.top

    def objective(moved: Tensor) -> Tensor:
        m = moved.abs().sum(dim=1).flatten(1)
        return (m * clean).sum(dim=1) / m.sum(dim=1)

    # Rounding 1e-16/h = 1e-10 dominates; the objective is nearly linear in one value.
    torch.testing.assert_close(
        Mass().gradient(a, reference), differences(objective, a), rtol=1e-6, atol=1e-9
    )


def test_boundary_ignores_pixels_far_from_the_boundary():
    a = torch.tensor([100.0, 50.0, 10.1, 9.9, 1.0, 0.01]).reshape(1, 1, 2, 3)
    weights = Boundary(temperature=0.1).gradient(a, Clean(maps=a, k=3)).flatten()
    assert (weights[:3] >= 0).all()
    assert (weights[3:] <= 0).all()
    near, far = weights.abs()[[2, 3]], weights.abs()[[0, 1, 4, 5]]
    assert near.min() > 0.2
    assert far.max() < 1e-3


@pytest.mark.parametrize("objective", [Boundary(), Mass()])
def test_direction_does_not_depend_on_the_scale_of_the_map(objective):
    a, clean = maps(0), Clean(maps=maps(1), k=5)

    def direction(moved: Tensor) -> Tensor:
        gradient = objective.gradient(moved, clean).flatten(1)
        return gradient / gradient.norm(dim=1, keepdim=True)

    torch.testing.assert_close(direction(a * 1e-6), direction(a), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("objective", [Boundary(), Mass()])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_zero_map_gives_a_finite_zero_direction(objective, dtype):
    zero = torch.zeros(1, 2, 3, 3, dtype=dtype)
    zero[0, 0, 0, 0] = 0.5  # fewer non-zero pixels than k, so that t = 0
    clean = Clean(maps=maps(0, (1, 2, 3, 3)), k=4)
    for a in (zero, torch.zeros_like(zero)):
        gradient = objective.gradient(a, clean)
        assert gradient.isfinite().all()
        assert gradient.dtype == dtype
        assert (gradient[a == 0] == 0).all()
