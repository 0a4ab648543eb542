from __future__ import annotations

import hashlib
import os
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from auditor.errors import InputError
from auditor.images import from_arrays, load_images

SHAPE = (1, 4, 4)


def picture(file, value=100, size=(4, 4)):
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", size, value).save(file)


@pytest.fixture
def classes(tmp_path):
    """ImageFolder layout: 2 cats, 5 dogs, and an empty class."""
    for i in range(2):
        picture(tmp_path / "d" / "cat" / f"{i}.png", 10 + i)
    for i in range(5):
        picture(tmp_path / "d" / "dog" / "deep" / f"{i}.png", 20 + i)
    (tmp_path / "d" / "ape").mkdir()
    return tmp_path / "d"


@pytest.fixture
def flat(tmp_path):
    for i in range(6):
        picture(tmp_path / "f" / f"{i}.png", i)
    return tmp_path / "f"


def values(images):
    return [round(v * 255) for v in images.pixels[:, 0, 0, 0].tolist()]


def test_imagefolder(classes):
    images = load_images(classes, input_shape=SHAPE)
    assert images.format == "imagefolder"
    assert images.class_names == ("ape", "cat", "dog")
    assert images.labels == (1, 1, 2, 2, 2, 2, 2)
    assert images.names[:3] == ("cat/0.png", "cat/1.png", "dog/deep/0.png")
    assert values(images) == [10, 11, 20, 21, 22, 23, 24]
    assert images.pixels.dtype == torch.float32
    assert images.pixels.shape == (7, 1, 4, 4)
    assert (images.available, images.unreadable) == (7, ())
    assert images.selection == "All 7 readable images of 7, in order of name."


def test_imagefolder_matched_with_the_models_classes(classes):
    images = load_images(classes, input_shape=SHAPE, class_names=["dog", "bird", "cat"])
    assert images.class_names == ("dog", "bird", "cat")
    assert images.labels == (2, 2, 0, 0, 0, 0, 0)


def test_flat_folder(flat):
    images = load_images(flat, input_shape=(3, 4, 4), class_names=["a"])
    assert (images.format, images.labels, images.class_names) == ("folder", None, ("a",))
    assert images.pixels.shape == (6, 3, 4, 4)


@pytest.mark.parametrize(
    ("table", "known", "labels", "names"),
    [
        ("file,label\n0.png,7\n1.png,0\n", None, (7, 0), ()),
        ("file,label\n0.png,dog\n1.png,cat\n", None, (1, 0), ("cat", "dog")),
        (
            "\ufeffLabel, File\n dog , ./0.png\ncat,1.png\n\n",
            ["dog", "cat"],
            (0, 1),
            ("dog", "cat"),
        ),
        ("file,label\n0.png,1\n1.png,dog\n", ["dog", "cat"], (1, 0), ("dog", "cat")),
        ("file,label\n0.png,1\n1.png,0\n", ["1", "0"], (0, 1), ("1", "0")),
    ],
)
def test_labels_csv(table, known, labels, names, flat):
    (flat / "labels.csv").write_text(table, encoding="utf-8")
    images = load_images(flat, input_shape=SHAPE, class_names=known)
    assert images.labels == labels
    assert images.class_names == names
    assert images.names == ("0.png", "1.png")
    assert images.available == 2
    reasons = Counter(reason for _, reason in images.unreadable)
    assert reasons["not in labels.csv"] == 4


def test_rows_without_an_image_are_listed(flat):
    (flat / "labels.csv").write_text("file,label\n0.png,1\n../f/1.png,0\ngone.png,0\n")
    images = load_images(flat, input_shape=SHAPE)
    assert images.names == ("0.png",)
    assert ("gone.png", "only in labels.csv") in images.unreadable
    assert ("../f/1.png", "only in labels.csv") in images.unreadable


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ("0.png,1\n", "no header"),
        ("", "no header"),
        ("file,label\n0.png,bird\n", r"line 2 \(0.png\): 'bird' is not a class"),
        ("file,label\n0.png,9\n", "line 2 .* class 9 of only 3"),
        ("file,label\n0.png,-1\n", "'-1' is not a class"),
        ("file,label\n0.png,twin\n", "names several classes"),
        ("file,label\n0.png\n", "line 2: no label for '0.png'"),
        ("file,label\n0.png,0\n0.png,1\n", "line 3: a second row for '0.png'"),
        (b"file,label\n\xff\xfe,1\n", "cannot be read as UTF-8"),
        ("file,label\n" + "x" * 140_000 + ",1\n", "cannot be read as UTF-8 CSV"),
    ],
)
def test_bad_labels(table, says, flat):
    content = table if isinstance(table, bytes) else table.encode()
    (flat / "labels.csv").write_bytes(content)
    with pytest.raises(InputError, match=says):
        load_images(flat, input_shape=SHAPE, class_names=["cat", "twin", "twin"])


def test_unknown_class_folder_and_mixed_layout(classes):
    with pytest.raises(InputError, match="'dog' is not a class"):
        load_images(classes, input_shape=SHAPE, class_names=["cat"])
    picture(classes / "loose.png")
    with pytest.raises(InputError, match=r"loose\.png"):
        load_images(classes, input_shape=SHAPE)


