from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from torch import Tensor

from auditor.metrics.views import is_zero, magnitude, visual


def one(rows: list[list[float]]) -> Tensor:
    return torch.tensor([rows], dtype=torch.float64)


def test_magnitude_sums_absolute_channels():
    raw = torch.tensor([[[[1.0, -2.0]], [[-3.0, 0.5]]]])
    assert magnitude(raw).tolist() == [[[4.0, 2.5]]]
    assert magnitude(raw).dtype == torch.float64


def test_visual_clips_like_numpy():
    values = np.random.default_rng(0).exponential(size=(3, 14, 9))
    for values_in, shown in zip(values, visual(torch.from_numpy(values)).numpy(), strict=True):
        low, high = values_in.min(), np.percentile(values_in, 99)
        expected = (np.clip(values_in, low, high) - low) / (high - low)
        np.testing.assert_allclose(shown, expected, rtol=0, atol=1e-12)  # rounding only


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        pytest.param([[0.0] * 20] * 20, 0.0, id="all zero"),
        pytest.param([[3.5] * 20] * 20, 0.0, id="constant"),
        # One pixel in 400: the 99th percentile is the minimum, so the maximum clips.
        pytest.param([[7.0] + [1.0] * 19] + [[1.0] * 20] * 19, 1 / 400, id="single spike"),
    ],
)
def test_visual_of_degenerate_maps(rows, expected):
    assert visual(one(rows)).mean().item() == pytest.approx(expected, abs=1e-15)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_visual_refuses_what_is_not_finite(bad):
    with pytest.raises(ValueError, match="no visual view"):
        visual(one([[0.0, bad]]))


def test_shapes_are_checked():
    with pytest.raises(ValueError, match="raw maps"):
        magnitude(torch.zeros(3, 4, 4))
    with pytest.raises(ValueError, match="magnitudes"):
        visual(torch.zeros(1, 3, 4, 4))


def test_is_zero_looks_at_each_image():
    maps = torch.zeros(4, 2, 3, 3)
    maps[1, 1, 2, 2] = -1e-38
    maps[2] = float("nan")
    assert is_zero(maps).tolist() == [True, False, False, True]


@settings(deadline=None)
@given(
    hnp.arrays(
        np.float32,
        hnp.array_shapes(min_dims=3, max_dims=3, max_side=6),
        elements=st.floats(0, 1e6, width=32),
    )
)
def test_visual_stays_in_the_unit_interval(values):
    shown = visual(torch.from_numpy(values))
    assert ((shown >= 0) & (shown <= 1)).all()
    spans = values.reshape(len(values), -1)
    varied = torch.from_numpy(spans.max(axis=1) > spans.min(axis=1))
    # Whatever varies shows its extremes.
    assert torch.equal(shown.flatten(1).amax(dim=1) == 1, varied)
    assert (shown.flatten(1).amin(dim=1) == 0).all()
