"""Every kind of images through the command line, and what is no images."""

from __future__ import annotations

import gzip
import json
import sys

import numpy as np
import pytest
from PIL import Image

from auditor import cli
from auditor.results import AuditResult


def idx(array) -> bytes:
    sides = b"".join(side.to_bytes(4, "big") for side in array.shape)
    return bytes([0, 0, 8, array.ndim]) + sides + array.tobytes()


def write_idx(folder, x, y):
    (folder / "t10k-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(x)))
    (folder / "t10k-labels-idx1-ubyte").write_bytes(idx(y))
    return folder


def write_npy(folder, x, y):
    np.save(folder / "x_test.npy", x)
    np.save(folder / "y_test.npy", y)
    return folder / "x_test.npy"


def write_splits(folder, x, y):
    for digit in range(10):
        (folder / "val" / f"n0000000{digit}").mkdir(parents=True)
    for i, (image, label) in enumerate(zip(x, y, strict=True)):
        Image.fromarray(image).save(folder / "val" / f"n0000000{label}" / f"{i:02d}.PNG")
    names = {f"n0000000{digit}": digit for digit in range(10)}
    (folder / "classes.json").write_text(json.dumps(names))
    return folder


def write_tiff(folder, x, y):
    rows = []
    for i, (image, label) in enumerate(zip(x, y, strict=True)):
        Image.fromarray(image.astype(np.uint16) * 257).save(folder / f"{i:02d}.tif")
        group = "left" if i < 6 else "right"
        rows.append({"file": f"{i:02d}.tif", "label": int(label), "subgroup": group})
    (folder / "labels.json").write_text(json.dumps(rows))
    return folder


@pytest.fixture
def digits_of_12(held_out):
    """Twelve digits as bytes, with their labels."""
    x, y = held_out
    return (x[:12, 0].numpy() * 255).round().astype(np.uint8), y[:12].numpy().astype(np.uint8)


@pytest.fixture
def run(project, tmp_path, monkeypatch, capsys):
    """Audit images with the project's network: exit code, stdout, stderr."""

    def call(images, *more):
        line = ["audit", "--model", f"{project}/net.py:network", "--images", str(images)]
        line += ["--weights", f"{project}/model.safetensors", "--input-size", "1x12x12"]
        line += ["--mean", "0", "--std", "1", "--threads", "1", "--run", str(tmp_path / "run")]
        monkeypatch.setattr(sys, "argv", ["auditor", *line, "--quiet", *more])
        with pytest.raises(SystemExit) as caught:
            cli.main()
        out, err = capsys.readouterr()
        return caught.value.code, out, err

    return call


@pytest.mark.parametrize("write", [write_idx, write_npy, write_splits, write_tiff])
def test_an_audit_of_each_kind(write, run, tmp_path, digits_of_12):
    (tmp_path / "data").mkdir()
    images = write(tmp_path / "data", *digits_of_12)
    tiny = ("--effort", "quick", "--sigma", "0.2", "--samples", "4", "--budget", "80")
    code, _, err = run(images, "--exit-zero", *tiny)
    assert (code, err) == (0, "")
    result = AuditResult.load(tmp_path / "run")
    # The same digits of the same labels whatever they came in; their order is that of the names.
    assert sorted(result.images.labels) == sorted(digits_of_12[1].tolist())
    assert result.images.misclassified <= 4
    if write is write_tiff:
        assert result.images.subgroups == ("left",) * 6 + ("right",) * 6
        assert {e.subgroup for e in result.subgroups} == {"left", "right"}
    else:
        assert result.subgroups == ()


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("test_batch", b"\x80\x02cos\nsystem\nU\x02ls\x85R.", "'os system'"),
        ("t10k-images-idx3-ubyte", b"\0\0\x08\x03\0\0\0\1", "ends in its header"),
        ("t10k-images-idx3-ubyte.gz", b"\x1f\x8b\x08", "cannot be read"),
        ("x.npy", b"\x93NUMPY\1\0\5\0{}   ", "cannot be read"),
        ("x.npz", b"PK\5\6", "cannot be read"),
        ("d.bin", b"1234", "no CIFAR batch"),
        ("d/labels.json", b"{", "not valid JSON"),
        ("d/labels.csv", b"file,label\na.png,12\n", "no readable image"),
        ("d/a.png", b"\x89PNG", "no readable image"),
        ("d/n01440764/a.png", b"\x89PNG", "no readable image"),
    ],
)
def test_bad_images_end_with_code_2(name, content, says, run, tmp_path):
    file = tmp_path / "data" / name
    file.parent.mkdir(parents=True)
    file.write_bytes(content)
    given = tmp_path / "data" / name.partition("/")[0]
    code, out, err = run(given)
    assert (code, out) == (2, "")
    assert says in err
    assert len(err.splitlines()) <= 2
    assert not (tmp_path / "run").exists()
