from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from auditor.results import Estimate
from auditor.statistics import bootstrap_estimate, holm, paired_difference, paired_test

RATIO = (0.0, 1.0)


def covered(estimate: Estimate | None, truth: float) -> bool:
    assert estimate is not None
    return estimate.low <= truth <= estimate.high


@pytest.mark.parametrize(
    ("a", "b", "n"),
    [(2.0, 2.0, 32), (2.0, 8.0, 32), (0.5, 3.0, 32), (2.0, 8.0, 8), (2.0, 2.0, 4), (2.0, 2.0, 2)],
)
def test_interval_covers_the_mean_as_often_as_it_says(a, b, n):
    random = np.random.default_rng(1)
    hits = sum(
        covered(
            bootstrap_estimate(random.beta(a, b, n).tolist(), seed=i, bounds=RATIO), a / (a + b)
        )
        for i in range(300)
    )
    # 95% of 300 has a standard error of 1.3%; the skewed ones lie near 94%.
    assert 0.90 <= hits / 300 <= 0.99


@pytest.mark.parametrize(
    ("draw", "truth"),
    [
        (lambda random: random.normal(size=32), 0.0),
        (lambda random: random.beta(2, 8, 32), 0.2),
        (lambda random: random.binomial(20, 0.7, 32) / 20, 0.7),  # overlaps of 20 pixels
    ],
    ids=["normal", "skewed", "counts"],
)
def test_a_90_percent_interval_covers_in_85_to_95_percent_of_simulated_audits(draw, truth):
    random = np.random.default_rng(4)
    hits = sum(
        covered(bootstrap_estimate(draw(random).tolist(), seed=i, confidence=0.9), truth)
        for i in range(300)
    )
    assert 0.85 <= hits / 300 <= 0.95


def test_plain_percentile_interval_would_be_too_narrow():
    """The expansion is needed: without it scipy's percentile interval misses at n = 8."""
    random = np.random.default_rng(2)
    ours = theirs = 0
    for i in range(300):
        values = random.beta(2, 2, 8)
        ours += covered(bootstrap_estimate(values.tolist(), seed=i), 0.5)
        plain = scipy.stats.bootstrap(
            (values,), np.mean, method="percentile", n_resamples=1000, rng=i
        ).confidence_interval
        theirs += bool(plain.low <= 0.5 <= plain.high)
    assert theirs / 300 < 0.91 < ours / 300


def test_interval_is_a_percentile_interval_of_a_higher_level():
    """Hesterberg's level √(n/(n−1))·t in normal quantiles, resampled by scipy."""
    n = 8
    values = np.random.default_rng(7).exponential(size=n)
    level = 2 * scipy.stats.norm.cdf(np.sqrt(n / (n - 1)) * scipy.stats.t.ppf(0.975, n - 1)) - 1
    expected = scipy.stats.bootstrap(
        (values,), np.mean, method="percentile", confidence_level=level, n_resamples=50_000, rng=0
    ).confidence_interval
    found = bootstrap_estimate(values.tolist(), seed=0, resamples=50_000)
    assert found is not None
    # Monte-Carlo error is below 1% of the width; leaving out √(n/(n−1)) moves the upper end 3.6%.
    width = expected.high - expected.low
    assert found.low == pytest.approx(expected.low, abs=0.015 * width)
    assert found.high == pytest.approx(expected.high, abs=0.015 * width)


def test_many_values_agree_with_the_normal_interval():
    values = np.random.default_rng(3).normal(5, 2, 400)
    estimate = bootstrap_estimate(values.tolist(), seed=0, resamples=20_000, confidence=0.9)
    half = 1.645 * values.std() / 20
    assert estimate is not None
    # Monte-Carlo error of a 5% quantile of 20,000 means is about 1.5% of the half width.
    assert estimate.high - estimate.mean == pytest.approx(half, rel=0.06)
    assert estimate.mean - estimate.low == pytest.approx(half, rel=0.06)


def test_few_values_get_student_interval():
    values = [0.2, 0.4, 0.9]
    estimate = bootstrap_estimate(values, seed=0)
    expected = scipy.stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert estimate is not None
    assert (estimate.low, estimate.high) == pytest.approx((expected.low, expected.high))
    cut = bootstrap_estimate(values, seed=0, bounds=RATIO)
    assert cut is not None
    assert (cut.low, cut.high) == RATIO


@pytest.mark.parametrize(("n", "student"), [(5, True), (6, False)])
def test_resampling_begins_where_it_can_reach_the_level(n, student):
    values = np.random.default_rng(8).random(n)
    estimate = bootstrap_estimate(values.tolist(), seed=0)
    expected = scipy.stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert estimate is not None
    assert bool(estimate.low == pytest.approx(expected.low)) is student


