from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditor import labels
from auditor.errors import InputError
from auditor.labels import check_labels, class_index, read_table, resolve


def table(tmp_path, content, name="labels.csv"):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def plain(rows):
    return {name: (row.label, row.subgroup) for name, row in rows.items()}


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("file,label\na.png,3\n", {"a.png": ("3", None)}),
        ("file,label,subgroup\na.png,cat,night\n", {"a.png": ("cat", "night")}),
        ("Subgroup , file\n day ,./d/a.png\n", {"d/a.png": (None, "day")}),
        ("file,label,note\na.png,1,x\nb.png,2\n", {"a.png": ("1", None), "b.png": ("2", None)}),
        ("file,label\n", {}),
        ("file,subgroup\na.png,line\x1bbreak\n", {"a.png": (None, "line\\x1bbreak")}),
    ],
)
def test_csv(content, expected, tmp_path):
    assert plain(read_table(table(tmp_path, content))) == expected


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ({"a.png": 3, "b.png": "4"}, {"a.png": ("3", None), "b.png": ("4", None)}),
        ({"a.png": "cat"}, {"a.png": ("cat", None)}),
        (
            [{"file": "a.png", "label": 0, "subgroup": "day"}],
            {"a.png": ("0", "day")},
        ),
        ([{"file": "./a.png", "subgroup": 7, "more": None}], {"a.png": (None, "7")}),
        ([], {}),
    ],
)
def test_json(content, expected, tmp_path):
    path = table(tmp_path, json.dumps(content), "labels.json")
    assert plain(read_table(path)) == expected


def test_the_two_tables_agree(tmp_path):
    rows = [("a.png", "cat", "day"), ("b.png", "dog", "night")]
    csv = "file,label,subgroup\n" + "".join(",".join(row) + "\n" for row in rows)
    keys = ("file", "label", "subgroup")
    as_json = json.dumps([dict(zip(keys, row, strict=True)) for row in rows])
    first = read_table(table(tmp_path, csv))
    assert plain(first) == plain(read_table(table(tmp_path, as_json, "labels.json")))
    assert resolve(first, ("dog", "cat")) == ({"a.png": 1, "b.png": 0}, ("dog", "cat"))
    assert resolve(first, ()) == ({"a.png": 0, "b.png": 1}, ("cat", "dog"))


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("labels.csv", "file,label,subgroup\na.png,1,\n", "line 2: no subgroup for 'a.png'"),
        ("labels.csv", "file,label,subgroup\na.png,1\n", "line 2: no subgroup for 'a.png'"),
        ("labels.csv", "file,label\n./a.png,1\na.png,2\n", "line 3: a second row"),
        ("labels.csv", f"file,label\na.png,{'x' * 201}\n", "more than 200 characters"),
        ("labels.csv", "file\na.png\n", "no header"),
        ("labels.csv", b"file,label\n\xff,1\n", "cannot be read as UTF-8 CSV"),
        ("labels.json", "{", "not valid JSON"),
        ("labels.json", "[" * 10**5, "not valid JSON"),
        ("labels.json", "3", "neither a list nor an object"),
        ("labels.json", '{"a.png": 1, "a.png": 2}', "a key twice"),
        ("labels.json", '{"a.png": 1.5}', "entry 0: its label is neither text nor a whole"),
        ("labels.json", '{"a.png": true}', "entry 0: its label is neither"),
        ("labels.json", '{"a.png": {"label": 1}}', "entry 0: its label is neither"),
        ("labels.json", '[{"label": 1}]', "entry 0: no object with a file"),
        ("labels.json", '[{"file": 1, "label": 1}]', "entry 0: no object with a file"),
        ("labels.json", '["a.png"]', "entry 0: no object with a file"),
        ("labels.json", '[{"file": "a.png"}]', "entry 0: no label for 'a.png'"),
        (
            "labels.json",
            '[{"file": "a", "label": 1}, {"file": "b", "subgroup": "x"}]',
            "entry 1: no label for 'b'",
        ),
        (
            "labels.json",
            '[{"file": "a", "label": 1}, {"file": "b", "label": 1, "subgroup": "x"}]',
            "entry 1: no subgroup for 'b'",
        ),
        ("labels.json", b"\xff", "cannot be read as UTF-8 JSON|not valid JSON"),
        ("labels.json", '{"a.png": ' + "9" * 5000 + "}", "not valid JSON"),
    ],
)
def test_hostile_tables(name, content, says, tmp_path):
    with pytest.raises(InputError, match=says) as caught:
        read_table(table(tmp_path, content, name))
    assert len(str(caught.value).splitlines()) == 1


def test_a_subgroup_that_only_some_rows_have_is_refused(tmp_path):
    rows = [{"file": "a", "label": 1, "subgroup": "x"}, {"file": "b", "label": 1}]
    with pytest.raises(InputError, match="entry 1: no subgroup for 'b'"):
        read_table(table(tmp_path, json.dumps(rows), "labels.json"))


def test_large_tables_are_not_read(tmp_path, monkeypatch):
    path = table(tmp_path, "file,label\na.png,3\nb.png,3\n")
    monkeypatch.setattr(labels, "MAX_IMAGES", 1)
    with pytest.raises(InputError, match="line 3: more than 1 files"):
        read_table(path)
    monkeypatch.setitem(labels.MAX_TABLE_BYTES, ".csv", path.stat().st_size - 1)
    with pytest.raises(InputError, match="larger than"):
        read_table(path)


@given(st.text() | st.binary(), st.sampled_from(["csv", "json"]))
def test_any_content_is_a_table_or_a_message(tmp_path_factory, content, kind):
    head = "file,label\n" if kind == "csv" else ""
    content = head + content if isinstance(content, str) else head.encode() + content
    content = content.encode(errors="surrogatepass") if isinstance(content, str) else content
    path = table(tmp_path_factory.mktemp("t"), content, f"labels.{kind}")
    message = None
    try:
        rows = read_table(path)
    except InputError as error:
        message = str(error)
    if message is None:
        assert all(name.isprintable() and row.label for name, row in rows.items())
    else:
        assert len(message.splitlines()) <= 2


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: (
        st.lists(inner)
        | st.dictionaries(st.sampled_from(["file", "label", "subgroup"]) | st.text(), inner)
    ),
)


@given(JSON)
def test_any_json_is_a_table_or_a_message(tmp_path_factory, content):
    path = table(tmp_path_factory.mktemp("t"), json.dumps(content), "labels.json")
    message = None
    try:
        rows = read_table(path)
    except InputError as error:
        message = str(error)
    assert message is not None or all(row.label or row.subgroup for row in rows.values())


def test_class_index():
    assert class_index("b", ("a", "b"), "here") == 1
    with pytest.raises(InputError, match="here: 'c' is not a class of the model"):
        class_index("c", ("a", "b"), "here")
    with pytest.raises(InputError, match="names several classes"):
        class_index("a", ("a", "a"), "here")


@pytest.mark.parametrize("kind", [np.uint8, np.int64, ">i4"])
def test_check_labels(kind):
    assert check_labels(np.array([2, 0], dtype=kind), 2, ["a", "b", "c"], "y") == (2, 0)
