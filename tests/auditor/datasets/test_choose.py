from __future__ import annotations

import gzip
from contextlib import ExitStack

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditor.datasets.choose import find_sets, open_file, open_folder
from auditor.errors import InputError

from .pickles import batch, names

X = np.zeros((2, 3072), dtype=np.uint8)
BATCH, FINE = batch(X, [0, 1]), batch(X, [0, 1], key="fine_labels")
BINARY = bytes(3073)
IDX = b"\0\0\x08\x03" + b"\0\0\0\1" * 3 + b"7"
LABEL = b"\0\0\x08\x01\0\0\0\1\2"
HUNDRED = [f"class {i}" for i in range(100)]


def fill(folder, **files):
    for name, content in files.items():
        (folder / name.replace("__", "-").replace("_dot_", ".")).write_bytes(content)


def kind(path, opening):
    with ExitStack() as stack:
        dataset = opening(path, stack)
        return dataset and (dataset.format, [part.name for part in dataset.parts])


IMAGES, LABELS = "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({IMAGES: IDX, LABELS: LABEL}, ("idx", [IMAGES])),
        ({f"{IMAGES}.gz": gzip.compress(IDX)}, ("idx", [IMAGES])),
        ({IMAGES: IDX, f"{IMAGES}.gz": gzip.compress(IDX)}, ("idx", [IMAGES])),
        (
            {"data_batch_2": BATCH, "data_batch_1": BATCH},
            ("cifar10", ["data_batch_1", "data_batch_2"]),
        ),
        ({"test_batch": BATCH, "readme.html": b""}, ("cifar10", ["test_batch"])),
        ({"test_batch.bin": BINARY}, ("cifar10", ["test_batch.bin"])),
        ({"test": FINE, "meta": names("fine_label_names", HUNDRED)}, ("cifar100", ["test"])),
        ({"test": FINE}, None),  # an ordinary name, and no sign of CIFAR-100
        ({"photo.png": b""}, None),
        ({}, None),
    ],
)
def test_folders(files, expected, tmp_path):
    fill(tmp_path, **files)
    assert kind(tmp_path, open_folder) == expected


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({IMAGES: IDX, "train-images-idx3-ubyte": IDX}, "'t10k-': t10k-images.* 'train-': train-"),
        ({"data_batch_1": BATCH, "test_batch": BATCH}, "training images: data_batch_1; .* test"),
        ({"test_batch.bin": BINARY, "test_batch": BATCH}, "holds several sets"),
        ({IMAGES: IDX, "test_batch": BATCH}, "holds several sets"),
    ],
)
def test_a_choice_is_left_to_the_user(files, says, tmp_path):
    fill(tmp_path, **files)
    with pytest.raises(InputError, match=says) as caught:
        kind(tmp_path, open_folder)
    assert "Give the file of one of them as --images." in str(caught.value)


def test_sets_elsewhere_are_not_followed(tmp_path):
    (tmp_path / "d").mkdir()
    (tmp_path / "secret").write_bytes(BATCH)
    (tmp_path / "d" / "test_batch").symlink_to(tmp_path / "secret")
    with pytest.raises(InputError, match="test_batch: link that leaves the folder"):
        find_sets(tmp_path / "d")
    (tmp_path / "d" / "test_batch").unlink()
    (tmp_path / "d" / "test_batch").mkdir()
    with pytest.raises(InputError, match="not a regular file"):
        find_sets(tmp_path / "d")
    # A link that the user names is the user's wish.
    (tmp_path / "link").symlink_to(tmp_path / "secret")
    assert kind(tmp_path / "link", open_file) == ("cifar10", ["link"])


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("any", BATCH, "cifar10"),
        ("any.dat", IDX, "idx"),
        ("any.dat.gz", gzip.compress(IDX), "idx"),
        ("any.bin", BINARY, "cifar10"),
    ],
)
def test_renamed_files_are_told_by_their_content(name, content, expected, tmp_path):
    (tmp_path / name).write_bytes(content)
    assert kind(tmp_path / name, open_file)[0] == expected


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.png", b"\x89PNG", "neither a folder nor a known kind"),
        ("empty", b"", "neither a folder nor a known kind"),
        ("a.npy", IDX, "cannot be read"),
        ("a.npz", BATCH, "cannot be read"),
        ("a.bin", IDX, "no CIFAR batch"),
        ("a.tar.gz", gzip.compress(b"data.tar" * 99), "no IDX file inside. Unpack other archives"),
        ("a", b"\x80\x02cos\nsystem\n.", "the name 'os system'"),
    ],
)
def test_files_of_another_kind(name, content, says, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=says):
        kind(tmp_path / name, open_file)


@given(
    st.sampled_from(["f", "f.bin", "f.npy", "f.npz", "f.gz"]),
    st.sampled_from([b"", b"\x80\x02", b"\0\0\x08\x03", b"\x1f\x8b\x08", b"PK\3\4", b"\x93NUMPY"]),
    st.binary(max_size=60),
)
def test_any_file_is_images_or_a_message(tmp_path_factory, name, head, tail):
    path = tmp_path_factory.mktemp("any") / name
    path.write_bytes(head + tail)
    message = None
    try:
        kind(path, open_file)
    except InputError as error:
        message = str(error)
    assert message is None or len(message.splitlines()) <= 2
