"""The published schema is that of the records, and tells right results from wrong ones."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest

from auditor.results import SCHEMA_VERSION
from auditor.schema import audit_schema

PUBLISHED = Path(__file__).parents[2] / "docs" / "schema" / f"audit-{SCHEMA_VERSION}.json"


@pytest.fixture(scope="module")
def validator():
    schema = json.loads(PUBLISHED.read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def test_the_published_schema_is_current():
    """Refresh with: python -m auditor.schema > docs/schema/audit-1.json."""
    assert json.loads(PUBLISHED.read_text(encoding="utf-8")) == audit_schema()


def test_a_real_audit_is_valid(audited, validator):
    assert list(validator.iter_errors(json.loads(audited.to_json()))) == []


WRONG = {
    "another version": ("schema_version", 99),
    "a number as text": ("seed", "0"),
    "a list of text": ("sigmas", ["a"]),
    "no verdict": ("recommendation", {}),
    "an unknown key": ("surprise", 1),
    "a pair of three": ("images.unreadable", [["a", "b", "c"]]),
}


@pytest.mark.parametrize(("path", "value"), WRONG.values(), ids=WRONG)
def test_a_wrong_one_is_not(audited, validator, path, value):
    record = json.loads(audited.to_json())
    *outer, last = path.split(".")
    place = record
    for key in outer:
        place = place[key]
    place[last] = value
    assert not validator.is_valid(record)
