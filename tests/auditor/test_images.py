from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import pickle
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from auditor import listing
from auditor.errors import IncompleteRunError, InputError
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
    monkeypatch.setattr("auditor.listing.MAX_FILE_BYTES", 90)
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
    path = npz(flat / "d.npz", [6], x=np.zeros((6, 4, 4), dtype=np.float32))
    monkeypatch.setattr("auditor.images.MAX_PIXEL_BYTES", 4 * 16 * 4)
    assert len(load_images(path, input_shape=SHAPE, max_images=4).names) == 4
    with pytest.raises(InputError, match="Pass --max-images"):
        load_images(path, input_shape=SHAPE)
    files = load_images(flat, input_shape=SHAPE)  # nothing of these stays in memory
    assert files.batch([5, 1]).shape == (2, *SHAPE)
    with pytest.raises(InputError, match="Read them in batches"):
        _ = files.pixels


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


def test_pixels_are_read_when_they_are_needed(flat, monkeypatch):
    decoded = []
    real = listing.decode
    monkeypatch.setattr(listing, "decode", lambda *a: decoded.append(1) or real(*a))
    images = load_images(flat, input_shape=SHAPE, max_images=2)
    assert len(decoded) == 2  # the others are never decoded
    assert images.batch([1, 0, 1]).shape == (3, *SHAPE)
    assert len(decoded) == 5
    assert torch.equal(images.batch([1]), images.pixels[1:])
    again = pickle.loads(pickle.dumps(images))  # so that other processes can have it
    assert torch.equal(again.pixels, images.pixels)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda file: Image.new("L", (4, 4), 99).save(file), "changed during the audit"),
        (lambda file: file.write_bytes(b"x"), "can no longer be read: not an image"),
        (lambda file: file.unlink(), "can no longer be read: cannot be read"),
    ],
)
def test_images_that_change_during_the_audit(flat, change, says):
    images = load_images(flat, input_shape=SHAPE)
    change(flat / "3.png")
    assert images.batch([0, 1, 2, 4, 5]).shape == (5, *SHAPE)
    with pytest.raises(IncompleteRunError, match=rf"3\.png: {says}"):
        images.batch([2, 3])


def test_sixteen_bit_tiffs_with_labels_and_subgroups_in_json(tmp_path):
    x = np.random.default_rng(0).integers(0, 2**16, (3, 4, 4), dtype=np.uint16)
    for i, image in enumerate(x):
        Image.fromarray(image).save(tmp_path / f"{i}.tiff")
    rows = [{"file": f"{i}.tiff", "label": "ab"[i % 2], "subgroup": "xxy"[i]} for i in range(3)]
    (tmp_path / "labels.json").write_text(json.dumps(rows))
    images = load_images(tmp_path, input_shape=(3, 4, 4))
    assert (images.labels, images.subgroups) == ((0, 1, 0), ("x", "x", "y"))
    np.testing.assert_allclose(images.pixels[:, 2], x / 65535, atol=1e-7)
    one = load_images(tmp_path, input_shape=SHAPE, max_images=1, seed=3)
    assert one.subgroups == ("xxy"[int(one.names[0][0])],)


def test_a_folder_of_array_files(tmp_path):
    x = np.random.default_rng(0).random((4, 5, 4, 4), dtype=np.float32)
    for i, image in enumerate((x[0], x[1].transpose(1, 2, 0), x[2] * 255, x[3])):
        np.save(tmp_path / f"{i}.npy", image)
    np.save(tmp_path / "3.npy", np.where(x[3] > 0.5, np.nan, x[3]))
    np.save(tmp_path / "4.npy", np.array([{}], dtype=object))
    np.save(tmp_path / "5.npy", x[0][:2])
    images = load_images(tmp_path, input_shape=(5, 4, 4))
    assert images.names == ("0.npy", "1.npy")
    np.testing.assert_array_equal(images.pixels, x[:2])
    reasons = dict(images.unreadable)
    assert "Scale them" in reasons["2.npy"]
    assert reasons["3.npy"] == "values that are not finite"
    assert "Python objects" in reasons["4.npy"]
    assert "for a model of" in reasons["5.npy"]


