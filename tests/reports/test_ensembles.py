"""Ensembles in the report: S0's table, with the numbers of the audit."""

from __future__ import annotations

import dataclasses

import pytest

from auditor.comparisons import compare_ensembles
from reports.sections import ensembles
from reports.series import focus
from tests.reports.synthetic import make_result

NAMES = ("DT, disjoint training splits; 2 members of 500 images, seed 10007", "DA & others")


@pytest.fixture(scope="module")
def result():
    """An audit whose twin is told twice, as two ensembles."""
    made = make_result()
    twins = [m for m in made.measurements if m.probe == "twin"]
    more = tuple(
        dataclasses.replace(m, probe="ensemble", partner=name, metric=metric)
        for name in NAMES
        for m in twins
        for metric in [m.metric, *(["variance"] if m.metric == "stability_error" else [])]
    )
    return dataclasses.replace(
        made,
        measurements=made.measurements + more,
        comparisons=compare_ensembles(more, seed=0),
    )


def test_every_ensemble_is_named_in_the_order_measured(result):
    assert ensembles.ensembles(result) == NAMES


def test_the_table_compares_smoothed_with_unsmoothed_maps(result):
    (table,) = [part for part in ensembles.build(result) if hasattr(part, "_cellvalues")][:1]
    cells = [[cell.text for cell in row] for row in table._cellvalues]
    assert [row[0] for row in cells[1:]] == [
        "DT, disjoint training splits; 2 members of 500 images, seed 10007",
        "DA &amp; others",
    ]
    (smooth,) = result.find(probe="ensemble", partner=NAMES[0], metric="ssim", sigma=focus(result))
    assert f"{smooth.estimate.mean:.3f}" in cells[1][2]
    assert cells[1][3].startswith(("0.", "&lt;"))


def test_an_audit_without_ensembles_says_nothing_of_them():
    assert ensembles.build(make_result()) == []
