"""Bootstrap intervals of means over images, and paired tests."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy import stats

from auditor.results import Estimate


def bootstrap_estimate(
    values: Sequence[float | None],
    *,
    seed: int,
    confidence: float = 0.95,
    resamples: int = 2000,
    bounds: tuple[float, float] | None = None,
) -> Estimate | None:
    """Mean over the images that count, with a two-sided bootstrap interval.

    The interval is the *expanded* percentile bootstrap (Hesterberg 2015, "What teachers should
    know about the bootstrap", 4.1.3): the plain one is too narrow by the factor √((n−1)/n) and
    uses normal instead of Student quantiles, which matters below some 50 images. It never leaves
    the range of the values. For the same reason no percentile interval can reach the
    confidence when n is small, since with probability 2·2⁻ⁿ all values lie on one side of the
    median: below n = 1 + log₂(1/(1 − confidence)), that is below 6 images at 95%, Student's
    interval is used, cut to `bounds`. One value says nothing of its spread: its interval is
    `bounds`, and without bounds there is no estimate.

    Equal values give an interval of width zero. That states only that no spread was seen: with n
    equal ratios a share of up to about 3/n of the images may still differ.

    Parameters
    ----------
    values
        One per image; ``None`` where the image is excluded.
    seed
        Seed of the resampling; the same seed and n draw the same images.
    confidence
        Level of the interval, in (0, 1).
    resamples
        Number of bootstrap samples.
    bounds
        Smallest and largest possible value of the quantity, if it has such.

    Returns
    -------
    Estimate or None
        In the unit of the values; ``None`` if nothing counts, or one value without bounds.

    Raises
    ------
    ValueError
        If a value is NaN, infinite or outside the bounds, or a setting is out of range.
    """
    if not 0 < confidence < 1 or resamples < 1:
        raise ValueError("confidence lies in (0, 1) and resamples is at least 1")
    sample = np.array([value for value in values if value is not None], dtype=np.float64)
    if not np.isfinite(sample).all():
        raise ValueError("a value is not finite; give excluded images as None")
    low, high = (-math.inf, math.inf) if bounds is None else bounds
    if ((sample < low) | (sample > high)).any():
        raise ValueError(f"a value lies outside of the bounds {bounds}")
    if len(sample) == 0 or (len(sample) == 1 and bounds is None):
        return None
    if len(sample) > 1:
        interval = _student if 2 * 0.5 ** len(sample) > 1 - confidence else _percentile
        ends = interval(sample, confidence, resamples, seed)
        low, high = max(low, ends[0]), min(high, ends[1])
    mean = float(sample.mean())
    # Rounding alone may put the mean of equal values outside of their interval.
    return Estimate(
        mean=mean,
        low=min(low, mean),
        high=max(high, mean),
        n=len(sample),
        confidence=confidence,
    )


def paired_difference(
    a: Sequence[float | None],
    b: Sequence[float | None],
    *,
    seed: int,
    confidence: float = 0.95,
    resamples: int = 2000,
    bounds: tuple[float, float] | None = None,
) -> Estimate | None:
    """Mean of a − b over the images that count in both, with its bootstrap interval.

    An interval below zero says that `a` is smaller at this confidence. `bounds` are those of the
    difference, e.g. (−1, 1) for two ratios; everything else as in :func:`bootstrap_estimate`.

    Raises
    ------
    ValueError
        If the sequences differ in length, and as :func:`bootstrap_estimate`.
    """
    differences = [
        None if first is None or second is None else first - second
        for first, second in zip(a, b, strict=True)
    ]
    return bootstrap_estimate(
        differences, seed=seed, confidence=confidence, resamples=resamples, bounds=bounds
    )


def paired_test(
    a: Sequence[float | None],
    b: Sequence[float | None],
    *,
    alternative: Literal["two-sided", "less", "greater"] = "two-sided",
) -> float | None:
    """Wilcoxon's signed-rank test of a − b over the images that count in both: its p-value.

    Zero differences are ranked and then left out (Pratt 1959), so that they weaken no other rank.
    ``None`` where fewer than two images count; 1 where all differences are zero.

    Raises
    ------
    ValueError
        If the sequences differ in length.
    """
    pairs = [(x, y) for x, y in zip(a, b, strict=True) if x is not None and y is not None]
    differences = np.array([x - y for x, y in pairs])
    if len(differences) < 2:
        return None
    if not differences.any():
        return 1.0
    found = stats.wilcoxon(differences, alternative=alternative, zero_method="pratt")
    return float(found.pvalue)


def holm(p_values: Sequence[float | None]) -> tuple[float | None, ...]:
    """P-values adjusted for being so many (Holm 1979); ``None`` counts as no test.

    >>> holm([0.01, 0.04, None, 0.03])
    (0.03, 0.06, None, 0.06)
    """
    order = sorted((p, i) for i, p in enumerate(p_values) if p is not None)
    adjusted: list[float | None] = [None] * len(p_values)
    largest = 0.0
    for rank, (p, index) in enumerate(order):
        largest = max(largest, min(1.0, p * (len(order) - rank)))
        adjusted[index] = largest
    return tuple(adjusted)


def _percentile(
    sample: npt.NDArray[np.float64], confidence: float, resamples: int, seed: int
) -> tuple[float, float]:
    n = len(sample)
    drawn = np.random.default_rng(seed).integers(0, n, size=(resamples, n))
    means = sample[drawn].mean(axis=1)
    spread = math.sqrt(n / (n - 1)) * stats.t.ppf((1 + confidence) / 2, n - 1)
    tail = float(stats.norm.sf(spread))
    low, high = np.quantile(means, [tail, 1 - tail])
    return float(low), float(high)


def _student(
    sample: npt.NDArray[np.float64], confidence: float, resamples: int, seed: int
) -> tuple[float, float]:
    n = len(sample)
    half = float(stats.t.ppf((1 + confidence) / 2, n - 1) * sample.std(ddof=1) / math.sqrt(n))
    return float(sample.mean()) - half, float(sample.mean()) + half
