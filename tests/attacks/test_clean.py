from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy.ndimage import center_of_mass
from scipy.stats import rankdata

from attacks.clean import Clean, center, defined, ranks, raw, shares

# Small integers, so that ties and zeros are frequent.
tied = arrays.arrays(np.float64, (2, 3, 3, 4), elements=st.integers(-2, 2).map(float))


def size(a: np.ndarray) -> np.ndarray:
    return np.abs(a).sum(axis=1)


@given(a=tied)
def test_views_equal_numpy_and_scipy(a):
    clean = Clean(maps=torch.from_numpy(a), k=5)
    m = size(a)
    assert clean.magnitude.numpy() == pytest.approx(m.reshape(2, -1))
    assert clean.ranks.numpy() == pytest.approx(rankdata(m.reshape(2, -1), axis=1) - 6.5)
    for i in range(2):
        best = np.lexsort((np.arange(12), -m[i].ravel()))[:5]
        assert set(clean.top[i].nonzero()[:, 0].tolist()) == set(best.tolist())
        if m[i].any():
            assert clean.shares[i].numpy() == pytest.approx(m[i].ravel() / m[i].sum())
            assert clean.center[i].numpy() == pytest.approx(center_of_mass(m[i]), abs=1e-12)
        else:
            assert not clean.shares[i].any()


def test_the_center_is_not_truncated_and_is_a_point_of_row_and_column():
    a = torch.zeros(1, 1, 3, 5)
    a[0, 0, 2, 1], a[0, 0, 2, 4] = 3.0, -1.0
    assert center(a).tolist() == [[2.0, 1.75]]


def test_float32_is_enough_for_ranks_of_ties():
    m = torch.tensor([[0.1, 0.3, 0.1, 0.2]])
    assert ranks(m).tolist() == [[-1.0, 1.5, -1.0, 0.5]]
    assert ranks(m).dtype == torch.float64


@pytest.mark.parametrize("k", [0, -1, 13])
def test_k_out_of_range(k):
    with pytest.raises(ValueError, match=r"k = .* between 1 and the 12 pixels"):
        Clean(maps=torch.ones(1, 2, 3, 4), k=k)


def test_rows_select_repeat_and_remember_which_image_each_is():
    a = torch.arange(24.0).reshape(4, 1, 2, 3)
    clean = Clean(maps=a, k=2)
    chosen = clean.rows(torch.tensor([3, 1, 1])).rows(torch.tensor([1, 0]))
    assert chosen.maps.equal(a[[1, 3]])
    assert chosen.k == 2
    assert chosen.top.equal(clean.top[[1, 3]])
    masks = torch.arange(4.0).reshape(4, 1, 1).expand(4, 2, 3)
    assert chosen.own(masks).tolist() == [[1.0] * 6, [3.0] * 6]
    assert clean.own(masks).equal(masks.flatten(1))
    assert chosen.own(masks[2:3]).tolist() == [[2.0] * 6] * 2


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((4, 3, 2), "does not fit maps of 2×3"),
        ((2, 3), "does not fit maps of 2×3"),
        ((4, 1, 2, 3), "does not fit maps of 2×3"),
        ((3, 2, 3), "3 given for 4 images"),
    ],
)
def test_values_of_another_shape(shape, message):
    with pytest.raises(ValueError, match=message):
        Clean(maps=torch.ones(4, 1, 2, 3), k=1).own(torch.ones(shape))


def test_undefined_scores_are_never_the_lowest():
    a = torch.ones(4, 1, 1, 2)
    a[1] = 0
    a[2, 0, 0, 1] = torch.nan
    a[3, 0, 0, 0] = torch.inf
    found = defined(torch.full((4,), -2.0), a, torch.ones_like(a))
    assert found.tolist() == [-2.0, torch.inf, torch.inf, torch.inf]
    assert found.dtype == torch.float64


def test_the_raw_derivative_carries_the_signs_of_every_channel():
    a = torch.tensor([[[[1.0, -2.0]], [[-3.0, 0.0]]]])
    assert raw(torch.tensor([[10.0, 20.0]]), a).tolist() == [[[[10.0, -20.0]], [[-10.0, 0.0]]]]


def test_shares_of_a_zero_map_are_zero():
    assert shares(torch.zeros(1, 3)).tolist() == [[0.0, 0.0, 0.0]]
