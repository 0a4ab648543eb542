from __future__ import annotations

import dataclasses
import io

import numpy as np
import pytest
import torch
from PIL import Image

import auditor
from auditor import attack_files
from auditor.attack_files import check_folder, file_names, read_target, write_attack
from auditor.attack_result import AttackResult
from auditor.decoding import decode
from auditor.errors import IncompleteRunError, InputError


@pytest.fixture(scope="module")
def found(classifier, images):
    return auditor.attack(classifier, images, epsilons=(2.0, 6.0), budget=12, oracle="difference")


def tree(folder):
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def test_the_files_hold_what_was_measured(found, tmp_path):
    out = tmp_path / "deep" / "out"
    assert write_attack(found, out) == len(tree(out))
    assert [p.name for p in out.parent.iterdir()] == ["out"]  # nothing is left beside it
    assert AttackResult.from_json((out / "attack.json").read_text()) == found
    names = [f"x-{i}" for i in range(12)]
    for row, name in enumerate(names):
        clean = out / "images" / f"{name}-clean.png"
        assert clean.exists() == bool(found.arrays["attacked"][row])
        for index, epsilon in enumerate((2, 6)):
            file = out / "images" / f"{name}-eps{epsilon}.png"
            assert file.exists() == bool(found.arrays["kept"][index, row])
            assert (out / "maps" / file.name).exists() == file.exists()
            if file.exists():
                before, after = (np.asarray(Image.open(f)).astype(int) for f in (clean, file))
                change = np.abs(after - before).max()
                assert change == found.rows[index].largest_change[row] <= epsilon
                pixels = decode(file.read_bytes(), (1, 12, 12))
                levels = found.arrays["perturbed"][index, row]
                np.testing.assert_array_equal(pixels, levels.astype(np.float32) / np.float32(255))
    with np.load(out / "maps.npz", allow_pickle=False) as maps:
        assert maps["names"].tolist() == list(found.names)
        np.testing.assert_array_equal(maps["before"], found.arrays["map_before"])
        np.testing.assert_array_equal(maps["after"], found.arrays["map_after"])
        np.testing.assert_array_equal(maps["epsilons"], [2, 6])


def test_color_images_are_written_as_they_are(found, tmp_path):
    levels = np.random.default_rng(0).integers(0, 256, (2, 12, 3, 12, 12)).astype(np.uint8)
    arrays = {**found.arrays, "perturbed": levels, "clean": levels[0]}
    write_attack(dataclasses.replace(found, arrays=arrays), tmp_path / "out")
    pixels = np.asarray(Image.open(tmp_path / "out" / "images" / "x-0-eps2.png"))
    np.testing.assert_array_equal(pixels, levels[0, 0].transpose(1, 2, 0))


