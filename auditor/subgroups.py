"""The headline measurements for each subgroup of the images."""

from __future__ import annotations

from collections.abc import Sequence

from auditor.results import Measurement, SubgroupEstimate
from auditor.statistics import bootstrap_estimate

HEADLINE_ATTACK = "strongest"
VALIDITY = ("topk_intersection", "self_overlap", "label_kept")
"""What smoothing by itself does to a map: ratios, as the attacked top-k overlap is."""


def by_subgroup(
    measurements: Sequence[Measurement],
    subgroups: Sequence[str] | None,
    *,
    sigma: float | None,
    epsilon: float,
    seed: int,
) -> tuple[SubgroupEstimate, ...]:
    """Top-k overlap under attack with and without smoothing, and the validity of the smoothed map.

    Parameters
    ----------
    measurements
        Of all images.
    subgroups
        The subgroup of each image; ``None`` if unknown.
    sigma
        The σ recommended, or else considered, in pixel units of [0, 1].
    epsilon
        Size of the attack in 1/255.
    seed
        Of the bootstrap.

    Returns
    -------
    tuple
        By subgroup in sorted order, then in the order measured; empty without subgroups.
    """
    if subgroups is None:
        return ()
    wanted = [m for m in measurements if _is_headline(m, sigma, epsilon)]
    found = []
    for name in sorted(set(subgroups)):
        rows = [row for row, subgroup in enumerate(subgroups) if subgroup == name]
        for m in wanted:
            values = [m.values[row] for row in rows]
            found.append(
                SubgroupEstimate(
                    subgroup=name,
                    images=len(rows),
                    probe=m.probe,
                    metric=m.metric,
                    sigma=m.sigma,
                    epsilon=m.epsilon,
                    attack=m.attack,
                    estimate=bootstrap_estimate(values, seed=seed, bounds=(0, 1)),
                )
            )
    return tuple(found)


def _is_headline(m: Measurement, sigma: float | None, epsilon: float) -> bool:
    if m.probe == "attack":
        headline = m.metric == "topk_intersection" and m.attack == HEADLINE_ATTACK
        return headline and m.epsilon == epsilon and m.sigma in (0.0, sigma)
    return m.probe == "smoothing" and m.metric in VALIDITY and bool(sigma) and m.sigma == sigma