def test_hostile_folder(flat, tmp_path):
    picture(tmp_path / "secret.png")
    picture(tmp_path / "outside" / "a.png")
    (flat / "1.png").write_bytes((flat / "1.png").read_bytes()[:-30])
    (flat / "2.png").write_bytes(b"no image")
    (flat / "3.png").unlink()
    (flat / "3.png").symlink_to(tmp_path / "secret.png")
    (flat / "4.png").unlink()
    (flat / "4.png").symlink_to(flat / "4.png")  # a loop
    (flat / "inside.png").symlink_to(flat / "0.png")
    (flat / "broken.png").symlink_to(flat / "nowhere.png")
    (flat / "linked").symlink_to(tmp_path / "outside")
    os.mkfifo(flat / "pipe.png")
    (flat / ".hidden.png").write_bytes(b"x")
    (flat / ".cache").mkdir()
    picture(flat / ".cache" / "c.png")
    (flat / "notes.txt").write_text("ignored")
    (flat / "line\nbreak.png").write_bytes(b"x")
    with open(os.path.join(os.fsencode(flat), b"bytes\xff.png"), "wb"):
        pass
    images = load_images(flat, input_shape=SHAPE)
    assert images.names == ("0.png", "5.png", "inside.png")
    reasons = dict(images.unreadable)
    assert reasons == {
        "1.png": reasons["1.png"],
        "2.png": "not an image of a known format",
        "3.png": "link that leaves the folder",
        "4.png": "not a regular file",
        "broken.png": "not a regular file",
        "bytes\\udcff.png": "not an image of a known format",
        "line\\nbreak.png": "not an image of a known format",
        "linked": "link to a folder, not followed",
        "pipe.png": "not a regular file",
    }
    assert reasons["1.png"].startswith("damaged")
    for name, reason in images.unreadable:
        assert (name + reason).isprintable()
        assert str(tmp_path) not in reason


def test_a_folder_reached_through_a_link_is_fine(flat, tmp_path):
    (tmp_path / "link").symlink_to(flat)
    assert len(load_images(tmp_path / "link", input_shape=SHAPE).names) == 6


def test_files_that_are_too_large(flat, monkeypatch):
    monkeypatch.setattr("auditor.images.MAX_FILE_BYTES", 90)
    (flat / "0.png").write_bytes(b"x" * 91)
    assert dict(load_images(flat, input_shape=SHAPE).unreadable) == {"0.png": "larger than 0 MiB"}


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda d: d / "missing", "does not exist"),
        (lambda d: d, "no readable image"),
        (lambda d: (d / "a.png").write_bytes(b"x") and d, "First problem: a.png: not an image"),
        (lambda d: (d / "n.txt").write_bytes(b"x") and d / "n.txt", "neither a folder nor"),
        (lambda d: (d / "n.npz").write_bytes(b"x") and d / "n.npz", "cannot be read"),
    ],
)
def test_nothing_to_read(make, says, tmp_path):
    with pytest.raises(InputError, match=says):
        load_images(make(tmp_path), input_shape=SHAPE)


def test_settings_out_of_range(flat, monkeypatch):
    with pytest.raises(InputError, match="at least 1"):
        load_images(flat, input_shape=SHAPE, max_images=0)
    with pytest.raises(InputError, match="1 or 3 channels"):
        load_images(flat, input_shape=(4, 4, 4))
    monkeypatch.setattr("auditor.images.MAX_PIXEL_BYTES", 4 * 16 * 4)
    assert len(load_images(flat, input_shape=SHAPE, max_images=4).names) == 4
    with pytest.raises(InputError, match="Pass --max-images"):
        load_images(flat, input_shape=SHAPE)


def test_manifest(flat):
    images = load_images(flat, input_shape=SHAPE, max_images=2)
    lines = [
        f"{name}\t{hashlib.sha256((flat / name).read_bytes()).hexdigest()}\n"
        for name in images.names
    ]
    assert images.manifest_sha256 == hashlib.sha256("".join(sorted(lines)).encode()).hexdigest()
    same = load_images(flat, input_shape=(3, 2, 2), max_images=2)
    assert same.manifest_sha256 == images.manifest_sha256
    Image.new("L", (4, 4), 250).save(flat / images.names[0])
    changed = load_images(flat, input_shape=SHAPE, max_images=2)
    assert changed.manifest_sha256 != images.manifest_sha256


def npz(path, counts, **change):
    y = np.repeat(np.arange(len(counts)), counts)
    x = np.zeros((len(y), 2, 2), dtype=np.float32)
    x += np.arange(len(y))[:, None, None] / max(1, len(y))
    np.savez(path, **{"x": x, "y": y, **change})
    return path


