from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter
from scipy.sparse import coo_matrix
from scipy.sparse.linalg import spsolve
from skimage.data import astronaut
from skimage.transform import resize

from auditor.quality import multigrid
from auditor.quality.multigrid import fill, prolong, restrict

ACCURATE = 5e-5
"""Largest error in pixel units that is allowed: 1/80 gray level, 1/200 of the noise."""


def solved(x: np.ndarray, missing: np.ndarray) -> np.ndarray:
    """Every missing pixel the weighted mean of its neighbors, by scipy's direct solver."""
    height, width = missing.shape
    number = {tuple(p): i for i, p in enumerate(np.argwhere(missing))}
    rows, columns, entries = [], [], []
    known = np.zeros((len(number), len(x)))
    for (r, c), i in number.items():
        for dr in (-1, 0, 1):
            for dc in (-1, 0, 1):
                at = (r + dr, c + dc)
                if (dr, dc) == (0, 0) or not (0 <= at[0] < height and 0 <= at[1] < width):
                    continue
                weight = 1 / 12 if dr and dc else 1 / 6
                rows.append(i)
                columns.append(i)
                entries.append(weight)
                if at in number:
                    rows.append(i)
                    columns.append(number[at])
                    entries.append(-weight)
                else:
                    known[i] += weight * x[:, at[0], at[1]]
    matrix = coo_matrix((entries, (rows, columns)), shape=(len(number),) * 2).tocsc()
    found = x.astype(np.float64).copy()
    if number:
        found[:, missing] = spsolve(matrix, known).reshape(len(number), -1).T
    return found


def photograph(height: int, width: int) -> np.ndarray:
    return resize(astronaut(), (height, width)).transpose(2, 0, 1).astype(np.float32)


def orders(height: int, width: int) -> dict[str, np.ndarray]:
    """Maps whose largest pixels are scattered, in blobs of several sizes, or one half plane."""
    rng = np.random.default_rng(0)
    noise = rng.standard_normal((height, width))
    return {
        "scattered": noise,
        "small blobs": gaussian_filter(noise, 2),
        "large blobs": gaussian_filter(noise, 12),
        "half plane": np.arange(height * width).reshape(height, width).astype(float),
    }


def holes(order: np.ndarray, share: float) -> np.ndarray:
    """The largest pixels of a map."""
    missing = np.zeros(order.size, dtype=bool)
    missing[np.argsort(-order.ravel(), kind="stable")[: int(share * order.size)]] = True
    return missing.reshape(order.shape)


@pytest.mark.parametrize("size", [(64, 64), (33, 57), (28, 28), (3, 40), (1, 9), (2, 2)])
def test_equals_the_direct_solution(size):
    x = photograph(*size)
    for name, order in orders(*size).items():
        shares = (0.05, 0.3, 0.6, 0.95)
        missing = np.stack([holes(order, share) for share in shares])
        images = torch.from_numpy(x).expand(len(shares), -1, -1, -1)
        found = fill(images, torch.from_numpy(missing)[:, None])
        for one, gaps in zip(found, missing, strict=True):
            error = np.abs(one.numpy() - solved(x, gaps)).max()
            assert error < ACCURATE, (name, error)


def test_equals_the_direct_solution_at_full_size():
    """A hole of half the image and one hole of nearly all of it are the hardest systems."""
    x = photograph(224, 224)
    order = orders(224, 224)["half plane"]
    missing = np.stack([holes(order, 0.5), holes(order, 0.95)])
    found = fill(torch.from_numpy(x).expand(2, -1, -1, -1), torch.from_numpy(missing)[:, None])
    for one, gaps in zip(found, missing, strict=True):
        assert np.abs(one.numpy() - solved(x, gaps)).max() < ACCURATE


def test_a_flat_image_stays_flat():
    """All sums of a flat region round alike, and the largest hole adds that up: 5e-3 in float32.

    No solver is needed to know the answer.
    """
    x = torch.full((1, 1, 224, 224), 0.7)
    x[..., :5, :] = torch.rand(5, 224, generator=torch.Generator().manual_seed(0))
    x[..., 5:10, :] = 0.7
    gaps = torch.zeros(1, 1, 224, 224, dtype=torch.bool)
    gaps[..., 11:, :] = True
    assert (fill(x, gaps)[..., 11:, :] - 0.7).abs().max() < 1e-6


