"""Whether an attack is strong enough for its result to count.

An attack only ever bounds robustness from above, so a weak attack makes any map look stable. Its
result counts if it beats random signs and, where there is smoothing, the transfer attack at a
paired 95% limit; is above chance; moves the map more than new noise does; and changes by less than
0.02 when its budget is doubled.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from auditor.evidence import FEWEST_IMAGES, Evidence, Values, take
from auditor.statistics import paired_difference
from profiles import Quantity

CONFIDENCE = 0.95
LARGEST_CHANGE = 0.02

Convergence = Mapping[tuple[float, float], Values]
"""(σ, ε in 1/255) → top-k overlap per image under the attack with a doubled budget."""


def doubt(evidence: Evidence, *, sigma: float, epsilon: float, half: str) -> tuple[str, str] | None:
    """Why the attack of size ε (1/255) at one σ does not count on one half: (cause, sentence).

    The cause is ``missing``, ``weak``, ``saturated`` or ``floor``; ``None`` if it counts so far.
    Convergence is judged by :func:`unsettled`, for the chosen σ alone.
    """
    attacked = _overlap(evidence, "strongest", sigma, epsilon)
    if attacked is None:
        return "missing", "The adaptive attack was not run."
    # Before anything else: at chance level nothing can be beaten any more.
    level = evidence.estimate(attacked, half, CONFIDENCE)
    if level is None or level.high <= 1.5 * evidence.chance + 0.02:
        return "saturated", (
            f"The attacked overlap is hardly above chance ({evidence.chance:.3f}) on the {half} "
            "half: its upper limit does not exceed 1.5 times chance + 0.02, so the attack is too "
            "large to compare maps."
        )
    rivals = {"random_signs": "random signs", "transfer": "the transfer attack"}
    if sigma == 0 and _overlap(evidence, "transfer", sigma, epsilon) is None:
        del rivals["transfer"]  # on the unsmoothed gradient the attack is the transfer attack
    for attack, name in rivals.items():
        rival = _overlap(evidence, attack, sigma, epsilon)
        if rival is None:
            return "missing", f"The attack cannot be compared with {name}: not measured."
        if not _below(evidence, attacked, rival, half):
            return "weak", (
                f"The attack does not beat {name} at a paired 95% limit on the {half} half, so it "
                "is too weak to count."
            )
    quantity = Quantity(probe="smoothing", metric="self_overlap")
    floor = evidence.find(quantity, sigma=sigma, worst="smallest")
    if floor is None:
        return "missing", "The overlap of two maps made with different noise was not measured."
    if not _below(evidence, attacked, floor, half):
        return "floor", (
            f"The attack moves the map no more than new noise does on the {half} half, so it shows "
            "nothing about attacks."
        )
    return None


def unsettled(
    evidence: Evidence, *, sigma: float, epsilon: float, convergence: Convergence
) -> tuple[str, str]:
    """Whether doubling the attack's budget changes the mean overlap: (cause, sentence).

    Both halves count together: it is a property of the attack, not of the choice of σ. The cause
    is empty if the attack has converged, else ``unchecked``, ``few`` or ``unconverged``.
    """
    single = _overlap(evidence, "strongest", sigma, epsilon)
    doubled = convergence.get((sigma, epsilon))
    if single is None or doubled is None:
        return "unchecked", "The attack was not repeated with a doubled budget at this σ."
    changes = [
        after - before
        for before, after in (
            (single[i], doubled[i]) for i in (*evidence.screen, *evidence.confirm)
        )
        if before is not None and after is not None
    ]
    if len(changes) < FEWEST_IMAGES:
        return "few", (
            f"Only {len(changes)} images were attacked with a doubled budget; "
            f"{FEWEST_IMAGES} are needed."
        )
    change = float(np.mean(changes))
    sentence = f"Doubling the attack's budget changes the mean overlap by {change:+.3f}"
    if abs(change) < LARGEST_CHANGE:
        return "", f"{sentence}."
    return "unconverged", f"{sentence}; less than {LARGEST_CHANGE:g} is needed."


def _overlap(evidence: Evidence, attack: str, sigma: float, epsilon: float) -> Values | None:
    quantity = Quantity(probe="attack", metric="topk_intersection", attack=attack, epsilon=epsilon)
    return evidence.find(quantity, sigma=sigma, worst="smallest")


def _below(evidence: Evidence, attacked: Values, other: Values, half: str) -> bool:
    indices = evidence.half(half)
    difference = paired_difference(
        take(other, indices), take(attacked, indices), confidence=CONFIDENCE, seed=evidence.seed
    )
    return difference is not None and difference.low > 0
