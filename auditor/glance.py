"""A first look without attacks or twins: a provisional σ from gates and fidelity alone."""

from __future__ import annotations

import dataclasses

from auditor.results import Recommendation
from profiles import Criterion, Objective, Profile

GLANCE = "glance"
"""The effort of such an audit."""

LEFT_OUT = (
    *("attack", "natural", "curvature", "bounds"),
    *("quality", "transfer_matrix", "gallery", "follow_up"),
)
"""Probes that it does not run."""

_FIDELITY = Criterion(
    name="fidelity",
    title="Distance from the unsmoothed map",
    probe="smoothing",
    metric="normalized_fidelity_error",
    comparison="<=",
    bound=1.0,
    basis="judgment",
    because="A judgment: beyond its own size a map no longer describes the same quantity.",
)
_MOST = Objective(
    probe="smoothing",
    metric="normalized_fidelity_error",
    direction="maximize",
    because="The most smoothing that gates and fidelity allow: what it buys was not measured.",
)


def provisional(profile: Profile) -> Profile:
    """What is left of a profile where only the maps themselves are measured."""
    kept = tuple(c for c in profile.criteria if c.probe == "smoothing")
    own = profile.objective.probe == "smoothing"
    return dataclasses.replace(
        profile,
        criteria=kept or (_FIDELITY,),
        objective=profile.objective if own else _MOST,
    )


def marked(answer: Recommendation, *, profile: Profile) -> Recommendation:
    """The answer, never a recommendation: it names what was not looked at."""
    unseen = [c.title for c in profile.criteria if c.probe != "smoothing"]
    verdict = "provisional" if answer.verdict == "recommended" else answer.verdict
    reasons = ["Provisional: only gates and fidelity were looked at, without an attack or a twin."]
    reasons += [f"{title}: not run." for title in unseen]
    return dataclasses.replace(
        answer,
        verdict=verdict,
        reasons=(*reasons, *answer.reasons),
        advice=("Audit with --effort standard before you rely on this σ.", *answer.advice),
    )