def test_double_precision_is_more_accurate():
    x, gaps = photograph(64, 64), holes(orders(64, 64)["large blobs"], 0.9)
    found = fill(torch.from_numpy(x).double()[None], torch.from_numpy(gaps)[None, None])
    # What is left is the tolerance, of which the last correction takes most away.
    assert np.abs(found[0].numpy() - solved(x, gaps)).max() < 1e-5


SIZES = st.tuples(st.integers(1, 12), st.integers(1, 12))


@given(SIZES, st.integers(0, 2**32 - 1), st.floats(0, 0.99), st.integers(0, 2))
def test_any_hole_is_filled_smoothly(size, seed, share, blur):
    rng = np.random.default_rng(seed)
    noise = gaussian_filter(rng.standard_normal(size), blur)
    gaps = holes(noise, share)
    x = torch.from_numpy(rng.random((1, 2, *size))).float()
    found = fill(x, torch.from_numpy(gaps)[None, None])
    assert found[0][:, ~gaps].equal(x[0][:, ~gaps])
    np.testing.assert_allclose(found[0], solved(x[0].numpy(), gaps), atol=ACCURATE)
    # A mean of known pixels lies between them.
    low, high = x[0][:, ~gaps].amin(), x[0][:, ~gaps].amax()
    inside = found[0][:, gaps]
    assert (inside > low - ACCURATE).all()
    assert (inside < high + ACCURATE).all()


def test_missing_values_do_not_matter_and_neither_does_company():
    order = orders(28, 28)
    missing = torch.from_numpy(np.stack([holes(o, 0.7) for o in order.values()]))[:, None]
    x = torch.from_numpy(photograph(28, 28)).expand(4, -1, -1, -1)
    whole = fill(x, missing)
    alone = torch.cat([fill(x[i : i + 1], missing[i : i + 1]) for i in range(4)])
    # Float32 sums over other batches.
    torch.testing.assert_close(alone, whole, rtol=0, atol=2e-6)
    forgotten = fill(x.masked_fill(missing, 0.0), missing)
    torch.testing.assert_close(forgotten, whole, rtol=0, atol=2 * ACCURATE)


@given(st.tuples(st.integers(2, 9), st.integers(2, 9)), st.integers(0, 2**32 - 1))
def test_restriction_is_the_transpose_of_interpolation(size, seed):
    generator = torch.Generator().manual_seed(seed)
    fine = torch.rand((1, 1, *size), generator=generator, dtype=torch.float64)
    small = restrict(fine)
    coarse = torch.rand(small.shape, generator=generator, dtype=torch.float64)
    torch.testing.assert_close((prolong(coarse, size) * fine).sum(), (coarse * small).sum())


def test_the_coarse_operator_is_galerkins():
    """PᵀAP by dense matrices, P the interpolation with the known pixels' rows zeroed."""
    gaps = torch.from_numpy(holes(orders(7, 10)["small blobs"], 0.6))[None, None].double()
    fine = multigrid._grid(gaps)
    coarse = multigrid._coarsen(fine, gaps)
    unit = torch.eye(4 * 6, dtype=torch.float64).reshape(-1, 1, 4, 6)
    p = (prolong(unit, (7, 10)) * gaps).flatten(1).T
    a = multigrid._dense(fine)[0, 0]
    torch.testing.assert_close(multigrid._dense(coarse)[0, 0], p.T @ a @ p)


def test_hopeless_images_are_refused():
    x = torch.rand(2, 1, 4, 4)
    with pytest.raises(ValueError, match="no pixel left"):
        fill(x, torch.ones(2, 1, 4, 4, dtype=torch.bool))
    x[0, 0, 0, 0] = torch.nan
    with pytest.raises(ValueError, match="not finite"):
        fill(x, torch.zeros(2, 1, 4, 4, dtype=torch.bool))
