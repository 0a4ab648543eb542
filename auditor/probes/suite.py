"""The attacks that an audit runs: which objectives, rules and oracles, and why these."""

from __future__ import annotations

from attacks import POLISH, Annealed, Boundary, Objective, Search, Strongest

NOISY = Annealed(first=1 / 3, last=1 / 15, momentum=0.85)
"""For smoothed maps: longer steps, for there are few of them and each direction is noisy."""


def strongest(*, sigma: float) -> Strongest:
    """The ensemble that a profile decides on, for a map smoothed by σ.

    The unsmoothed map gets a search and a polish. On 64 digits, ε = 2 and 8, adding a search for
    mass, cosine or rank to it lowered the mean top-k overlap by less than .001, and one by Auto-PGD
    by .001. Smoothed maps get one search alone: half the budget on a restart or on a polish left
    more of the map (a drop of .264 and .257 below the floor at σ = .1, against .278).
    """
    if sigma > 0:
        aim = Boundary(temperature=0.03)
        return Strongest(members=(Search(objective=aim, rule=NOISY),), polish=None)
    return Strongest(members=(Search(),), polish=POLISH)


def aim(objective: Objective, *, sigma: float) -> Search:
    """One search for another objective, e.g. mass-center, for a map smoothed by σ."""
    return Search(objective=objective, rule=NOISY if sigma > 0 else Annealed())
