from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

import auditor
from auditor.results import AuditResult, Measurement
from auditor.statistics import bootstrap_estimate
from auditor.subgroups import by_subgroup

GROUPS = ("day", "night", "day", "night", "day", "dusk")
VALUES = (0.1, 0.5, 0.3, None, 0.8, None)


def measured(probe="attack", metric="topk_intersection", sigma=0.0, **more):
    attack = {"epsilon": 4.0, "attack": "strongest"} if probe == "attack" else {}
    where = {"sigma": sigma} | attack | more
    return Measurement(
        probe=probe, metric=metric, unit="ratio", values=VALUES, estimate=None, **where
    )


def found(*measurements, groups=GROUPS, sigma=0.1):
    return by_subgroup(measurements, groups, sigma=sigma, epsilon=4.0, seed=3)


def test_estimates_are_those_of_the_subgroup_alone():
    day, dusk, night = found(measured())
    assert [e.subgroup for e in (day, dusk, night)] == ["day", "dusk", "night"]
    assert (day.images, dusk.images, night.images) == (3, 1, 2)
    assert day.estimate == bootstrap_estimate((0.1, 0.3, 0.8), seed=3, bounds=(0, 1))
    assert day.estimate.mean == pytest.approx(0.4)
    assert (night.estimate.n, night.estimate.mean) == (1, 0.5)
    assert (night.estimate.low, night.estimate.high) == (0, 1)  # one image says nothing
    assert dusk.estimate is None
    assert (day.probe, day.attack, day.sigma, day.epsilon) == ("attack", "strongest", 0.0, 4.0)


@pytest.mark.parametrize(
    ("measurement", "kept"),
    [
        (measured(), True),
        (measured(sigma=0.1), True),
        (measured(sigma=0.2), False),
        (measured(epsilon=8.0), False),
        (measured(attack="random_signs"), False),
        (measured(metric="ssim"), False),
        (measured("smoothing", "self_overlap", 0.1), True),
        (measured("smoothing", "label_kept", 0.1), True),
        (measured("smoothing", "topk_intersection", 0.1), True),
        (measured("smoothing", "norm_ratio", 0.1), False),
        (measured("smoothing", "self_overlap", 0.0), False),
        (measured("twin", "topk_intersection", 0.1), False),
    ],
)
def test_which_measurements_are_headlines(measurement, kept):
    assert bool(found(measurement)) is kept


def test_without_subgroups_or_without_a_sigma():
    assert found(measured(), groups=None) == ()
    assert len(found(measured(), sigma=None)) == 3
    assert found(measured("smoothing", "self_overlap", 0.0), sigma=None) == ()
    assert found(measured("smoothing", "self_overlap", 0.0), sigma=0.0) == ()


def test_an_audit_with_subgroups(classifier, images, tiny):
    groups = ["even" if i % 2 == 0 else "odd" for i in range(len(images.names))]
    grouped = auditor.from_arrays(images.pixels, images.labels, subgroups=groups)
    result = auditor.audit(classifier, grouped, **tiny)
    assert result.images.subgroups == tuple(groups)
    considered, epsilon = result.recommendation.considered, 4.0  # the profile's, at this size
    again = by_subgroup(
        result.measurements, groups, sigma=considered, epsilon=epsilon, seed=result.seed
    )
    assert result.subgroups == again != ()
    smoothed = by_subgroup(result.measurements, groups, sigma=0.05, epsilon=epsilon, seed=0)
    assert {(e.probe, e.metric, e.sigma) for e in smoothed} == {
        ("attack", "topk_intersection", 0.0),
        ("attack", "topk_intersection", 0.05),
        ("smoothing", "topk_intersection", 0.05),
        ("smoothing", "self_overlap", 0.05),
        ("smoothing", "label_kept", 0.05),
    }
    for e in (*result.subgroups, *smoothed):
        where = {"sigma": e.sigma, "epsilon": e.epsilon, "attack": e.attack}
        (whole,) = result.find(probe=e.probe, metric=e.metric, **where)
        values = [v for v, g in zip(whole.values, groups, strict=True) if g == e.subgroup]
        assert e.estimate.mean == pytest.approx(np.mean([v for v in values if v is not None]))
    assert AuditResult.from_json(result.to_json()) == result


def test_results_of_before_there_were_subgroups_are_still_read(audited):
    record = json.loads(audited.to_json())
    del record["subgroups"], record["images"]["subgroups"]
    assert AuditResult.from_json(json.dumps(record)) == audited
    assert audited.subgroups == ()
    assert dataclasses.replace(audited).images.subgroups is None