def idx_folder(folder, count=6):
    x = np.random.default_rng(0).integers(0, 256, (count, 4, 4), dtype=np.uint8)
    sides = b"".join(side.to_bytes(4, "big") for side in x.shape)
    (folder / "t10k-images-idx3-ubyte").write_bytes(b"\0\0\x08\x03" + sides + x.tobytes())
    labels = b"\0\0\x08\x01" + count.to_bytes(4, "big") + bytes(i % 3 for i in range(count))
    (folder / "t10k-labels-idx1-ubyte.gz").write_bytes(gzip.compress(labels))
    return x


def test_idx(tmp_path):
    x = idx_folder(tmp_path)
    images = load_images(tmp_path, input_shape=SHAPE, class_names=["a", "b", "c"])
    assert (images.format, images.labels) == ("idx", (0, 1, 2, 0, 1, 2))
    assert images.names[5] == "t10k-images-idx3-ubyte[5]"
    np.testing.assert_array_equal(images.pixels[:, 0], x / np.float32(255))
    file = tmp_path / "t10k-images-idx3-ubyte"
    assert load_images(file, input_shape=SHAPE).manifest_sha256 == images.manifest_sha256
    assert load_images(file, input_shape=(3, 8, 8)).pixels.shape == (6, 3, 8, 8)
    with pytest.raises(InputError, match="label 2 of image 2 is no class index"):
        load_images(file, input_shape=SHAPE, class_names=["a", "b"])
    with pytest.raises(InputError, match="for a model of"):
        load_images(file, input_shape=(2, 4, 4))


def test_arrays_do_not_keep_their_file_or_each_other(tmp_path):
    x = idx_folder(tmp_path)
    images = load_images(tmp_path, input_shape=SHAPE, max_images=2)
    (tmp_path / "t10k-images-idx3-ubyte").unlink()
    row = int(images.names[0][-2])
    np.testing.assert_array_equal(images.batch([0])[0, 0], x[row] / np.float32(255))
    assert {reader.values.nbytes for reader in images.readers} == {16}
    assert {reader.values.base is None for reader in images.readers} == {True}


def test_cifar_classes_in_the_order_of_the_model(tmp_path):
    x = np.random.default_rng(0).integers(0, 256, (2, 3072), dtype=np.uint8)
    (tmp_path / "test_batch.bin").write_bytes(b"\1" + x[0].tobytes() + b"\x09" + x[1].tobytes())
    names = [f"class {i}" for i in range(10)]
    (tmp_path / "batches.meta.txt").write_text("\n".join(names))
    images = load_images(tmp_path, input_shape=(3, 32, 32))
    assert (images.format, images.labels) == ("cifar10", (1, 9))
    assert images.class_names == tuple(names)
    np.testing.assert_array_equal(
        images.pixels, x.reshape(2, 3, 32, 32).astype(np.float32) / np.float32(255)
    )
    other = load_images(tmp_path, input_shape=(3, 32, 32), class_names=names[::-1])
    assert (other.labels, other.class_names) == ((8, 0), tuple(names[::-1]))
    with pytest.raises(InputError, match="'class 1' is not a class of the model"):
        load_images(tmp_path, input_shape=(3, 32, 32), class_names=["plane"] * 10)


