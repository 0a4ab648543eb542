"""docs/images.md lists what is really read."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

from auditor import images
from auditor.classmap import MAPS, read_class_map
from auditor.datasets.cifar import _NAMES_FILES
from auditor.decoding import EXTENSIONS, MAX_FILE_BYTES
from auditor.folders import TABLES
from auditor.labels import read_table

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
