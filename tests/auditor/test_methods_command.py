from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from auditor.attributions.registry import METHODS, find_method
from auditor.errors import InputError
from auditor.explanation import load_explanation
from auditor.methods_command import methods
from auditor.options import explanation


def listed(*arguments: str) -> str:
    result = CliRunner().invoke(methods, arguments, standalone_mode=False)
    assert result.return_value == 0
    return result.output


def test_lists_every_method_within_80_columns():
    lines = listed().splitlines()
    assert [line.split()[0] for line in lines if line[:1].isalpha()] == list(METHODS)
    assert max(map(len, lines)) <= 80


@pytest.mark.parametrize("row", json.loads(listed("--json")), ids=lambda row: row["name"])
def test_naming_the_defaults_changes_nothing(row):
    spec = ",".join([row["name"], *(f"{k}={v}" for k, v in row["options"].items())])
    method = find_method(row["name"])
    assert find_method(spec).identity.split()[2:] == method.identity.split()[2:]
    assert row["gradients"] == method.price
    assert row["source"]


def test_python_takes_a_name_as_the_command_line_does():
    spec = "integrated_gradients,points=5"
    assert load_explanation(spec) == explanation(method=spec, explain=None)
    assert load_explanation(find_method(spec)).price == 5


def test_method_and_explain_exclude_each_other():
    with pytest.raises(InputError, match="Leave one out"):
        explanation(method="simple_grad", explain="a.py:b")
