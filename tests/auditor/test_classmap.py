from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditor import classmap
from auditor.classmap import MAPS, read_class_map
from auditor.errors import InputError

TENCH, DOG, CRANE, BIRD = "n01440764", "n02102040", "n03126707", "n02012849"
SYNSETS = f"{TENCH} tench, Tinca tinca\n{DOG} springer\n{BIRD} crane\n{CRANE} crane\n"
INDEX = {"0": [TENCH, "tench"], "1": [DOG, "springer"], "2": [BIRD, "crane"], "3": [CRANE, "crane"]}
KNOWN = ("tench", "springer", "crane", "crane")


def write(folder, name, content):
    text = content if isinstance(content, str | bytes) else json.dumps(content)
    (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_class_map(folder)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("imagenet_class_index.json", INDEX),
        ("LOC_synset_mapping.txt", SYNSETS),
        ("synset_words.txt", SYNSETS.replace("\n", "\n\n")),
    ],
)
def test_imagenets_own_maps(name, content, tmp_path):
    found = write(tmp_path, name, content)
    assert found.class_names == KNOWN
    for known in ((), KNOWN, ("Tench!", "Springer!", "Bird", "Machine")):
        # Names decide where they can; two classes are called "crane", so the index does.
        assert [found.index(f, known, "x") for f in (TENCH, DOG, BIRD, CRANE)] == [0, 1, 2, 3]
    other_order = ("springer", "tench", "church")
    assert [found.index(f, other_order, "x") for f in (TENCH, DOG)] == [1, 0]
    with pytest.raises(InputError, match=r"'n03126707' \('crane'\) is not a class"):
        found.index(CRANE, other_order, "x")


def test_a_synonym_is_as_good_as_the_name(tmp_path):
    found = write(tmp_path, "synset_words.txt", SYNSETS)
    assert found.index(TENCH, ("church", "Tinca tinca"), "x") == 1


def test_own_maps(tmp_path):
    found = write(tmp_path, "classes.json", {TENCH: 0, DOG: 217})
    assert found.class_names == ()
    assert [found.index(f, (), "x") for f in (TENCH, DOG)] == [0, 217]
    assert found.index(DOG, tuple(map(str, range(1000))), "x") == 217
    with pytest.raises(InputError, match="not a class of the model"):
        found.index(DOG, ("a", "b"), "x")
    with pytest.raises(InputError, match=r"add a class map \(docs/images\.md\)"):
        found.index(CRANE, (), "x")
    found = write(tmp_path, "classes.json", {"tinca": "tench"})
    assert found.index("tinca", ("dog", "tench"), "x") == 1
    with pytest.raises(InputError, match="'carp' is not a class of the model"):
        found.index("carp", ("dog", "tench"), "x")


def test_where_maps_are_looked_for(tmp_path):
    (tmp_path / "val").mkdir()
    (tmp_path / "classes").mkdir()
    assert read_class_map(tmp_path / "val") is None
    write(tmp_path, "classes.json", {TENCH: 3})
    assert read_class_map(tmp_path / "val").indices == {TENCH: 3}
    assert read_class_map(tmp_path / "classes") is None
    write(tmp_path / "val", "synset_words.txt", SYNSETS)
    assert read_class_map(tmp_path / "val").indices[DOG] == 1


def test_maps_elsewhere_are_not_followed(tmp_path):
    (tmp_path / "d").mkdir()
    write(tmp_path, "classes.json", {TENCH: 3})
    (tmp_path / "d" / "classes.json").symlink_to(tmp_path / "classes.json")
    with pytest.raises(InputError, match="link that leaves the folder"):
        read_class_map(tmp_path / "d")


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("classes.json", "{", "no class map"),
        ("classes.json", b"\xff", "no class map"),
        ("classes.json", "[" * 10**5, "no class map"),
        ("classes.json", [TENCH], "not an object"),
        ("classes.json", {TENCH: None}, "neither a name nor an index"),
        ("classes.json", {TENCH: True}, "neither a name nor an index"),
        ("classes.json", {TENCH: ""}, "neither a name nor an index"),
        ("classes.json", {TENCH: -1}, "-1 is no class index"),
        ("classes.json", {TENCH: 10**9}, "is no class index"),
        ("classes.json", {TENCH: 1, DOG: 1}, "the same class index"),
        ("classes.json", {TENCH: 1, DOG: "springer"}, "Give all or none"),
        ("classes.json", {TENCH: "x" * 201}, "more than 200 characters"),
        ("imagenet_class_index.json", {"0": "tench"}, "entry '0' is not as"),
        ("imagenet_class_index.json", {"zero": [TENCH, "tench"]}, "entry 'zero' is not as"),
        ("imagenet_class_index.json", {"0": [TENCH, "a"], "1": [TENCH, "b"]}, "occurs twice"),
        ("imagenet_class_index.json", {"0": [[], {}]}, "entry '0' is not as"),
        ("synset_words.txt", f"{TENCH} tench\n{TENCH} tench\n", "occurs twice"),
    ],
)
def test_hostile_maps(name, content, says, tmp_path):
    with pytest.raises(InputError, match=says) as caught:
        write(tmp_path, name, content)
    assert len(str(caught.value).splitlines()) == 1


def test_large_maps_are_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(classmap, "MAX_MAP_BYTES", 10)
    with pytest.raises(InputError, match="larger than"):
        write(tmp_path, "classes.json", {TENCH: 0})


@given(st.sampled_from(MAPS), st.text() | st.binary())
def test_any_content_is_a_map_or_a_message(tmp_path_factory, name, content):
    content = content.encode(errors="surrogatepass") if isinstance(content, str) else content
    message = None
    try:
        found = write(tmp_path_factory.mktemp("m"), name, content)
    except InputError as error:
        message = str(error)
    assert message is not None or all(0 <= i < 10**6 for i in found.indices.values())
