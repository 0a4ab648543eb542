from __future__ import annotations

import contextlib
import io
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch import Tensor

from auditor.quality.scores import NOT_FINITE, ZERO_MAP
from auditor.quality.sparseness import gini, sparseness

MAGNITUDES = arrays(
    np.float64,
    st.tuples(st.integers(1, 4), st.integers(1, 5), st.integers(1, 5)),
    elements=st.one_of(st.just(0.0), st.floats(1e-3, 1e3)),
)


def maps(*values: float) -> Tensor:
    return torch.tensor(values).reshape(1, 1, 2, -1)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ((0, 0, 0, 1), 0.75),
        ((0, -3, 0, 0), 0.75),
        ((2, 2, 2, 2), 0.0),
        ((0, 0, 1, 1), 0.5),
        ((1, 2, 3, 4), 0.25),  # (2·1 + 4·2 + 6·3 + 8·4 − 5·10)/(4·10), worked out by hand
    ],
)
def test_known_values(values, expected):
    # Rounding of a sum of four.
    assert sparseness(maps(*values)).values["gini"].item() == pytest.approx(expected, abs=1e-12)


def test_the_magnitude_counts_not_the_channels():
    one = torch.tensor([[[[1.0, -2.0]], [[-3.0, 2.0]]]])  # |1| + |−3| and |−2| + |2|
    assert sparseness(one).values["gini"].item() == 0


def test_unjudgeable_maps_are_counted():
    found = sparseness(torch.cat([maps(0, 0, 0, 0), maps(0, float("nan"), 0, 1), maps(0, 0, 0, 1)]))
    assert found.values["gini"].isnan().tolist() == [True, True, False]
    assert found.undefined[ZERO_MAP].tolist() == [True, False, False]
    assert found.undefined[NOT_FINITE].tolist() == [False, True, False]


@given(MAGNITUDES, st.floats(1e-150, 1e150))
def test_range_scale_and_order(values, factor):
    values = torch.from_numpy(values)
    found = gini(values)
    shown = values.flatten(1).any(dim=1)
    d = values[0].numel()
    assert found.isnan().equal(~shown)
    assert (found[shown] >= 0).all()
    # 1 − 1/d is reached by a single pixel; rounding.
    assert (found[shown] <= 1 - 1 / d + 1e-12).all()
    # Scaling rounds each value once, the sum of 25 then differs by a few units of 1e-16.
    torch.testing.assert_close(gini(values * factor), found, rtol=0, atol=1e-12, equal_nan=True)
    torch.testing.assert_close(gini(values.flip(1)), found, rtol=0, atol=1e-12, equal_nan=True)


@given(MAGNITUDES)
def test_one_image_at_a_time_gives_the_same(values):
    values = torch.from_numpy(values)
    alone = torch.cat([gini(one[None]) for one in values])
    torch.testing.assert_close(gini(values), alone, rtol=0, atol=1e-14, equal_nan=True)


def test_agrees_with_quantus():
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        from quantus import Sparseness

        peer = Sparseness(abs=True, normalise=False, disable_warnings=True)
        values = torch.rand(5, 1, 8, 9, generator=torch.Generator().manual_seed(0)).double() ** 4
        # Quantus adds 1e-7 to each pixel, in the caller's array: it gets a copy.
        theirs = peer.evaluate_batch(x_batch=None, a_batch=values.numpy().copy())
    ours = sparseness(values).values["gini"]
    # 1e-7 beside pixels of mean .2.
    np.testing.assert_allclose(ours, theirs, atol=2e-6)
