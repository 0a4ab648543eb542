from __future__ import annotations

import pytest

from auditor.attributions.registry import METHODS, find_method
from auditor.errors import InputError


@pytest.mark.parametrize("name", METHODS)
def test_every_method_is_found_by_its_name(name):
    assert find_method(name).name == name
    assert METHODS[name].name == name


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("saliency", "method 'saliency' is unknown. Choose one of simple_grad"),
        ("simple_grad,points=3", "option 'points=3' is unknown. Known: it has none"),
    ],
)
def test_what_is_not_understood_ends_with_one_line(spec, message):
    with pytest.raises(InputError) as caught:
        find_method(spec)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
