"""Whether smoothing changes how alike the members of an ensemble are: paired tests."""

from __future__ import annotations

from collections.abc import Sequence

from auditor.results import Comparison, Measurement
from auditor.statistics import holm, paired_difference, paired_test

COMPARED = ("stability_error", "normalized_stability_error", "ssim", "topk_iou")
"""Metrics of ensembles that are tested, smoothed against unsmoothed."""


def compare_ensembles(measurements: Sequence[Measurement], *, seed: int) -> tuple[Comparison, ...]:
    """Every ensemble at every σ against no smoothing, on the same images.

    The p-value is that of Wilcoxon's signed-rank test, two-sided; ``adjusted`` is Holm's over all
    rows of one metric, so over ensembles and σ.
    """
    found: list[Comparison] = []
    for metric in COMPARED:
        rows = [m for m in measurements if m.probe == "ensemble" and m.metric == metric]
        plain = {m.partner: m for m in rows if m.sigma == 0}
        smooth = [m for m in rows if m.sigma and m.partner in plain]
        p_values = [paired_test(m.values, plain[m.partner].values) for m in smooth]
        for m, p, adjusted in zip(smooth, p_values, holm(p_values), strict=True):
            found.append(
                Comparison(
                    probe=m.probe,
                    metric=metric,
                    partner=m.partner or "",
                    sigma=m.sigma or 0.0,
                    change=paired_difference(m.values, plain[m.partner].values, seed=seed),
                    p_value=p,
                    adjusted=adjusted,
                )
            )
    return tuple(found)
