from __future__ import annotations

import pytest

from auditor.bounds.record import Assumption, Bound, numbers


def bound(**changes: object) -> Bound:
    given: dict[str, object] = {
        "name": "drift",
        "title": "Drift",
        "source": "S3 Thm 2",
        "kind": "upper",
        "unit": "map units",
        "values": (1.0, 1.0, None),
        "measured": (0.5, 1.5, 2.0),
        "vacuous": (False, False, None),
        "images": (0, 3, 4),
    }
    return Bound(**(given | changes))


@pytest.mark.parametrize(("kind", "crossed"), [("upper", (1,)), ("lower", (0,)), ("estimate", ())])
def test_crossed(kind, crossed):
    assert bound(kind=kind).crossed == crossed


@pytest.mark.parametrize(
    "changes", [{"kind": "guess"}, {"values": (1.0,)}, {"images": ()}, {"vacuous": (None,)}]
)
def test_inconsistent_records_are_refused(changes):
    with pytest.raises(ValueError, match=r"drift|guess"):
        bound(**changes)


def test_statuses():
    assert Assumption(text="smooth", status="met").reason == ""
    with pytest.raises(ValueError, match="perhaps"):
        Assumption(text="smooth", status="perhaps")


def test_numbers_that_are_not_finite_are_none():
    assert numbers([1.0, float("nan"), float("inf")]) == (1.0, None, None)
