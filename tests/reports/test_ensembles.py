"""Ensembles in the report: S0's table, with the numbers of the audit."""

from __future__ import annotations

import dataclasses
import statistics

import numpy as np
import pytest

from auditor.comparisons import compare_ensembles
from reports.maps import scale_top
from reports.sections import ensembles, members
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


def figure(result, group):
    return ensembles._curve(result, group, "x", "normalized_stability_error", "stability")


def test_the_band_of_one_ensemble_is_one_deviation_over_its_images(result):
    (m,) = result.find(
        probe="ensemble", partner=NAMES[0], metric="normalized_stability_error",
        sigma=result.sigmas[1],
    )  # fmt: skip
    values = [v for v in m.values if v is not None]
    curve = figure(result, [NAMES[0]])
    low, high = curve.band[1]
    assert curve.points[1][1:] == (m.estimate.mean, m.estimate.low, m.estimate.high)
    assert high - m.estimate.mean == pytest.approx(statistics.stdev(values))
    assert low == pytest.approx(max(0, 2 * m.estimate.mean - high))


def test_shuffles_of_one_setting_are_one_figure(result):
    twice = tuple(
        dataclasses.replace(
            m,
            partner="DT, seed 2",
            values=tuple(None if v is None else v + 0.2 for v in m.values),
        )
        if m.partner == "DA & others"
        else dataclasses.replace(m, partner="DT, seed 1")
        for m in result.measurements
        if m.probe == "ensemble"
    )
    both = dataclasses.replace(result, measurements=twice)
    assert ensembles._groups(("DT, seed 1", "DT, seed 2", "DA")) == {
        "DT": ["DT, seed 1", "DT, seed 2"],
        "DA": ["DA"],
    }
    curve = figure(both, ["DT, seed 1", "DT, seed 2"])
    alone = figure(both, ["DT, seed 1"])
    for (_, mean, *_), (low, high), (_, first, *_) in zip(
        curve.points, curve.band, alone.points, strict=True
    ):
        assert mean == pytest.approx(first + 0.1)
        assert high - mean == pytest.approx(0.2 / 2**0.5)
        assert low == pytest.approx(max(0, 2 * mean - high))


def test_each_image_is_a_row_of_both_members_with_one_color_scale(result, monkeypatch):
    side = result.gallery["image"].shape[-1]
    shape = (len(NAMES), 2, 2, 2, side, side)
    pictures = {
        "member_index": np.array([[3, 1], [0, 2]]),
        "member_place": np.array([[0, 1], [1, 0]]),
        "member_sigma": np.array(result.sigmas[-1], dtype=np.float32),
        "member_image": np.zeros((len(NAMES), 2, *result.gallery["image"].shape[1:])),
        "member_maps": np.random.default_rng(0).random(shape),
    }
    seen = []
    monkeypatch.setattr(members, "scale_top", lambda *maps: seen.append(maps) or scale_top(*maps))
    shown = dataclasses.replace(result, gallery=result.gallery | pictures)
    (block,) = members.build(shown, NAMES[1], 1)
    head, *rows = block._content[1]._cellvalues
    twin, model = result.twins[0].name, result.model.name
    sigma = f", σ = {result.sigmas[-1]:g}"
    words = [cell.text for cell in head]
    assert words == ["", "image", twin, model, twin + sigma, model + sigma]
    names = [f"<b>{result.images.names[index]}</b>" for index in (0, 2)]
    assert [row[0][0].text for row in rows] == names
    assert [len(row) for row in rows] == [6, 6]
    (smooth,) = result.find(
        probe="ensemble", partner=NAMES[1], metric="topk_iou", sigma=result.sigmas[-1]
    )
    assert rows[1][0][2].text == f"top-k IoU smoothed {smooth.values[2]:.3f}"
    for maps, expected in zip(seen, pictures["member_maps"][1], strict=True):
        np.testing.assert_array_equal(np.array(maps), expected.reshape(4, side, side))
    assert members.build(result, NAMES[1], 1) == []
