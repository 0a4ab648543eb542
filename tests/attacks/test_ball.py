from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import stats

from attacks import L2, project, random_signs, random_start

SHAPE = (2, 2, 3, 3)


def generators(*seeds: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


images = arrays.arrays(
    np.float32, SHAPE, elements=st.floats(0, 1, width=32, allow_subnormal=False)
).map(torch.from_numpy)
perturbations = arrays.arrays(
    np.float32, SHAPE, elements=st.floats(-1e6, 1e6, width=32, allow_subnormal=False)
).map(torch.from_numpy)
radii = arrays.arrays(
    np.float32, SHAPE[:1], elements=st.floats(0, 1, width=32, allow_subnormal=False)
).map(torch.from_numpy)


@given(x=images, delta=perturbations, epsilon=radii)
def test_projection_is_exactly_inside_and_idempotent(x, delta, epsilon):
    inside = project(x, delta, epsilon)
    assert (inside.abs() <= epsilon[:, None, None, None]).all()
    assert (x + inside >= 0).all()
    assert (x + inside <= 1).all()
    assert torch.equal(project(x, inside, epsilon), inside)


@given(x=images, delta=perturbations, epsilon=radii)
def test_projection_is_the_nearest_allowed_point(x, delta, epsilon):
    """Both constraints are intervals for each pixel, so clipping to their intersection is exact."""
    bound = epsilon.double().numpy()[:, None, None, None]
    pixel = x.double().numpy()
    nearest = np.clip(
        delta.double().numpy(), np.maximum(-bound, -pixel), np.minimum(bound, 1 - pixel)
    )
    # 1 − x is rounded once in float32: half a unit in the last place of numbers below 1.
    np.testing.assert_allclose(project(x, delta, epsilon).numpy(), nearest, rtol=0, atol=2**-25)


@given(x=images, delta=perturbations)
def test_each_image_has_its_own_radius(x, delta):
    epsilon = torch.tensor([0.03, 0.2])
    both = project(x, delta, epsilon)
    for row in range(2):
        alone = project(x[row : row + 1], delta[row : row + 1], epsilon[row])
        assert torch.equal(both[row : row + 1], alone)


def test_the_total_is_projected_not_the_step():
    x, epsilon = torch.full((1, 1, 4, 4), 0.5), torch.tensor([0.1])
    delta = torch.zeros_like(x)
    for _ in range(5):
        delta = project(x, delta + 0.08, epsilon)
    assert (delta == epsilon).all()


def test_nothing_inside_is_changed():
    x = torch.rand(SHAPE, generator=torch.Generator().manual_seed(0)) * 0.5 + 0.25
    delta = (torch.rand(SHAPE, generator=torch.Generator().manual_seed(1)) - 0.5) * 0.2
    assert torch.equal(project(x, delta, torch.tensor(0.1)), delta)


def test_nan_stays_nan():
    """How a missing perturbation is marked; it must not become an allowed one."""
    delta = torch.full(SHAPE, torch.nan)
    assert project(torch.zeros(SHAPE), delta, torch.tensor(0.1)).isnan().all()


@pytest.mark.parametrize("draw", [random_signs, random_start])
@given(x=images, epsilon=radii, seed=st.integers(0, 2**31))
def test_random_perturbations_are_allowed(draw, x, epsilon, seed):
    delta = draw(x, epsilon, generators(seed, seed + 1))
    assert (delta.abs() <= epsilon[:, None, None, None]).all()
    assert (x + delta >= 0).all()
    assert (x + delta <= 1).all()


@pytest.mark.parametrize("draw", [random_signs, random_start])
def test_random_perturbations_belong_to_the_image(draw):
    x, epsilon = torch.full((3, 1, 8, 8), 0.5), torch.tensor([0.1, 0.2, 0.3])
    together = draw(x, epsilon, generators(7, 8, 9))
    order = [2, 0, 1]
    shuffled = draw(x[order], epsilon[order], generators(9, 7, 8))
    assert torch.equal(shuffled, together[order])
    for row in range(3):
        alone = draw(x[row : row + 1], epsilon[row : row + 1], generators(7 + row))
        assert torch.equal(alone[0], together[row])
    assert not torch.equal(together[0] / 0.1, together[1] / 0.2)


def test_random_signs_are_fair_and_full():
    x, epsilon = torch.full((1, 1, 100, 100), 0.5), torch.tensor([0.1])
    delta = random_signs(x, epsilon, generators(0))
    assert (delta.abs() == epsilon).all()
    positive = int((delta > 0).sum())
    # Fixed seed; a fair coin fails with probability 0.001.
    assert stats.binomtest(positive, delta.numel()).pvalue > 1e-3


def test_random_start_fills_the_ball():
    x, epsilon = torch.full((1, 1, 100, 100), 0.5), torch.tensor([0.1])
    delta = random_start(x, epsilon, generators(0)).flatten().numpy()
    # Fixed seed; a uniform sample fails with probability 0.001.
    assert stats.kstest(delta, stats.uniform(-0.1, 0.2).cdf).pvalue > 1e-3


@given(seed=st.integers(0, 2**16), radius=st.floats(1e-3, 30), scale=st.floats(0, 50))
def test_l2_ball_and_box_hold(seed, radius, scale):
    """Float32: the length of 48 values is rounded by some 1e-6 of itself."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand((3, 1, 4, 4), generator=generator)
    delta = scale * torch.randn(x.shape, generator=generator)
    epsilon = torch.full((3,), radius)
    for found in (
        L2().project(x, delta, epsilon),
        L2().start(x, epsilon, [torch.Generator().manual_seed(i) for i in range(3)]),
    ):
        assert (found.flatten(1).norm(dim=1) <= radius * (1 + 1e-5)).all()
        assert ((x + found >= 0) & (x + found <= 1)).all()
        again = L2().project(x, found, epsilon)
        torch.testing.assert_close(again, found, rtol=1e-5, atol=1e-7)
