"""What docs/security.md promises."""

from __future__ import annotations

import io
import re
import socket
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from auditor import classmap, cli, decoding, images, labels
from auditor.datasets import cifar, pickled, rows
from auditor.errors import InputError
from profiles import loader

TEXT = (Path(__file__).parents[2] / "docs" / "security.md").read_text(encoding="utf-8")
LINE = ["audit", "--model", "net.py:network", "--weights", "model.safetensors"]
LINE += ["--input-size", "1x12x12", "--effort", "glance", "--sigma", "0.1", "--samples", "4"]


@pytest.mark.parametrize(
    ("limit", "words"),
    [
        (decoding.MAX_FILE_BYTES, "a picture's or array's file | 256 MiB"),
        (Image.MAX_IMAGE_PIXELS, "pixels of a picture | 89,478,485"),
        (rows.MAX_ARRAY_BYTES, "an array in a file, or images kept in memory | 4 GiB"),
        (images.MAX_PIXEL_BYTES, "an array in a file, or images kept in memory | 4 GiB"),
        (rows.MAX_DIMENSIONS, "dimensions of an array | 8"),
        (labels.MAX_IMAGES, "images in a table or data set | 2,000,000"),
        (labels.MAX_TABLE_BYTES[".csv"], "a table of labels, CSV and JSON | 256 and 32 MiB"),
        (labels.MAX_TABLE_BYTES[".json"] * 8, "a table of labels, CSV and JSON | 256 and 32 MiB"),
        (labels.MAX_TEXT, "a name or label | 200 characters"),
        (classmap.MAX_MAP_BYTES, "a class map | 16 MiB"),
        (classmap.MAX_CLASSES, "16 MiB and 1,000,000 classes"),
        (cifar.MAX_PICKLE_BYTES, "a pickle of CIFAR | 256 MiB"),
        (pickled.MAX_INSTRUCTIONS, "256 MiB and 2,000,000 instructions"),
        (loader.LARGEST_FILE, "a profile | 64 KiB"),
        (1e300, "numbers below 1e300"),
    ],
)
def test_limits_are_those_of_the_code(limit, words):
    assert words in TEXT
    units = {"MiB": 2**20, "GiB": 2**30, "KiB": 2**10}
    number, unit = re.findall(r"([\d,]+(?:e\d+)?)(?: and \d+)? ?(MiB|GiB|KiB)?", words)[-1]
    assert float(number.replace(",", "")) * units.get(unit, 1) == limit


@pytest.fixture
def no_network(monkeypatch):
    """Let every use of a network fail, and say which."""
    used = []

    def refuse(*arguments, **_):
        used.append(arguments)
        raise OSError("no network in this test")

    for name in ("connect", "connect_ex", "bind", "sendto"):
        monkeypatch.setattr(socket.socket, name, refuse)
    for name in ("getaddrinfo", "create_connection", "gethostbyname"):
        monkeypatch.setattr(socket, name, refuse)
    return used


def test_an_audit_and_its_reports_use_no_network(run, here, no_network):
    formats = [word for form in ("pdf", "html", "junit") for word in ("--format", form)]
    code, _, err = run([*LINE, "--images", "few.npz", "--run", "run", *formats])
    assert code == 1, err
    assert (here / "run" / "report.pdf").exists()
    assert no_network == []
    with pytest.raises(OSError, match="no network"):
        socket.create_connection(("localhost", 1))


HOSTILE = "a\x1b[2J\x07\u202e\u2028b"


def clean(text: str) -> bool:
    return all(c.isprintable() or c == "\n" for c in text)


def test_names_reach_neither_terminal_nor_report_as_they_are(run, here):
    folder = here / "pictures" / f"class{HOSTILE}"
    folder.mkdir(parents=True)
    (here / "pictures" / "other").mkdir()
    for number in range(3):
        for place in (folder, here / "pictures" / "other"):
            pixels = np.random.default_rng(number).integers(0, 255, (12, 12), dtype=np.uint8)
            Image.fromarray(pixels).save(place / f"{HOSTILE}{number}.png")
    (folder / f"{HOSTILE}broken.png").write_bytes(b"no picture")
    (here / "names.txt").write_text("\n".join(f"{HOSTILE[1:5]}{i}" for i in range(10)), "utf-8")
    formats = [w for form in ("junit", "markdown", "html") for w in ("--format", form)]
    line = [*LINE, "--images", "pictures", "--run", f"run{HOSTILE}", *formats]
    code, out, err = run(line)
    # Ten classes, two folders: refused, and the refusal is clean as well.
    assert code == 2, err
    assert clean(err)
    for place in (here / "pictures").iterdir():
        for file in place.iterdir():
            file.rename(here / "pictures" / f"{place.name[:5]}{file.name}")
        place.rmdir()
    code, out, err = run(line)
    assert code == 1, err
    assert "Skipped" in err
    assert clean(out.replace("\r", ""))
    assert clean(re.sub(r"\x1b\[[\d;]*m", "", err).replace("\r", ""))
    for file in (here / f"run{HOSTILE}").glob("report.*"):
        assert "\x1b[2J" not in file.read_text("utf-8"), file
        assert "\u202e" not in file.read_text("utf-8"), file
    code, out, err = run(["status", f"run{HOSTILE}"])
    assert clean(out)


def animation() -> bytes:
    frames = [Image.new("RGB", (64, 64), (i % 256, 0, 0)) for i in range(500)]
    content = io.BytesIO()
    frames[0].save(content, "GIF", save_all=True, append_images=frames[1:])
    return content.getvalue()


def archive(name: str, size: int) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr(name, b"\0" * size)
    return content.getvalue()


def test_of_an_animation_the_first_picture_counts():
    pixels = decoding.decode(animation(), (3, 12, 12))
    assert pixels.max() == 0  # the later ones are redder


@pytest.mark.parametrize(
    "name", ["../../outside.npy", "/outside.npy", "x.npy", "a/b/x.npy", "\x1b[2J.npy"]
)
def test_archives_are_never_unpacked_to_files(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in").mkdir()
    file = tmp_path / "in" / "bomb.npz"
    file.write_bytes(archive(name, 50 * 2**20))  # 50 KB that unpack to a thousand times as much
    with pytest.raises(InputError):
        images.load_images(file, input_shape=(1, 12, 12))
    assert [path.name for path in tmp_path.rglob("*")] == ["in", "bomb.npz"]
    assert not Path("/outside.npy").exists()


def test_an_error_of_ours_is_clean_on_the_terminal(monkeypatch, capsys):
    def fail(**_):
        raise InputError(f"{HOSTILE}: is bad.\nDo better.")

    monkeypatch.setattr(cli.cli, "main", fail)
    with pytest.raises(SystemExit):
        cli.main()
    err = capsys.readouterr().err
    assert clean(err)
    assert len(err.splitlines()) == 2