def test_an_earlier_attack_is_replaced_as_a_whole(found, tmp_path):
    out = tmp_path / "out"
    write_attack(found, out)
    fewer = dataclasses.replace(found, rows=found.rows[:1])
    write_attack(fewer, out)
    assert AttackResult.from_json((out / "attack.json").read_text()) == fewer
    assert not any("eps6" in name for name in tree(out))
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("at", [0, 3])
def test_nothing_half_written(found, tmp_path, monkeypatch, at):
    """The disk is full at the first picture or later; what was there stays."""
    out = tmp_path / "out"
    write_attack(found, out)
    before = {name: (out / name).read_bytes() for name in tree(out)}
    written, write = [], attack_files._write_image

    def full(path, levels):
        if len(written) == at:
            raise OSError(28, "No space left on device")
        written.append(path)
        write(path, levels)

    monkeypatch.setattr(attack_files, "_write_image", full)
    with pytest.raises(IncompleteRunError, match=r"cannot be written \(No space left on device\)"):
        write_attack(found, out)
    with pytest.raises(IncompleteRunError):
        write_attack(found, tmp_path / "other")
    assert {name: (out / name).read_bytes() for name in tree(out)} == before
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_a_picture_that_reads_back_otherwise_is_refused(found, tmp_path, monkeypatch):
    monkeypatch.setattr(attack_files, "decode", lambda content, shape: np.zeros(shape, np.float32))
    with pytest.raises(IncompleteRunError, match="does not read back"):
        write_attack(found, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_folders_that_may_be_used(found, tmp_path):
    check_folder(tmp_path / "new" / "deep", overwrite=False)
    (tmp_path / "empty").mkdir()
    check_folder(tmp_path / "empty", overwrite=False)
    write_attack(found, tmp_path / "empty")
    check_folder(tmp_path / "empty", overwrite=True)


@pytest.mark.parametrize(
    ("name", "overwrite", "says"),
    [
        ("file", True, "is a file"),
        ("file/out", True, "not a writable folder"),
        ("thesis", True, "holds something else"),
        ("attack", False, "Use --overwrite"),
        ("mixed", True, "holds something else"),
        ("nested", True, "holds something else"),
    ],
)
def test_folders_that_are_left_alone(found, tmp_path, name, overwrite, says):
    (tmp_path / "file").write_text("x")
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "thesis.txt").write_text("years of work")
    for folder in ("attack", "mixed", "nested"):
        write_attack(found, tmp_path / folder)
    (tmp_path / "mixed" / "notes.txt").write_text("mine")
    (tmp_path / "nested" / "images" / "notes.txt").write_text("mine")
    before = tree(tmp_path)
    with pytest.raises(InputError, match=says):
        check_folder(tmp_path / name, overwrite=overwrite)
    assert tree(tmp_path) == before


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("cat/a.png", "dog/a.png"), ["cat-a", "dog-a"]),
        (("a.png", "a.jpg", "b.png"), ["a-0", "a-1", "b-2"]),
        (("A.png", "a.png"), ["A-0", "a-1"]),
        (("x[0]", "x[10]"), ["x-0", "x-10"]),
        (("../../etc/passwd", "..", "/", "ü ß.png"), None),
        (("a" * 300 + ".png",), ["a" * 80]),
        (("a-0.png", "a.png", "a.jpg"), None),
    ],
)
def test_file_names_are_plain_and_differ(names, expected):
    found = file_names(names)
    assert expected is None or found == expected
    assert len({name.lower() for name in found}) == len(names)
    for name in found:
        assert name
        assert set(name) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")
        assert not name.startswith((".", "-"))


def png(array):
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, format="PNG")
    return buffer.getvalue()


def npy(array, **options):
    buffer = io.BytesIO()
    np.save(buffer, array, **options)
    return buffer.getvalue()


def test_a_picture_of_any_size_becomes_a_map(tmp_path):
    picture = np.zeros((24, 48, 3), np.uint8)
    picture[:12, 12:36] = 255  # the middle, which stays when it is cropped
    (tmp_path / "p.png").write_bytes(png(picture))
    target = read_target(tmp_path / "p.png", (12, 12))
    assert target.shape == (12, 12)
    assert target[:5].min() > 0.9
    assert target[7:].max() < 0.1


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int64, np.float64])
def test_an_array_keeps_its_values(tmp_path, dtype):
    array = np.arange(20).reshape(4, 5).astype(dtype)
    (tmp_path / "t.npy").write_bytes(npy(array))
    assert torch.equal(read_target(tmp_path / "t.npy", (4, 5)), torch.from_numpy(array).float())


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("absent.png", None, "there is no such file"),
        ("t.png", b"\x89PNG broken", "not an image"),
        ("t.txt", b"text", "not an image"),
        ("t.npy", b"", "cannot be read as an array"),
        ("t.npy", b"garbage", "cannot be read as an array"),
        ("t.npy", npy(np.ones((4, 6))), "the array is 4×6, maps are 4×5"),
        ("t.npy", npy(np.ones((1, 4, 5))), "the array is 1×4×5"),
        ("t.npy", npy(np.float64(3)), "the array is one number"),
        ("t.npy", npy(np.ones((4, 5)))[:-8], "cannot be read as an array"),
        ("t.npy", npy(np.array([["a"] * 5] * 4)), "holds no array of numbers"),
        ("t.npy", npy(np.ones((4, 5), complex)), "holds no array of numbers"),
        ("t.npy", npy(np.array([[{}] * 5] * 4), allow_pickle=True), "cannot be read as an array"),
    ],
)
def test_targets_that_cannot_be_used(tmp_path, name, content, says):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=says) as caught:
        read_target(tmp_path / name, (4, 5))
    assert len(str(caught.value).splitlines()) <= 2