@given(
    counts=st.lists(st.integers(1, 6), min_size=1, max_size=5),
    limit=st.integers(1, 20),
    seed=st.integers(0, 2**31),
)
def test_selection_is_balanced_and_in_order(tmp_path_factory, counts, limit, seed):
    path = npz(tmp_path_factory.mktemp("draw") / "d.npz", counts)
    images = load_images(path, input_shape=(1, 2, 2), max_images=limit, seed=seed)
    again = load_images(path, input_shape=(1, 2, 2), max_images=limit, seed=seed)
    assert images.names == again.names
    places = [int(name[2:-1]) for name in images.names]
    assert places == sorted(set(places))
    assert len(places) == min(limit, sum(counts))
    torch.testing.assert_close(images.pixels[:, 0, 0, 0], torch.tensor(places) / sum(counts))
    taken = Counter(images.labels)
    fullest = max(taken.values())
    # As even as possible: a class has fewer than the fullest less one only if it is exhausted.
    for label, count in enumerate(counts):
        assert taken[label] >= min(count, fullest - 1)


def test_the_seed_decides(classes):
    draws = {load_images(classes, input_shape=SHAPE, max_images=3, seed=s).names for s in range(9)}
    assert len(draws) > 1
    images = load_images(classes, input_shape=SHAPE, max_images=4, seed=5)
    assert Counter(images.labels) == {1: 2, 2: 2}
    assert images.selection == (
        "4 of 7 images, drawn at random with seed 5, one of each class in turn; an unreadable "
        "image is replaced by the next of the draw from its class."
    )


def test_unreadable_images_are_replaced_from_their_class(classes):
    for i in range(3):
        (classes / "dog" / "deep" / f"{i}.png").write_bytes(b"broken")
    for seed in range(5):
        images = load_images(classes, input_shape=SHAPE, max_images=4, seed=seed)
        assert Counter(images.labels) == {1: 2, 2: 2}
        assert images.names[2:] == ("dog/deep/3.png", "dog/deep/4.png")
        assert images.available == 7
        assert {reason for _, reason in images.unreadable} <= {"not an image of a known format"}


def test_npz(tmp_path):
    images = load_images(npz(tmp_path / "d.npz", [1, 2]), input_shape=(3, 2, 2))
    assert (images.format, images.labels, images.class_names) == ("npz", (0, 1, 1), ())
    assert images.names == ("x[0]", "x[1]", "x[2]")
    x = np.random.default_rng(0).integers(0, 256, (3, 5, 4, 3), dtype=np.uint8)
    np.savez(tmp_path / "c.npz", x=x)
    images = load_images(tmp_path / "c.npz", input_shape=(3, 5, 4))
    assert images.labels is None
    np.testing.assert_array_equal(images.pixels.numpy(), x.transpose(0, 3, 1, 2) / np.float32(255))


def test_npz_with_values_that_are_not_finite(tmp_path):
    x = np.full((3, 2, 2), 0.5)
    x[1, 0, 0] = np.nan
    images = load_images(npz(tmp_path / "d.npz", [3], x=x), input_shape=(1, 2, 2))
    assert images.names == ("x[0]", "x[2]")
    assert images.unreadable == (("x[1]", "values that are not finite"),)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"y": np.array([0, 1])}, "Give 3 class indices"),
        ({"y": np.array([0.0, 1.0, 2.0])}, "labels are float64"),
        ({"y": np.array([0, -1, 1])}, "label -1 of image 1"),
        ({"y": np.array([0, 1, 2])}, "label 2 of image 2"),
        ({"x": np.full((3, 2, 2), 9.0)}, "Scale them"),
    ],
)
def test_bad_npz(change, says, tmp_path):
    path = npz(tmp_path / "d.npz", [3], **change)
    with pytest.raises(InputError, match=says):
        load_images(path, input_shape=(1, 2, 2), class_names=["a", "b"])


def test_from_arrays():
    x = torch.rand(3, 1, 5, 4, generator=torch.Generator().manual_seed(0))
    images = from_arrays(x, torch.tensor([0, 1, 1]), names=["a", "b", "c"], class_names=["p", "q"])
    assert torch.equal(images.pixels, x)
    assert (images.names, images.labels) == (("a", "b", "c"), (0, 1, 1))
    assert (images.class_names, images.format) == (("p", "q"), "python")
    bytes_ = from_arrays(np.full((2, 3, 2, 2), 51, dtype=np.uint8))
    assert (bytes_.labels, bytes_.names) == (None, ("x[0]", "x[1]"))
    torch.testing.assert_close(bytes_.pixels, torch.full((2, 3, 2, 2), 0.2))
    images.pixels.zero_()  # the set is a copy
    assert x.any()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"x": np.zeros((3, 4, 4))}, r"Give \(n, C, H, W\)"),
        ({"x": np.zeros((2, 1, 4, 4)), "names": ["a"]}, "1 names for 2 images"),
        ({"x": np.zeros((2, 1, 4, 4)), "y": [0]}, "Give 2 class indices"),
        ({"x": np.zeros((2, 1, 4, 4)), "y": [0, 3], "class_names": ["a"]}, "label 3 of image 1"),
        ({"x": np.zeros((2, 1, 4, 4)) + 255}, "Scale them"),
        ({"x": np.zeros((0, 1, 4, 4))}, "Give"),
    ],
)
def test_bad_arrays(arguments, says):
    with pytest.raises(InputError, match=says):
        from_arrays(**arguments)
