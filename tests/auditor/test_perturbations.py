from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from auditor.perturbations import (
    GaussianNoise,
    NoisyBaseline,
    SquareRemoval,
    UniformNoise,
    square_sizes,
)

ALL = [
    NoisyBaseline(seed=3),
    SquareRemoval(seed=3, smallest=1, largest=4),
    UniformNoise(seed=3, radius=0.1, clip=False),
    UniformNoise(seed=3, radius=0.1, clip=True),
    GaussianNoise(seed=3, std=0.1),
]


@pytest.fixture
def x() -> Tensor:
    return torch.rand(3, 2, 6, 5, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("perturbation", ALL, ids=repr)
def test_a_draw_belongs_to_image_and_number_alone(perturbation, x):
    whole = perturbation.draw(x, (7, 8, 9), first=0, count=6)
    assert whole.shape == (3, 6, 2, 6, 5)
    part = perturbation.draw(x[[2, 0]], (9, 7), first=2, count=3)
    assert part.equal(whole[[2, 0], 2:5])
    other = perturbation.draw(x[[0, 0]], (7, 8), first=0, count=2)
    assert not other[0].equal(other[1])
    assert not other[0, 0].equal(other[0, 1])


@pytest.mark.parametrize("perturbation", ALL, ids=repr)
def test_another_seed_draws_another_thing(perturbation, x):
    settings = {**vars(perturbation), "seed": 4}
    again = type(perturbation)(**settings).draw(x, (7, 8, 9), first=0, count=4)
    assert not again.equal(perturbation.draw(x, (7, 8, 9), first=0, count=4))


def test_noisy_baseline_is_black_with_clipped_noise(x):
    y = NoisyBaseline(seed=0).draw(x, (0, 1, 2), first=0, count=200)
    assert y.min() == 0
    # A clipped normal: half of it is zero, and its mean is .2·φ(0); 36,000 values.
    assert (y == 0).double().mean().item() == pytest.approx(0.5, abs=0.02)
    assert y.double().mean().item() == pytest.approx(0.2 * stats.norm.pdf(0), abs=0.003)
    assert y.equal(NoisyBaseline(seed=0).draw(1 - x, (0, 1, 2), first=0, count=200))


def test_squares_are_black_squares_of_every_size_and_place():
    x = torch.ones(1, 2, 6, 5)
    removal = SquareRemoval(seed=0, smallest=2, largest=4)
    masks = removal.masks((0,), (6, 5), first=0, count=3000)[0, :, 0]
    y = removal.draw(x, (0,), first=0, count=3000)[0]
    assert (y == 0).equal(masks[:, None].expand_as(y))
    rows, columns = masks.any(dim=2).sum(dim=1), masks.any(dim=1).sum(dim=1)
    assert rows.equal(columns)
    assert masks.sum(dim=(1, 2)).equal(rows**2)
    counts = np.bincount(rows)[2:]
    # A chi-squared test of fair sizes, and of fair places of the smallest: 5 × 4 of them.
    assert stats.chisquare(counts).pvalue > 1e-3
    small = masks[rows == 2]
    corner = small.flatten(1).int().argmax(dim=1)
    assert stats.chisquare(np.unique(corner, return_counts=True)[1]).pvalue > 1e-3
    assert len(corner.unique()) == 20


@pytest.mark.parametrize(("smallest", "largest"), [(0, 3), (4, 3), (1, 7)])
def test_squares_that_do_not_fit_are_refused(smallest, largest):
    removal = SquareRemoval(seed=0, smallest=smallest, largest=largest)
    with pytest.raises(ValueError, match="do not fit images of 6×9"):
        removal.draw(torch.ones(1, 1, 6, 9), (0,), first=0, count=1)


@pytest.mark.parametrize(
    ("size", "sides"),
    [((28, 28), (1, 10)), ((32, 32), (1, 15)), ((224, 240), (10, 30)), ((5, 64), (1, 5))],
)
def test_square_sizes_are_those_of_the_paper(size, sides):
    assert square_sizes(*size) == sides


def test_uniform_noise_fills_the_ball(x):
    y = UniformNoise(seed=0, radius=0.1, clip=False).draw(x, (0, 1, 2), first=0, count=200)
    noise = (y - x[:, None]).flatten().numpy()
    assert abs(noise).max() <= 0.1 + 1e-6  # float32
    assert stats.kstest(noise / 0.2 + 0.5, "uniform").pvalue > 1e-3
    clipped = UniformNoise(seed=0, radius=0.1, clip=True).draw(x, (0, 1, 2), first=0, count=200)
    assert clipped.equal(y.clamp(0, 1))


def test_gaussian_noise_of_different_size_is_common(x):
    small, large = (
        GaussianNoise(seed=0, std=std).draw(x, (0, 1, 2), first=0, count=50) - x[:, None]
        for std in (0.1, 0.2)
    )
    # Float32 sums with pixels of up to 1.
    torch.testing.assert_close(2 * small, large, rtol=0, atol=1e-6)
    assert stats.kstest(small.flatten() / 0.1, "norm").pvalue > 1e-3
