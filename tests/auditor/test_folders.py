from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditor.errors import InputError
from auditor.folders import enter_split, folder_labels

TENCH, DOG = "n01440764", "n02102040"


def tree(root, *files):
    for file in files:
        path = root / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    return root


@pytest.mark.parametrize(
    ("files", "entered"),
    [
        ((f"val/{TENCH}/a.png",), "val"),
        (("train/cat/a.png", "labels.csv"), ""),  # the table speaks of this folder
        (("train/a.png", "test/b.png"), ""),  # two classes with such names
        (("train/a.png",), ""),
        ((f"{TENCH}/a.png", "val/b/c.png"), ""),
        (("a.png",), ""),
        ((".hidden/x", "test/cat/a.png"), "test"),
    ],
)
def test_the_only_split_is_entered(files, entered, tmp_path):
    tree(tmp_path, *files)
    assert enter_split(tmp_path) == tmp_path / entered


def test_one_of_several_splits_has_to_be_chosen(tmp_path):
    tree(tmp_path, f"train/{TENCH}/a.png", f"val/{TENCH}/b.png")
    with pytest.raises(InputError, match=r"holds train and val\. Give one of them: .*/val"):
        enter_split(tmp_path)


def test_a_linked_split_is_not_entered(tmp_path):
    tree(tmp_path / "elsewhere", "cat/a.png")
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "val").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InputError, match="a link to a folder, not followed"):
        enter_split(tmp_path / "d")


def labels(folder, files, known=()):
    skipped = []
    return folder_labels(folder, files, tuple(known), skipped), skipped


def test_wordnet_folders(tmp_path):
    files = (f"{DOG}/b.JPEG", f"{TENCH}/a.JPEG")
    tree(tmp_path, *files)
    found, _ = labels(tmp_path, files)
    assert (found.format, found.labels, found.class_names) == ("imagefolder", (1, 0), (TENCH, DOG))
    assert found.subgroups is None
    with pytest.raises(InputError, match=r"'n0\d+' is not a class of the model.*class map"):
        labels(tmp_path, files, ["tench", "springer"])
    (tmp_path / "classes.json").write_text(json.dumps({TENCH: "tench", DOG: "springer"}))
    found, _ = labels(tmp_path, files, ["springer", "carp", "tench"])
    assert (found.format, found.labels) == ("imagefolder", (0, 2))
    found, _ = labels(tmp_path, files)
    assert (found.labels, found.class_names) == ((1, 0), ("tench", "springer"))
    (tmp_path / "classes.json").write_text(json.dumps({TENCH: 0, DOG: 217}))
    found, _ = labels(tmp_path, files)
    assert (found.format, found.labels) == ("imagefolder with class map", (217, 0))
    assert found.class_names == ()


def test_a_table_of_subgroups_leaves_labels_to_the_folders(tmp_path):
    files = ("cat/a.png", "dog/b.png", "dog/c.png")
    tree(tmp_path, *files)
    (tmp_path / "labels.csv").write_text(
        "file,subgroup\ncat/a.png,day\ndog/c.png,night\ngone.png,night\n"
    )
    found, skipped = labels(tmp_path, files)
    assert (found.names, found.labels) == (("cat/a.png", "dog/c.png"), (0, 1))
    assert (found.format, found.subgroups) == ("imagefolder", ("day", "night"))
    assert skipped == [
        ("dog/b.png", "not in labels.csv"),
        ("gone.png", "only in labels.csv"),
    ]


def test_a_table_of_labels_and_subgroups(tmp_path):
    files = ("a.png", "b.png")
    tree(tmp_path, *files)
    rows = [
        {"file": file, "label": label, "subgroup": group}
        for file, label, group in (("b.png", "cat", "day"), ("a.png", "dog", "night"))
    ]
    (tmp_path / "labels.json").write_text(json.dumps(rows))
    found, _ = labels(tmp_path, files)
    assert (found.names, found.labels) == (("a.png", "b.png"), (1, 0))
    assert (found.subgroups, found.class_names) == (("night", "day"), ("cat", "dog"))
    (tmp_path / "labels.csv").write_text("file,label\na.png,1\n")
    with pytest.raises(InputError, match=r"labels\.csv and labels\.json. Keep one"):
        labels(tmp_path, files)


def test_a_table_elsewhere_is_not_followed(tmp_path):
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "labels.csv").symlink_to("/etc/passwd")
    with pytest.raises(InputError, match="link that leaves the folder"):
        labels(tmp_path / "d", ())


@given(
    st.lists(
        st.lists(st.sampled_from(["train", "val", "cat", TENCH]), min_size=0, max_size=3),
        min_size=1,
        max_size=6,
    ),
    st.lists(st.sampled_from(["cat", "val", "tench"]), unique=True),
)
def test_any_layout_is_labeled_or_a_message(tmp_path_factory, places, known):
    root = tmp_path_factory.mktemp("layout")
    files = sorted({"/".join([*place, f"{i}.png"]) for i, place in enumerate(places)})
    tree(root, *files)
    refused = False
    try:
        folder = enter_split(root)
        inside = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*.png"))
        found, skipped = labels(folder, inside, known)
    except InputError as error:
        refused = len(str(error).splitlines()) <= 2
    assert refused or (list(found.names) == inside and skipped == [])
    if not refused and found.labels is not None:
        classes = [found.class_names[i] for i in found.labels]
        assert classes == [name.partition("/")[0] for name in inside]
