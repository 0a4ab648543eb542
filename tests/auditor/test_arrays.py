from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from auditor.arrays import arrange, as_pixels, layout
from auditor.decoding import UnusableImageError
from auditor.errors import InputError


@pytest.mark.parametrize(
    ("given_shape", "model", "expected"),
    [
        ((5, 8, 6), (1, 8, 6), (5, 1, 8, 6)),
        ((5, 8, 6), (3, 8, 6), (5, 1, 8, 6)),  # gray for a color model
        ((5, 3, 8, 6), (3, 8, 6), (5, 3, 8, 6)),
        ((5, 8, 6, 3), (3, 8, 6), (5, 3, 8, 6)),
        ((5, 9, 7, 3), (3, 8, 6), (5, 3, 9, 7)),  # of another size
        ((5, 4, 4, 6), (4, 4, 6), (5, 4, 4, 6)),
        ((5, 1, 28, 1), (1, 28, 1), (5, 1, 28, 1)),
        ((5, 1, 28, 1), (1, 1, 28), (5, 1, 1, 28)),
    ],
)
def test_layouts(given_shape, model, expected):
    image = np.zeros(given_shape)[0]
    found = layout(given_shape, image.dtype, model, "x")
    assert arrange(image, found).shape == expected[1:]


@pytest.mark.parametrize(
    ("x", "model", "says"),
    [
        (np.zeros((5, 8, 6, 2)), (3, 8, 6), "Give"),
        (np.zeros((5, 3, 9, 3)), (3, 8, 6), "Give"),  # either layout is possible
        (np.zeros((5, 8, 6)), (4, 8, 6), "Give"),
        (np.zeros((8, 6)), (1, 8, 6), "Give"),
        (np.zeros((0, 8, 6)), (1, 8, 6), "Give"),
        (np.zeros((5, 8, 6), dtype=np.int64), (1, 8, 6), "int64"),
        (np.zeros((5, 8, 6), dtype=np.uint32), (1, 8, 6), "uint32"),
        (np.lib.stride_tricks.as_strided(np.zeros(1), (1, 9**6, 9**6)), (1, 8, 6), "larger than"),
        (np.zeros((5, 8, 6), dtype=bool), (1, 8, 6), "bool"),
        (np.zeros((5, 8, 6), dtype="U3"), (1, 8, 6), "<U3"),
        (np.zeros((5, 8, 6), dtype=complex), (1, 8, 6), "complex"),
    ],
)
def test_layouts_that_are_none(x, model, says):
    with pytest.raises(InputError, match=says):
        layout(x.shape, x.dtype, model, "x")


def test_channels_last_keeps_the_pixels():
    x = np.random.default_rng(0).random((2, 4, 5, 3))
    found = layout(x.shape, x.dtype, (3, 4, 5), "x")
    assert arrange(x[1], found)[2, 3, 4] == x[1, 3, 4, 2]


@given(hnp.arrays(np.uint8, (2, 3, 4)))
def test_uint8_pixels(image):
    pixels = as_pixels(image, (2, 3, 4), "x")
    np.testing.assert_array_equal(pixels, image / np.float32(255))


@given(hnp.arrays(st.sampled_from(["<u2", ">u2"]), (1, 3, 4)))
def test_uint16_pixels(image):
    pixels = as_pixels(image, (1, 3, 4), "x")
    np.testing.assert_array_equal(pixels, image.astype(np.float32) / np.float32(65535))


@given(
    hnp.arrays(
        st.sampled_from(["f2", "f4", "f8", ">f4"]),
        (3, 2, 2),
        elements={"min_value": 0, "max_value": 1},
    )
)
def test_float_pixels(image):
    pixels = as_pixels(image, (3, 2, 2), "x")
    assert pixels.dtype == np.float32
    np.testing.assert_array_equal(pixels, image.astype(np.float32))


def test_other_sizes_are_fitted_and_gray_is_repeated():
    gradient = np.tile(np.linspace(0, 1, 40, dtype=np.float32), (40, 1))[None]
    pixels = as_pixels(gradient, (3, 8, 8), "x")
    assert pixels.shape == (3, 8, 8)
    assert (pixels[0] == pixels[1]).all()
    # A linear ramp stays one: pixel centers at (i + 1/2)·5 - 1/2 of 40, away from the border.
    centers = ((np.arange(8) + 0.5) * 5 - 0.5) / 39
    np.testing.assert_allclose(pixels[0, 4, 2:-2], centers[2:-2], atol=1e-4)


def test_values_on_another_scale_and_values_that_are_none():
    for bad in (np.full((1, 2, 2), 2.0), np.full((1, 2, 2), -0.1)):
        with pytest.raises(InputError, match=r"Scale them to \[0, 1\]"):
            as_pixels(bad, (1, 2, 2), "x")
    for bad in (np.nan, np.inf, 1e300):
        with pytest.raises(UnusableImageError, match="not finite"):
            as_pixels(np.array([[[0.1, bad]]]), (1, 1, 2), "x")
    assert as_pixels(np.full((1, 1, 1), 1 + 1e-7), (1, 1, 1), "x").max() == 1
