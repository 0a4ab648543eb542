"""What the report says of the method that was audited."""

from __future__ import annotations

import pytest

from auditor.attributions.registry import METHODS
from auditor.results import ExplanationRecord
from reports.sections.methods import _explanation


@pytest.mark.parametrize("name", [name for name in METHODS if name != "simple_grad"])
def test_a_method_of_ours_has_its_formula_settings_and_source(name):
    entry = METHODS[name]
    record = ExplanationRecord(
        name=name, identity="settings=5", formula=entry.formula, source=entry.source
    )
    shown, words, source, why = _explanation(record)[0]
    assert (shown, source) == (name, entry.source)
    assert entry.formula in words
    assert "Here settings=5." in words
    assert "chosen" in why


def test_an_explanation_of_the_user_has_neither():
    _, words, source, why = _explanation(ExplanationRecord(name="mine", identity="0" * 64))[0]
    assert source == ""
    assert "0000" not in words
    assert "brought" in why
