from __future__ import annotations

import numpy as np
import pytest
import torch

from auditor.assemble import gather, measurements
from auditor.records import Key
from auditor.statistics import bootstrap_estimate

NAN = np.nan


def collect(records, misclassified=(0, 0, 0), **arguments):
    usual = {"k": 20, "input_shape": (1, 28, 28), "seed": 0}
    found = measurements(
        {key: np.array(values) for key, values in records.items()},
        misclassified=np.array(misclassified, dtype=float),
        **(usual | arguments),
    )
    return {(m.metric, m.epsilon): m for m in found}


def attack(metric="topk_intersection", epsilon=4.0, **condition):
    return Key(
        probe="attack", metric=metric, attack="strongest", sigma=0.0, epsilon=epsilon, **condition
    )


def test_gather_puts_values_at_their_images():
    key, other = attack(), attack("ssim")
    tasks = [
        ((0, 2), {key.encode(): np.array([0.1, 0.3]), "delta|4.0": np.ones((2, 1))}),
        ((1, 3), {key.encode(): np.array([0.2, NAN]), "meter|seconds|": np.array(1.0)}),
        ((3,), {other.encode(): np.array([0.9])}),
    ]
    records = gather(tasks, 4)
    assert set(records) == {key, other}
    np.testing.assert_array_equal(records[key], [0.1, 0.2, 0.3, NAN])
    np.testing.assert_array_equal(records[other], [NAN, NAN, NAN, 0.9])


def test_errors_are_divided_by_the_mean_norm_at_the_same_sigma():
    def keys(metric):
        return [Key(probe="twin", metric=metric, sigma=s, partner="b") for s in (0.1, 0.2)]

    error, norm = keys("stability_error"), keys("map_norm")
    found = measurements(
        {
            error[0]: np.array([1.0, 2.0, 6.0]),
            norm[0]: np.array([1.0, 2.0, NAN]),  # mean 1.5
            error[1]: np.array([1.0, 2.0, 6.0]),
            norm[1]: np.array([10.0, 20.0, 30.0]),  # mean 20
        },
        misclassified=np.zeros(3),
        k=20,
        input_shape=(1, 28, 28),
        seed=0,
    )
    ratios = {m.sigma: m for m in found if m.metric == "normalized_stability_error"}
    assert ratios[0.1].values == pytest.approx((1 / 1.5, 2 / 1.5, 4))
    assert ratios[0.2].values == pytest.approx((0.05, 0.1, 0.3))
    assert ratios[0.1].unit == "ratio"
    assert [m.unit for m in found if m.metric == "stability_error"] == ["map units"] * 2
    assert not [m for m in found if m.metric == "map_norm"]  # only there to divide by


def test_a_vanished_map_has_no_normalized_error():
    def key(metric):
        return Key(probe="smoothing", metric=metric, sigma=0.3)

    found = collect({key("fidelity_error"): [5.0, 5, 5], key("map_norm"): [0.0, 0, 0]})
    normalized = found["normalized_fidelity_error", None]
    assert normalized.values == (None,) * 3
    assert normalized.estimate is None
    assert normalized.excluded == {"undefined": 3}
    assert found["fidelity_error", None].estimate.mean == 5  # the error itself stays


def test_excluded_images_are_counted_by_reason():
    values = [0.5, NAN, NAN, NAN, 0.7, 0.3]
    lost = [0.0, 1.0, 1.0, 0.0, 0.0, 0.0]
    records = {attack(): values, attack("infeasible"): lost}
    found = collect(records, misclassified=[0, 1, 0, 0, 0, 1])
    assert set(found) == {("topk_intersection", 4.0)}  # "infeasible" is no measurement
    m = found["topk_intersection", 4.0]
    assert m.values == (0.5, None, None, None, 0.7, 0.3)
    assert m.excluded == {"misclassified": 1, "label not kept": 1, "undefined": 1}
    assert (m.estimate.n, m.estimate.mean) == (3, pytest.approx(0.5))


def test_a_misclassified_image_that_is_measured_is_not_excluded():
    key = Key(probe="smoothing", metric="self_overlap", sigma=0.1)
    m = collect({key: [0.5, 0.6, NAN]}, misclassified=[1, 0, 1])["self_overlap", None]
    assert m.excluded == {"undefined": 1}


def test_the_area_over_epsilon():
    grid = {2.0: [1.0, 0.8], 4.0: [0.9, 0.6], 8.0: [0.5, 0.4], 16.0: [0.1, NAN]}
    records = {attack(epsilon=e): v for e, v in grid.items()}
    records[attack(epsilon=0.5)] = [1.0, 1.0]  # not of the grid
    m = collect(records, misclassified=[0, 0])["auc_over_eps", None]
    assert m.values == (pytest.approx(0.5 + 0.9 + 0.5 + 0.05), None)
    assert (m.probe, m.attack, m.sigma) == ("attack", "strongest", 0.0)
    del records[attack(epsilon=8.0)]
    assert ("auc_over_eps", None) not in collect(records, misclassified=[0, 0])


def test_intervals_are_those_of_the_bootstrap():
    values = np.random.default_rng(0).uniform(size=40).tolist()
    m = collect({attack(): values}, misclassified=[0] * 40, seed=5)["topk_intersection", 4.0]
    assert m.estimate == bootstrap_estimate(values, seed=5, bounds=(0, 1))
    assert m.estimate.low < m.estimate.mean < m.estimate.high


def test_one_image_is_as_uncertain_as_the_ratio_allows():
    m = collect({attack(): [0.4]}, misclassified=[0])["topk_intersection", 4.0]
    assert (m.estimate.low, m.estimate.high) == (0, 1)


@pytest.mark.parametrize(
    ("metric", "level"),
    [
        ("topk_intersection", 20 / 784),
        ("topk_intersection_common", 20 / 784),
        ("topk_mass", 20 / 784),
        ("topk_iou", 20 / (2 * 784 - 20)),
        ("ssim", None),
    ],
)
def test_chance_levels(metric, level):
    m = collect({attack(metric): [0.4, 0.4, 0.4]})[metric, 4.0]
    assert m.chance == (None if level is None else pytest.approx(level))


def test_chance_of_iou_holds_for_random_sets():
    # E|A∩B|/|A∪B| of random sets is not exactly c/(2 − c): for 20 of 784 both are near .013,
    # and 4,000 pairs know the mean to ±.0005.
    generator = torch.Generator().manual_seed(0)
    a, b = torch.rand(2, 4000, 784, generator=generator).topk(20, dim=2).indices
    shared = (a[:, :, None] == b[:, None, :]).sum(dim=(1, 2)).double()
    level = collect({attack("topk_iou"): [0.4, 0.4, 0.4]})["topk_iou", 4.0].chance
    assert (shared / (40 - shared)).mean().item() == pytest.approx(level, abs=1e-3)
