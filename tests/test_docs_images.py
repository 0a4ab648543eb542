"""docs/images.md lists what is really read."""

from __future__ import annotations

import importlib
import inspect
import re
from pathlib import Path

import pytest
import torch
from PIL import Image
from skimage.data import chelsea

import auditor
from auditor import images
from auditor.classmap import MAPS, read_class_map
from auditor.datasets.cifar import _NAMES_FILES
from auditor.decoding import EXTENSIONS, MAX_FILE_BYTES
from auditor.folders import TABLES
from auditor.labels import read_table
from auditor.preprocess import load_preprocess

TEXT = (Path(__file__).parent.parent / "docs" / "images.md").read_text(encoding="utf-8")


def section(title: str) -> str:
    return re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", TEXT, re.MULTILINE | re.DOTALL)[1]


def test_endings():
    line = re.search(r"Endings: (.*?)\. Files", section("Image files"), re.DOTALL)[1]
    assert set(re.findall(r"`(\.\w+)`", line)) == EXTENSIONS
    assert f"{MAX_FILE_BYTES // 2**20} MiB" in section("What is refused")


def test_formats():
    listed = re.findall(r"^\|[^|]+\| `([^`]+)` \|", section("Kinds"), re.MULTILINE)
    documented = inspect.getdoc(images.ImageSet)
    sentence = documented[documented.index("``format`` is") :].partition("manifest_sha256")[0]
    assert set(re.findall(r"``([^`]+)``", sentence)) - {"format"} == set(listed)


def test_files_that_are_looked_for():
    assert set(re.findall(r"^\| `([^`]+)` \|", section("ImageNet and ImageNette"), re.M)) == set(
        MAPS
    )
    assert set(re.findall(r"`(labels\.\w+)`", section("Labels and subgroups"))) == set(TABLES)
    names = {name for files in _NAMES_FILES.values() for name in files}
    assert names <= set(re.findall(r"`([^`]+)`", section("CIFAR-10 and CIFAR-100")))


@pytest.mark.parametrize(
    ("place", "subgroups"), [(0, ["day", "night"]), (1, ["day", "night"]), (2, [None, None])]
)
def test_tables_of_the_examples(place, subgroups, tmp_path):
    kind, example = re.findall(r"```(csv|json)\n(.*?)```", TEXT, re.DOTALL)[place]
    (tmp_path / f"labels.{kind}").write_text(example, encoding="utf-8")
    rows = read_table(tmp_path / f"labels.{kind}")
    assert list(rows) == ["day/1.png", "night/7.png"]
    assert [row.subgroup for row in rows.values()] == subgroups


@pytest.mark.parametrize("name", MAPS)
def test_class_maps_of_the_examples(name, tmp_path):
    row = re.search(rf"^\| `{re.escape(name)}` \|(.*)\|$", TEXT, re.MULTILINE)[1]
    if row.strip() == "the same":
        row = re.search(r"^\| `LOC_synset_mapping.txt` \|(.*)\|$", TEXT, re.MULTILINE)[1]
    for example in re.findall(r"`([^`]+)`", row):
        (tmp_path / name).write_text(example.replace(', "1": …', ""), encoding="utf-8")
        found = read_class_map(tmp_path)
        assert found.indices.get("n01440764", 0) == 0
        assert {"n01440764"} & {*found.indices, *found.names}


def example(folder):
    (code,) = re.findall(r"```python\n(import torch\n.*?)```", TEXT, re.DOTALL)
    (folder / "prep.py").write_text(code, encoding="utf-8")
    return str(folder / "prep.py")


def test_the_example_of_preprocessing(tmp_path):
    prep = example(tmp_path)
    found = {
        name: load_preprocess(f"{prep}:{name}")
        for name in ("validation", "two_parts", "inside_only")
    }
    for name in found:
        assert f"| `{name}` |" in section("Your own preprocessing")
    assert {name: p.size for name, p in found.items()} == {
        **{"validation": (32, 32), "two_parts": (32, 32)},
        "inside_only": None,
    }
    assert found["validation"].std == (0.229, 0.224, 0.225)
    x = torch.tensor([0.0, 1.0])
    assert found["inside_only"].inside(x).tolist() == [-1, 1]
    torch.testing.assert_close(found["two_parts"].inside(x), torch.tensor([-0.3, 0.3931472]))
    assert found["validation"].inside is None
    assert found["inside_only"].pixels is None


def test_the_weights_of_the_example():
    (name,) = re.findall(r"`torchvision:(\w+\.\w+)`", TEXT)
    assert load_preprocess(f"torchvision:{name}").size == (224, 224)


def test_both_loaders_take_it(tmp_path, monkeypatch):
    (code,) = re.findall(r"```python\n(model = .*?)```", TEXT, re.DOTALL)
    example(tmp_path)
    (tmp_path / "net.py").write_text(
        "from torch import nn\ndef make(): return nn.Sequential(nn.Conv2d(3, 2, 32), nn.Flatten())"
    )
    (tmp_path / "photos").mkdir()
    Image.fromarray(chelsea()).save(tmp_path / "photos" / "cat.png")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    names = {"auditor": auditor, "validation": importlib.import_module("prep").validation}
    exec(code, names)
    x = names["images"].pixels
    wanted = names["validation"]()(Image.fromarray(chelsea()))
    given = (x - names["model"]._mean) / names["model"]._std
    torch.testing.assert_close(given[0], wanted, rtol=1e-6, atol=1e-6)
