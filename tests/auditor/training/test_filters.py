from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.ndimage
import torch

from auditor.training.filters import FILTERS, Gaussian, Mean, Median, NonLocal, gaussian_std


def features(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


def dense_gaussian(plane: np.ndarray, std: float) -> np.ndarray:
    side = np.exp(-(np.array([-1.0, 0.0, 1.0]) ** 2) / (2 * std**2))
    window = np.outer(side, side)
    return scipy.ndimage.correlate(plane, window / window.sum(), mode="mirror")


@pytest.mark.parametrize(
    ("filtered", "oracle"),
    [
        (Mean(), lambda plane: scipy.ndimage.uniform_filter(plane, 3, mode="mirror")),
        (Median(), lambda plane: scipy.ndimage.median_filter(plane, 3, mode="mirror")),
        (Gaussian(0.7), lambda plane: dense_gaussian(plane, 0.7)),
        (Gaussian(gaussian_std(28)), lambda plane: dense_gaussian(plane, 4.55)),
    ],
    ids=["mean", "median", "gaussian", "gaussian of S2"],
)
def test_local_filters_are_those_of_scipy(filtered, oracle):
    x = features(2, 3, 6, 5)
    expected = np.stack([[oracle(plane) for plane in image] for image in x.numpy()])
    np.testing.assert_allclose(filtered(x).numpy(), expected, atol=1e-12)


@pytest.mark.parametrize("embedded", [False, True], ids=["gaussian", "embedded"])
def test_a_non_local_filter_is_a_mean_over_all_places(embedded):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        filtered = NonLocal(4, embedded=embedded).double()
    x = features(1, 4, 3, 2)
    theta, phi = filtered.theta(x)[0], filtered.phi(x)[0]
    places = [(i, j) for i in range(3) for j in range(2)]
    for at in places:
        likeness = [
            (theta[:, at[0], at[1]] @ phi[:, i, j]).item() / math.sqrt(len(theta))
            for i, j in places
        ]
        weights = np.exp(likeness) / np.exp(likeness).sum()
        mean = sum(w * x[0, :, i, j] for w, (i, j) in zip(weights.tolist(), places, strict=True))
        torch.testing.assert_close(filtered(x)[0, :, at[0], at[1]], mean)


@pytest.mark.parametrize("name", FILTERS)
def test_filters_have_the_derivative_of_finite_differences(name):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        filtered = FILTERS[name](2, 8).double()
    x = features(1, 2, 4, 3).requires_grad_()  # without ties, where the median has a kink
    assert torch.autograd.gradcheck(filtered, x)


def test_the_derivative_of_a_median_is_one_at_the_median_alone():
    x = torch.arange(9.0).reshape(1, 1, 3, 3).requires_grad_()
    Median()(x)[0, 0, 1, 1].backward()
    assert x.grad is not None
    assert x.grad.flatten().tolist() == [0, 0, 0, 0, 1, 0, 0, 0, 0]