def test_imagenette(tmp_path):
    for split in ("train", "val"):
        for i, folder in enumerate(("n01440764", "n02102040")):
            picture(tmp_path / split / folder / f"{split}.JPEG", 40 * i)
    index = {"0": ["n01440764", "tench"], "217": ["n02102040", "English_springer"]}
    (tmp_path / "imagenet_class_index.json").write_text(json.dumps(index))
    with pytest.raises(InputError, match="holds train and val"):
        load_images(tmp_path, input_shape=SHAPE)
    images = load_images(tmp_path / "val", input_shape=SHAPE)
    assert images.labels == (0, 217)
    assert images.names == ("n01440764/val.JPEG", "n02102040/val.JPEG")
    thousand = [f"class {i}" for i in range(1000)]
    thousand[5] = "tench"
    thousand[7] = "English_springer"
    named = load_images(tmp_path / "val", input_shape=SHAPE, class_names=thousand)
    assert named.labels == (5, 7)


def test_arrays_of_absurdly_many_images(tmp_path):
    path = tmp_path / "images"
    path.write_bytes(b"\0\0\x08\x03" + (2**31).to_bytes(4, "big") + b"\0\0\0\1" * 2)
    os.truncate(path, 16 + 2**31)  # a sparse file: it takes no room on the disk
    with pytest.raises(InputError, match="more than 2,000,000 images"):
        load_images(path, input_shape=SHAPE)
    path.write_bytes(b"\0\0\x08\xff" + b"\0\0\0\1" * 255 + b"1")
    with pytest.raises(InputError, match="declares the shape") as caught:
        load_images(path, input_shape=SHAPE)
    assert len(str(caught.value)) < 300


def test_two_names_that_print_alike(flat):
    (flat / "a\nb.png").write_bytes((flat / "0.png").read_bytes())
    (flat / "a\\nb.png").write_bytes((flat / "1.png").read_bytes())
    images = load_images(flat, input_shape=SHAPE)
    assert images.names.count("a\\nb.png") == 1
    assert images.unreadable == (("a\\nb.png", "another file has the same name when printed"),)


def test_subgroups_of_arrays():
    x = np.zeros((2, 1, 3, 3))
    assert from_arrays(x, subgroups=["a", "b\n"]).subgroups == ("a", "b\\n")
    assert from_arrays(x).subgroups is None
    with pytest.raises(InputError, match="1 subgroups for 2 images"):
        from_arrays(x, subgroups=["a"])
    with pytest.raises(InputError, match="give 1 to 200 characters"):
        from_arrays(x, subgroups=["a", ""])


KINDS = ("png", "tiff", "npy", "jpeg", "csv", "json", "gz")


@given(
    st.dictionaries(
        st.tuples(st.sampled_from(["", "a/", "val/"]), st.sampled_from(KINDS)),
        st.tuples(st.integers(0, 3), st.integers(0, 80), st.binary(max_size=12)),
        min_size=1,
        max_size=5,
    )
)
def test_any_folder_is_images_or_a_message(tmp_path_factory, files):
    """Each file is sound, or damaged, or belongs to another ending."""
    folder = tmp_path_factory.mktemp("any")
    for (place, kind), (content, at, patch) in files.items():
        stream = io.BytesIO()
        if content == 0:
            Image.new("L", (4, 4), 7).save(stream, "PNG")
        elif content == 1:
            Image.new("I;16", (5, 3), 7).save(stream, "TIFF")
        elif content == 2:
            np.save(stream, np.full((4, 4), 0.5))
        damaged = bytearray(stream.getvalue())
        damaged[at : at + len(patch)] = patch
        name = "labels" if kind in ("csv", "json") else "t10k-images-idx3-ubyte"
        (folder / place).mkdir(exist_ok=True)
        (folder / place / f"{name}.{kind}").write_bytes(damaged)
    message = None
    try:
        images = load_images(folder, input_shape=SHAPE)
    except InputError as error:
        message = str(error)
    if message is not None:
        assert len(message.splitlines()) <= 2
        return
    pixels = images.pixels
    assert pixels.shape == (len(images.names), *SHAPE)
    assert 0 <= pixels.min() <= pixels.max() <= 1
    assert len(images.names) + len(images.unreadable) >= 1