@pytest.mark.parametrize(
    ("values", "bounds", "expected"),
    [
        ([], RATIO, None),
        ([None, None], RATIO, None),
        ([0.3], None, None),
        ([None, 0.3], RATIO, (0.3, 0.0, 1.0, 1)),
        ([0.25] * 3, RATIO, (0.25, 0.25, 0.25, 3)),
        ([0.25] * 32 + [None], None, (0.25, 0.25, 0.25, 32)),
    ],
)
def test_degenerate_samples(values, bounds, expected):
    estimate = bootstrap_estimate(values, seed=0, bounds=bounds)
    found = estimate and (estimate.mean, estimate.low, estimate.high, estimate.n)
    assert found == expected


def test_seed_decides():
    values = np.random.default_rng(4).random(20).tolist()
    first, second, other = (bootstrap_estimate(values, seed=s) for s in (5, 5, 6))
    assert first == second != other


def test_more_confidence_is_wider():
    values = np.random.default_rng(5).random(20).tolist()
    widths = []
    for confidence in (0.5, 0.8, 0.95, 0.99):
        estimate = bootstrap_estimate(values, seed=0, confidence=confidence)
        assert estimate is not None
        assert estimate.confidence == confidence
        widths.append(estimate.high - estimate.low)
    assert widths == sorted(set(widths))


@pytest.mark.parametrize(
    ("values", "settings", "message"),
    [
        ([0.1, float("nan")], {}, "not finite"),
        ([0.1, float("inf")], {}, "not finite"),
        ([0.1, 1.2], {"bounds": RATIO}, "outside of the bounds"),
        ([0.1, 0.2], {"confidence": 1.0}, "confidence"),
        ([0.1, 0.2], {"resamples": 0}, "resamples"),
    ],
)
def test_bad_arguments_are_refused(values, settings, message):
    with pytest.raises(ValueError, match=message):
        bootstrap_estimate(values, seed=0, **settings)


@given(st.lists(st.one_of(st.none(), st.floats(0, 1)), max_size=12))
def test_interval_holds_the_mean_and_stays_in_bounds(values):
    estimate = bootstrap_estimate(values, seed=0, bounds=RATIO, resamples=50)
    present = [v for v in values if v is not None]
    assert (estimate is None) == (not present)
    if estimate is not None:
        assert 0 <= estimate.low <= estimate.mean <= estimate.high <= 1
        assert estimate.n == len(present)


def test_pairs_count_where_both_are_present():
    a, b = [0.5, None, 0.7, 0.9], [0.1, 0.2, None, 0.4]
    expected = bootstrap_estimate([0.4, None, None, 0.5], seed=0)
    assert paired_difference(a, b, seed=0) == expected
    with pytest.raises(ValueError, match="zip"):
        paired_difference(a, b[:2], seed=0)


def test_pairing_sees_what_separate_intervals_do_not():
    random = np.random.default_rng(6)
    image = random.random(30)
    a, b = image + 0.05 + random.normal(0, 0.05, 30), image + random.normal(0, 0.05, 30)
    paired = paired_difference(a.tolist(), b.tolist(), seed=0)
    single = bootstrap_estimate(a.tolist(), seed=0)
    assert paired is not None
    assert single is not None
    assert paired.low > 0
    assert paired.high - paired.low < (single.high - single.low) / 3


def test_the_paired_test_is_wilcoxons_over_the_images_that_count():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=40), rng.normal(0.3, size=40)
    expected = scipy.stats.wilcoxon(a, b).pvalue
    assert paired_test([*a, None, 1.0], [*b, 2.0, None]) == pytest.approx(expected)
    assert paired_test(a, b, alternative="less") == pytest.approx(expected / 2)


@pytest.mark.parametrize(
    ("a", "b", "expected"), [([1.0, 2.0], [1.0, 2.0], 1.0), ([1.0], [0.0], None), ([], [], None)]
)
def test_the_paired_test_of_hardly_any_difference(a, b, expected):
    assert paired_test(a, b) == expected


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_adjusts_as_its_definition_says(p):
    adjusted = holm([*p, None])
    assert adjusted[-1] is None
    order = np.argsort(p, kind="stable")
    scaled = [min(1.0, (len(p) - rank) * p[i]) for rank, i in enumerate(order)]
    expected = np.maximum.accumulate(scaled)
    np.testing.assert_allclose([adjusted[i] for i in order], expected)
