from __future__ import annotations

import zipfile
from contextlib import ExitStack

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from auditor.datasets import rows
from auditor.datasets.numpy_files import label_file, open_npy, open_npz, parse_npy
from auditor.decoding import UnusableImageError
from auditor.errors import InputError

ARRAYS = hnp.arrays(
    st.sampled_from([np.uint8, np.float32, ">u2"]), hnp.array_shapes(min_dims=2, max_dims=4)
)


def read(path, opening=open_npz):
    """All rows, and the labels."""
    with ExitStack() as stack:
        (part,) = opening(path, stack).parts
        return np.stack([part.rows[i] for i in range(len(part.rows))]), part.labels


@given(ARRAYS, st.booleans(), st.booleans())
def test_npz_round_trip(tmp_path_factory, x, compress, fortran):
    path = tmp_path_factory.mktemp("npz") / "d.npz"
    x = np.asfortranarray(x) if fortran else x
    (np.savez_compressed if compress else np.savez)(path, x=x, y=np.arange(len(x)))
    found, y = read(path)
    np.testing.assert_array_equal(found, x)
    np.testing.assert_array_equal(y, np.arange(len(x)))


@given(ARRAYS, st.booleans())
def test_npy_round_trip(tmp_path_factory, x, fortran):
    path = tmp_path_factory.mktemp("npy") / "d.npy"
    np.save(path, np.asfortranarray(x) if fortran else x)
    found, y = read(path, open_npy)
    np.testing.assert_array_equal(found, x)
    assert y is None
    np.testing.assert_array_equal(parse_npy(path.read_bytes()), x)


@pytest.mark.parametrize(
    ("images", "labels", "found"),
    [
        ("test_images.npy", "test_labels.npy", True),
        ("images.npy", "labels.npy", True),
        ("x.npy", "y.npy", True),
        ("X.npy", "y.npy", True),
        ("X.npy", "Y.npy", True),
        ("x_test.npy", "y_test.npy", True),
        ("xray.npy", "yray.npy", False),
        ("digits.npy", "y.npy", False),
        ("x_test.npy", "y.npy", False),
    ],
)
def test_the_neighbor_with_labels(images, labels, found, tmp_path):
    (tmp_path / labels).write_bytes(b"")
    assert label_file(tmp_path / images) == (tmp_path / labels if found else None)


def test_npy_with_labels_beside_it(tmp_path):
    np.save(tmp_path / "x.npy", np.zeros((3, 2, 2)))
    np.save(tmp_path / "y.npy", np.array([4, 5, 6]))
    np.testing.assert_array_equal(read(tmp_path / "x.npy", open_npy)[1], [4, 5, 6])
    np.save(tmp_path / "y.npy", np.array([4, 5]))
    with pytest.raises(InputError, match=r"y\.npy: labels are .* of shape \(2,\). Give 3"):
        read(tmp_path / "x.npy", open_npy)
    (tmp_path / "y.npy").unlink()
    (tmp_path / "y.npy").symlink_to("/etc/passwd")
    with pytest.raises(InputError, match=r"y\.npy: link that leaves the folder"):
        read(tmp_path / "x.npy", open_npy)


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
        ({"x_npy": header("(-1, 2, 2)") + b"1" * 9}, "declares the shape"),
        ({"x_npy": header("(-2, -2, 2)") + b"1" * 8}, "declares the shape"),
        ({"x_npy": header("()") + b"1"}, "single number"),
        ({"x_npy": header("(1,)", "|O") + b"12345678"}, "Python objects"),
        ({"x_npy": b"not an array"}, "cannot be read"),
        ({"x_npy": b""}, "cannot be read"),
        ({"x_npy": header("(1, 1, 1)") + b"1", "y_npy": header("(9,)")}, "y declares"),
        (
            {"x_npy": header("(1, 1, 1)") + b"1", "y_npy": header("(1, 1)") + b"1"},
            r"shape \(1, 1\)",
        ),
    ],
)
def test_hostile_archives(entries, says, tmp_path):
    archive(tmp_path / "d.npz", **entries)
    with pytest.raises(InputError, match=says) as caught:
        read(tmp_path / "d.npz")
    assert len(str(caught.value).splitlines()) == 1
    if "x_npy" in entries and "y_npy" not in entries:  # the same bytes as a file of their own
        (tmp_path / "d.npy").write_bytes(entries["x_npy"])
        with pytest.raises(InputError, match=says):
            read(tmp_path / "d.npy", open_npy)


def test_objects_are_never_unpickled(tmp_path):
    x = np.array([{"a": 1}], dtype=object)
    np.savez(tmp_path / "d.npz", x=x)
    np.save(tmp_path / "d.npy", x)
    with pytest.raises(InputError, match="Python objects"):
        read(tmp_path / "d.npz")
    with pytest.raises(InputError, match="Python objects"):
        read(tmp_path / "d.npy", open_npy)
    with pytest.raises(UnusableImageError, match="Python objects"):
        parse_npy((tmp_path / "d.npy").read_bytes())


def test_a_file_that_is_no_archive(tmp_path):
    (tmp_path / "d.npz").write_bytes(b"PK nothing")
    with pytest.raises(InputError, match="cannot be read"):
        read(tmp_path / "d.npz")


def test_an_archive_that_unpacks_to_more_than_it_says(tmp_path):
    path = tmp_path / "d.npz"
    np.savez_compressed(path, x=np.zeros((4, 200, 200), dtype=np.uint8))
    content = path.read_bytes()
    size = (4 * 200 * 200 + 128).to_bytes(4, "little")
    assert content.count(size) == 2
    path.write_bytes(content.replace(size, (3 * 200 * 200 + 128).to_bytes(4, "little")))
    with pytest.raises(InputError, match=r"holds 120000 bytes|cannot be read"):
        read(path)


def test_images_are_not_all_in_memory(tmp_path, monkeypatch):
    x = np.arange(24, dtype=np.uint8).reshape(6, 2, 2)
    np.save(tmp_path / "d.npy", x)
    asked = []
    pread = rows.os.pread
    monkeypatch.setattr(rows.os, "pread", lambda fd, n, at: asked.append(n) or pread(fd, n, at))
    with ExitStack() as stack:
        (part,) = open_npy(tmp_path / "d.npy", stack).parts
        np.testing.assert_array_equal(part.rows[4], x[4])
        assert asked == [4]
        with (tmp_path / "d.npy").open("r+b") as stream:
            stream.truncate(140)
        with pytest.raises(InputError, match="became shorter"):
            part.rows[5]


@given(st.binary(max_size=40), st.integers(0, 400), st.booleans(), st.data())
def test_damaged_files_give_rows_or_a_message(tmp_path_factory, patch, at, packed, data):
    folder = tmp_path_factory.mktemp("fuzz")
    x = np.arange(8, dtype=np.uint8).reshape(2, 2, 2)
    np.savez_compressed(folder / "d.npz", x=x, y=np.array([0, 1]))
    np.save(folder / "d.npy", x)
    path = folder / ("d.npz" if packed else "d.npy")
    content = bytearray(path.read_bytes())
    content[at : at + len(patch)] = patch
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    message = None
    try:
        found, _ = read(path, open_npz if packed else open_npy)
        assert found.size <= 8 * len(content)
    except InputError as error:
        message = str(error)
    assert message is None or (len(message.splitlines()) <= 2 and len(message) < 600)
