from __future__ import annotations

import io
import zipfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from auditor.arrays import as_pixels, channels_first, read_npz
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
    assert channels_first(np.zeros(given_shape), model, "x").shape == expected


@pytest.mark.parametrize(
    ("x", "model", "says"),
    [
        (np.zeros((5, 8, 6, 2)), (3, 8, 6), "Give"),
        (np.zeros((5, 3, 9, 3)), (3, 8, 6), "Give"),  # either layout is possible
        (np.zeros((5, 8, 6)), (4, 8, 6), "Give"),
        (np.zeros((8, 6)), (1, 8, 6), "Give"),
        (np.zeros((0, 8, 6)), (1, 8, 6), "Give"),
        (np.zeros((5, 8, 6), dtype=np.int64), (1, 8, 6), "int64"),
        (np.zeros((5, 8, 6), dtype=bool), (1, 8, 6), "bool"),
        (np.zeros((5, 8, 6), dtype="U3"), (1, 8, 6), "<U3"),
        (np.zeros((5, 8, 6), dtype=complex), (1, 8, 6), "complex"),
    ],
)
def test_layouts_that_are_none(x, model, says):
    with pytest.raises(InputError, match=says):
        channels_first(x, model, "x")


def test_channels_last_keeps_the_pixels():
    x = np.random.default_rng(0).random((2, 4, 5, 3))
    assert channels_first(x, (3, 4, 5), "x")[1, 2, 3, 4] == x[1, 3, 4, 2]


@given(hnp.arrays(np.uint8, (2, 3, 4)))
def test_uint8_pixels(image):
    pixels = as_pixels(image, (2, 3, 4), "x")
    np.testing.assert_array_equal(pixels, image / np.float32(255))


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
    for bad in (np.nan, np.inf):
        with pytest.raises(UnusableImageError, match="not finite"):
            as_pixels(np.array([[[0.1, bad]]]), (1, 1, 2), "x")
    assert as_pixels(np.full((1, 1, 1), 1 + 1e-7), (1, 1, 1), "x").max() == 1


@given(
    hnp.arrays(st.sampled_from([np.uint8, np.float32]), hnp.array_shapes(min_dims=3, max_dims=4)),
    st.booleans(),
)
def test_npz_round_trip(x, compress):
    stream = io.BytesIO()
    (np.savez_compressed if compress else np.savez)(stream, x=x, y=np.arange(len(x)))
    stream.seek(0)
    read, y = read_npz(stream)
    np.testing.assert_array_equal(read, x)
    np.testing.assert_array_equal(y, np.arange(len(x)))


def archive(path, **entries):
    with zipfile.ZipFile(path, "w") as out:
        for name, content in entries.items():
            out.writestr(name.replace("_", "."), content)


def header(shape: str, descr: str = "|u1") -> bytes:
    text = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}"
    text += " " * (117 - len(text)) + "\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode()


@pytest.mark.parametrize(
    ("entries", "says"),
    [
        ({}, "no array x"),
        ({"z_npy": header("(1,)")}, "no array x"),
        ({"x_npy": header("(10, 100000, 100000)")}, "93.1 GiB"),
        ({"x_npy": header("(60000, 28, 28)") + b"1234"}, "holds 4 bytes"),
        ({"x_npy": header("(2, 2, 2)") + b"1" * 9}, "holds 9 bytes"),
        ({"x_npy": header("(-1, 2, 2)") + b"1" * 9}, "holds 9 bytes"),
        ({"x_npy": header("(1,)", "|O") + b"12345678"}, "Python objects"),
        ({"x_npy": b"not an array"}, "cannot be read"),
        ({"x_npy": b""}, "cannot be read"),
        ({"x_npy": header("(1, 1, 1)") + b"1", "y_npy": header("(9,)")}, "y declares"),
    ],
)
def test_hostile_archives(entries, says, tmp_path):
    archive(tmp_path / "d.npz", **entries)
    with pytest.raises(InputError, match=says) as caught:
        read_npz(tmp_path / "d.npz")
    assert len(str(caught.value).splitlines()) == 1


def test_objects_are_never_unpickled(tmp_path):
    np.savez(tmp_path / "d.npz", x=np.array([{"a": 1}], dtype=object))
    with pytest.raises(InputError, match="Python objects"):
        read_npz(tmp_path / "d.npz")


def test_a_file_that_is_no_archive(tmp_path):
    (tmp_path / "d.npz").write_bytes(b"PK nothing")
    with pytest.raises(InputError, match="cannot be read"):
        read_npz(tmp_path / "d.npz")
