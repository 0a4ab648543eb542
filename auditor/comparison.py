"""Two audits side by side: what got better or worse, image by image."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from auditor.results import AuditResult, Estimate, Measurement
from auditor.statistics import paired_difference

CONFIDENCE = 0.95
"""Of all rows together: each has a wider interval, so that none is worse by chance (Bonferroni)."""

_QUANTITIES = (
    ("attack", "topk_intersection", "strongest", "higher"),
    ("smoothing", "self_overlap", None, "higher"),
    ("smoothing", "label_kept", None, "higher"),
    ("smoothing", "normalized_fidelity_error", None, "lower"),
    ("twin", "normalized_stability_error", None, "lower"),
)
_RANK = {"pass": 2, "not run": 1, "inconclusive": 1, "fail": 0}


@dataclass(frozen=True, kw_only=True)
class Change:
    """A quantity under the same condition in both audits.

    ``difference`` is after − before on the images that both have, with its interval;
    ``outcome`` is ``better``, ``worse``, ``no clear change`` or ``not comparable``.
    """

    metric: str
    sigma: float | None
    epsilon: float | None
    partner: str | None
    before: Estimate | None
    after: Estimate | None
    difference: Estimate | None
    outcome: str


@dataclass(frozen=True, kw_only=True)
class CriterionChange:
    """A criterion in both audits, each at the σ that it looked at; ``–`` where there is none."""

    title: str
    before: str
    after: str
    sigma_before: float | None
    sigma_after: float | None
    regressed: bool


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Everything that two audits can be compared by; ``notes`` say what limits it."""

    before: AuditResult
    after: AuditResult
    shared: int
    criteria: tuple[CriterionChange, ...]
    changes: tuple[Change, ...]
    notes: tuple[str, ...]

    @property
    def regressed(self) -> bool:
        """Whether a criterion got worse, or a recommendation was lost."""
        lost = (
            self.before.recommendation.verdict == "recommended"
            and self.after.recommendation.verdict != "recommended"
        )
        return lost or any(criterion.regressed for criterion in self.criteria)


def compare(before: AuditResult, after: AuditResult) -> Comparison:
    """Compare two audits; images are matched by name."""
    places = _shared(before.images.names, after.images.names)
    pairs = [
        (m, _partner(after, m), better)
        for probe, metric, attack, better in _QUANTITIES
        for m in before.find(probe=probe, metric=metric, attack=attack)
    ]
    found = [(m, other, better) for m, other, better in pairs if other is not None]
    confidence = 1 - (1 - CONFIDENCE) / max(1, len(found))
    return Comparison(
        before=before,
        after=after,
        shared=len(places),
        criteria=_criteria(before, after),
        changes=tuple(
            _change(m, other, better, places, confidence, seed=before.seed)
            for m, other, better in found
        ),
        notes=_notes(before, after, len(places)),
    )


def _shared(before: Sequence[str], after: Sequence[str]) -> list[tuple[int, int]]:
    """Places of the names that both have exactly once."""
    counts, others = Counter(before), Counter(after)
    place = {name: i for i, name in enumerate(after)}
    return [(i, place[name]) for i, name in enumerate(before) if counts[name] == others[name] == 1]


def _partner(after: AuditResult, m: Measurement) -> Measurement | None:
    same = {"probe": m.probe, "metric": m.metric, "attack": m.attack, "method": m.method}
    found = after.find(**same, sigma=m.sigma, epsilon=m.epsilon, partner=m.partner)
    return found[0] if found else None


def _change(
    before: Measurement,
    after: Measurement,
    better: str,
    places: Sequence[tuple[int, int]],
    confidence: float,
    *,
    seed: int,
) -> Change:
    difference = paired_difference(
        [after.values[b] for _, b in places],
        [before.values[a] for a, _ in places],
        seed=seed,
        confidence=confidence,
    )
    if difference is None:
        outcome = "not comparable"
    elif difference.low <= 0 <= difference.high:
        outcome = "no clear change"
    else:
        outcome = "better" if (difference.low > 0) == (better == "higher") else "worse"
    return Change(
        metric=before.metric,
        sigma=before.sigma,
        epsilon=before.epsilon,
        partner=before.partner,
        before=before.estimate,
        after=after.estimate,
        difference=difference,
        outcome=outcome,
    )


def _criteria(before: AuditResult, after: AuditResult) -> tuple[CriterionChange, ...]:
    old = {c.name: c for c in before.recommendation.criteria}
    new = {c.name: c for c in after.recommendation.criteria}
    changes = []
    for name in dict.fromkeys((*old, *new)):
        a, b = old.get(name), new.get(name)
        title = a.title if a else new[name].title
        worse = a is not None and b is not None and _RANK[b.status] < _RANK[a.status]
        changes.append(
            CriterionChange(
                title=title,
                before=a.status if a else "–",
                after=b.status if b else "–",
                sigma_before=a.sigma if a else None,
                sigma_after=b.sigma if b else None,
                regressed=worse,
            )
        )
    return tuple(changes)


def _notes(before: AuditResult, after: AuditResult, shared: int) -> tuple[str, ...]:
    notes = []
    if shared == 0:
        notes.append("The audits share no image by name: nothing can be compared image by image.")
    elif before.images.manifest_sha256 != after.images.manifest_sha256:
        notes.append(f"The images are not the same: {shared:,} are matched by their names.")
    if before.profile.sha256 != after.profile.sha256:
        notes.append("The profiles differ, so the same criterion may have another limit.")
    for what, a, b in (
        ("k, the number of top pixels", before.k, after.k),
        ("draws per map", before.samples, after.samples),
        ("effort", before.effort, after.effort),
        ("explanation", before.explanation.name, after.explanation.name),
    ):
        if a != b:
            notes.append(f"Different {what}: {a} before, {b} after.")
    if before.model.sha256 == after.model.sha256:
        notes.append("The model is the same in both.")
    return tuple(notes)
