from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from auditor.errors import InputError
from auditor.results import AuditResult


@pytest.fixture(scope="module")
def record(audited):
    return json.loads(audited.to_json())


def test_json_keeps_everything(audited):
    assert AuditResult.from_json(audited.to_json()) == audited
    assert audited.to_json() == AuditResult.from_json(audited.to_json()).to_json()


def test_json_is_plain(audited, record):
    assert "gallery" not in record
    assert record["schema_version"] == 1
    assert len(record["measurements"]) == len(audited.measurements)


def test_find(audited):
    found = audited.find(probe="attack", attack="strongest", metric="topk_intersection", sigma=0.05)
    assert [m.epsilon for m in found] == [4.0]
    assert audited.find(probe="attack", metric="absent") == ()


def test_numbers_that_json_does_not_know_are_not_written(audited):
    with pytest.raises(ValueError, match="not JSON compliant"):
        dataclasses.replace(audited, sigmas=(0.0, np.nan)).to_json()


def put(*path, value):
    """Replace what lies at a path inside the record."""

    def change(record):
        place = record
        for step in path[:-1]:
            place = place[step]
        place[path[-1]] = value

    return change


def drop(*path):
    def change(record):
        place = record
        for step in path[:-1]:
            place = place[step]
        del place[path[-1]]

    return change


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (put("schema_version", value=2), "schema version 2, this auditor reads 1"),
        (put("schema_version", value=True), "not an audit result"),
        (put("schema_version", value=None), "schema version None"),
        (drop("schema_version"), "schema version None"),
        (put("surprise", value=1), "unknown key 'surprise'"),
        (put("model", "surprise", value=1), "unknown key 'surprise'"),
        (put("gallery", value={}), "unknown key 'gallery'"),
        (drop("recommendation"), "recommendation"),
        (drop("measurements", 0, "values"), "values"),
        (put("seed", value=1.5), "expected int"),
        (put("seed", value=True), "expected int"),
        (put("k", value="20"), "expected int"),
        (put("created", value=None), "expected str"),
        (put("sigmas", value=0.1), "expected a list"),
        (put("sigmas", value=[0, "0.1"]), "expected float"),
        (put("sigmas", value=[0, True]), "expected float"),
        (put("sigmas", value=[0, float("nan")]), "not finite"),
        (put("sigmas", value=[0, float("inf")]), "not finite"),
        (put("sigmas", value=[10**400]), "not an audit result"),
        (put("model", value=[]), "expected an object"),
        (put("environment", value=[]), "expected an object"),
        (put("environment", value={"python": 3}), "expected str"),
        (put("measurements", value={}), "expected a list"),
        (put("measurements", 0, "values", value=[[]]), "expected float"),
        (put("measurements", 0, "estimate", value=3), "expected an object"),
        (put("recommendation", "interval", value=[0.1]), "expected 2 items"),
        (put("profile", "tried", value=[["a", "b"]]), "expected 3 items"),
    ],
)
def test_hostile_records(record, change, says):
    changed = json.loads(json.dumps(record))
    change(changed)
    with pytest.raises(InputError) as caught:
        AuditResult.from_json(json.dumps(changed), where="RUN")
    assert str(caught.value).startswith("RUN: ")
    assert says in str(caught.value)
    assert len(str(caught.value).splitlines()) <= 2


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", "3", "[" * 100_000, '{"schema_version": ' + "9" * 5000 + "}"]
)
def test_hostile_text(text):
    with pytest.raises(InputError, match=r"audit\.json: "):
        AuditResult.from_json(text)


def test_a_run_folder(audited, tmp_path):
    with pytest.raises(InputError, match="Finish the audit with --resume"):
        AuditResult.load(tmp_path)
    file = tmp_path / "audit.json"
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match="cannot be read"):
        AuditResult.load(tmp_path)
    file.write_text(audited.to_json(), encoding="utf-8")
    assert AuditResult.load(tmp_path) == audited
    assert AuditResult.load(tmp_path).gallery == {}
    np.savez(tmp_path / "maps.npz", **audited.gallery)
    gallery = AuditResult.load(tmp_path).gallery
    assert set(gallery) == set(audited.gallery)
    np.testing.assert_array_equal(gallery["image"], audited.gallery["image"])


def pickled(path):
    np.savez(path, image=np.array([{"not": "numbers"}], dtype=object))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"no archive"),
        lambda path: path.write_bytes(path.read_bytes()[:200]),
        pickled,
    ],
    ids=["empty", "garbage", "cut", "pickle"],
)
def test_a_damaged_gallery(audited, tmp_path, spoil):
    (tmp_path / "audit.json").write_text(audited.to_json(), encoding="utf-8")
    maps = tmp_path / "maps.npz"
    np.savez(maps, **audited.gallery)
    spoil(maps)
    with pytest.raises(InputError, match=r"maps\.npz: cannot be read"):
        AuditResult.load(tmp_path)
