from __future__ import annotations

import gzip
from contextlib import ExitStack

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from auditor.datasets.idx import label_file, open_idx
from auditor.errors import InputError


def idx(array: np.ndarray, kind: int = 8) -> bytes:
    """An IDX file as the description of the format says."""
    head = bytes([0, 0, kind, array.ndim])
    return head + b"".join(side.to_bytes(4, "big") for side in array.shape) + array.tobytes()


X = np.random.default_rng(0).integers(0, 256, (5, 3, 4), dtype=np.uint8)
Y = np.array([4, 0, 9, 1, 1], dtype=np.uint8)


def read(path):
    with ExitStack() as stack:
        dataset = open_idx(path, stack)
        (part,) = dataset.parts
        return part.name, np.stack([part.rows[i] for i in range(len(part.rows))]), part.labels


@given(hnp.arrays(np.uint8, hnp.array_shapes(min_dims=3, max_dims=4, max_side=5)), st.booleans())
def test_round_trip(tmp_path_factory, x, packed):
    path = tmp_path_factory.mktemp("idx") / ("a-images-idx3-ubyte" + ".gz" * packed)
    path.write_bytes(gzip.compress(idx(x)) if packed else idx(x))
    name, found, labels = read(path)
    assert name == "a-images-idx3-ubyte"
    np.testing.assert_array_equal(found, x)
    assert labels is None


@pytest.mark.parametrize("images", ["t10k-images-idx3-ubyte", "t10k-images.idx3-ubyte", "images"])
@pytest.mark.parametrize("packed", [(False, False), (True, True), (True, False), (False, True)])
def test_labels_lie_beside_the_images(images, packed, tmp_path):
    labels = images.replace("images", "labels").replace("idx3", "idx1")
    for name, array, pack in ((images, X, packed[0]), (labels, Y, packed[1])):
        content = gzip.compress(idx(array)) if pack else idx(array)
        (tmp_path / (name + ".gz" * pack)).write_bytes(content)
    _, found, y = read(tmp_path / (images + ".gz" * packed[0]))
    np.testing.assert_array_equal(found, X)
    np.testing.assert_array_equal(y, Y)


def test_of_two_labels_files_the_one_packed_like_the_images(tmp_path):
    for name in ("labels-idx1-ubyte", "labels-idx1-ubyte.gz"):
        (tmp_path / name).write_bytes(b"")
    assert label_file(tmp_path / "images-idx3-ubyte").name == "labels-idx1-ubyte"
    assert label_file(tmp_path / "images-idx3-ubyte.gz").name == "labels-idx1-ubyte.gz"
    assert label_file(tmp_path / "digits") is None


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "no IDX file"),
        (b"\0\0\x08\0", "no IDX file"),
        (b"\0\0\x08\x03\0\0", "ends in its header"),
        (idx(X)[:-1], "declares 60 bytes but holds 59"),
        (idx(X) + b"1", "declares 60 bytes but holds 61"),
        (idx(X, kind=0x0D), "type 0x0d"),
        (idx(Y), r"shape \(5,\), which are no images"),
        (b"\0\0\x08\x03" + b"\xff" * 12, "GiB"),
        (gzip.compress(idx(X))[:-20], "cannot be read"),
        (gzip.compress(idx(X)[:-1]), "declares 60 bytes but holds 59"),
        (gzip.compress(idx(X) + b"1"), "declares 60 bytes but holds more"),
        (gzip.compress(b"tar"), "no IDX file inside"),
        (b"\x1f\x8b", "cannot be read"),
        # 64 MiB of zeros that declare to be one image: unpacking stops where the image ends.
        (gzip.compress(idx(np.zeros((1, 2, 2), np.uint8)) + bytes(2**26)), "holds more"),
    ],
)
def test_hostile_files(content, says, tmp_path):
    (tmp_path / "images").write_bytes(content)
    with pytest.raises(InputError, match=says) as caught:
        read(tmp_path / "images")
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("labels", "says"),
    [
        (idx(Y[:4]), r"labels of shape \(4,\) for 5 images"),
        (idx(X), r"labels of shape \(5, 3, 4\)"),
        (b"\0\0\x08\x01\xff\xff\xff\xff", "declares 4294967295 bytes but holds 0"),
        (b"labels", "no IDX file"),
    ],
)
def test_labels_that_are_not_those_of_the_images(labels, says, tmp_path):
    (tmp_path / "images").write_bytes(idx(X))
    (tmp_path / "labels").write_bytes(labels)
    with pytest.raises(InputError, match=says):
        read(tmp_path / "images")


def test_labels_elsewhere_are_not_followed(tmp_path):
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "images").write_bytes(idx(X))
    (tmp_path / "secret").write_bytes(idx(Y))
    (tmp_path / "d" / "labels").symlink_to(tmp_path / "secret")
    with pytest.raises(InputError, match="labels: link that leaves the folder"):
        read(tmp_path / "d" / "images")


@given(st.binary(max_size=20), st.integers(0, 90), st.booleans(), st.data())
def test_damaged_files_give_rows_or_a_message(tmp_path_factory, patch, at, packed, data):
    path = tmp_path_factory.mktemp("fuzz") / "images"
    content = bytearray(gzip.compress(idx(X)) if packed else idx(X))
    content[at : at + len(patch)] = patch
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    message = None
    try:
        _, found, _ = read(path)
        assert found.size <= 1032 * len(content)  # gzip packs at best 1,032 bytes into one
    except InputError as error:
        message = str(error)
    assert message is None or (len(message.splitlines()) <= 2 and len(message) < 600)
