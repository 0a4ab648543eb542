"""What is checked at a recommended σ: planted evidence, and the gates with enough draws."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from auditor import gates as gating
from auditor.errors import InputError
from auditor.evidence import Evidence
from auditor.probes.planted import PROBE, planted
from auditor.results import Estimate, FollowUp, Gate, Measurement, Recommendation
from auditor.samples import ENOUGH
from auditor.statistics import bootstrap_estimate
from auditor.store import Arrays
from auditor.tasks import Bench, of_maps
from profiles import Profile

ACCOUNT = "follow_up"
"""What its evaluations are booked on."""

LESSONS = 2048
"""Pictures that each of two copies may learn from at a rate: S2's network takes about 1,900."""

PICTURES = 64
"""Most images that are paired."""

FEWEST = 10
"""Pictures that must count before the planted evidence is said to be found, or not."""

MOST = 4
"""How many times the draws of the audit a follow-up may take."""

FOUND, NOT_FOUND, NOT_CHECKED = "found", "not found", "not checked"


def planted_task(bench: Bench, rows: Sequence[int], sigma: float) -> Arrays:
    """Planted evidence at σ and without smoothing; or ``reason``, why it cannot be checked."""
    try:
        records = planted(
            bench.classifier,
            bench.subject(rows),
            sigmas=tuple(sorted({0.0, sigma})),
            samples=bench.settings.samples,
            pictures=LESSONS,
            batch=bench.batch,
            device=bench.device,
            meter=bench.meter,
            account=ACCOUNT,
        )
    except InputError as error:
        return {"reason": np.array(str(error))}
    return {key.encode(): values for key, values in records.items()}


def draws_task(bench: Bench, rows: Sequence[int], sigma: float, samples: int) -> Arrays:
    """What the gates look at, with another number of draws."""
    records, _ = of_maps(bench, rows, sigma, samples, account=ACCOUNT)
    return {key.encode(): values for key, values in records.items()}


def map_error(found: Sequence[Measurement], *, sigma: float) -> float:
    """Mean error of a map at a σ, as a share of its norm; 0 where there is none."""
    for m in found:
        if (m.probe, m.metric, m.sigma) == ("smoothing", "map_error", sigma) and m.estimate:
            return m.estimate.mean
    return 0.0


def enough_draws(error: float, *, samples: int) -> int:
    """Draws that bring the error of a map to `ENOUGH`, given that it falls like 1/√n."""
    return max(2, math.ceil(samples * (error / ENOUGH) ** 2))


@dataclass(frozen=True, kw_only=True)
class Draws:
    """How many draws are recommended: the fields of :class:`auditor.results.FollowUp`."""

    samples: int
    samples_reason: str
    map_error: float | None
    remeasured: int | None = None
    gates: tuple[Gate, ...] = ()
    images: int = 0


def draws_as_measured(error: float, *, sigma: float, samples: int) -> Draws:
    """The audit's own number, where more are not needed or would be too many to try."""
    if sigma == 0:
        reason = "The unsmoothed map takes no noise draws."
        return Draws(samples=1, samples_reason=reason, map_error=None)
    needed = enough_draws(error, samples=samples)
    reason = (
        f"With {samples} draws, as everything was measured, the error of a map is {error:.1%} of "
        "its norm"
    )
    if needed < samples:
        reason += f"; {needed} would reach {ENOUGH:.0%}, but nothing was measured with as few."
    elif needed > samples:
        reason += f"; about {needed} would reach {ENOUGH:.0%}: too many to measure the gates with."
    else:
        reason += "."
    return Draws(samples=samples, samples_reason=reason, map_error=error)


def draws_again(
    before: float, after: float, gates: tuple[Gate, ...], *, samples: int, more: int, images: int
) -> Draws:
    """The larger number, if the gates that were measured with it are met."""
    failed = [gate.title for gate in gates if gate.passed is False]
    reason = (
        f"{more} draws bring the error of a map from {before:.1%} to {after:.1%} of its norm. The "
        f"gates were measured again with {more}, on {images} images"
    )
    if failed:
        reason += f", and one is missed ({failed[0]}): keep to {samples}."
    else:
        reason += f", and are met; the criteria were measured with {samples}."
    return Draws(
        samples=samples if failed else more,
        samples_reason=reason,
        map_error=before if failed else after,
        remeasured=more,
        gates=gates,
        images=images,
    )


def gates_again(
    found: Sequence[Measurement], profile: Profile, evidence: Evidence, *, sigma: float
) -> tuple[Gate, ...]:
    """The gates from the measurements of a `draws_task`, on all of its images together."""
    again = dataclasses.replace(evidence, measurements=tuple(found))
    return tuple(
        dataclasses.replace(gate, reason=gate.reason.replace(" on the screening half", ""))
        for requirement in gating.requirements(again, profile.gates, sigma=sigma)
        for gate in [gating.evaluate(requirement, again, half="screening")]
    )


def judge_planted(
    found: Sequence[Measurement], *, sigma: float, confidence: float, seed: int
) -> tuple[str, str]:
    """Whether the planted evidence is found at a σ, and a sentence with the figures."""
    shares = {m.sigma: m.values for m in found if (m.probe, m.metric) == (PROBE, "planted_topk")}
    here = bootstrap_estimate(shares[sigma], confidence=confidence, seed=seed, bounds=(0, 1))
    if here is None or here.n < FEWEST:
        counted = 0 if here is None else here.n
        return NOT_CHECKED, (
            "Copies of the model did not learn to look at one half of a picture: on "
            f"{counted} pictures alone did the prediction depend on it and on nothing else, and "
            f"{FEWEST} are needed."
        )
    words = f"{_share(here)} of the top pixels lie in the half of the picture that decides"
    if sigma:
        plain = bootstrap_estimate(shares[0.0], confidence=confidence, seed=seed, bounds=(0, 1))
        words += f", without smoothing {_share(plain)}" if plain else ""
    words += f"; 50% by chance, {here.n} pictures."
    return (FOUND if here.low > 0.5 else NOT_FOUND), words


def with_follow_up(answer: Recommendation, checked: FollowUp) -> Recommendation:
    """The answer, which recommends no σ whose map does not find the planted evidence."""
    if answer.verdict != "recommended" or checked.planted != NOT_FOUND:
        return answer
    return dataclasses.replace(
        answer,
        verdict="inconclusive",
        sigma=None,
        sigma_255=None,
        sigma_normalized=(),
        reasons=(
            f"σ = {checked.sigma:g} meets every criterion on both halves, but its map was not "
            f"shown to find planted evidence. {checked.planted_reason}",
        ),
        advice=("Try another method: this one's maps may not show what decides.", *answer.advice),
    )


def _share(found: Estimate) -> str:
    return f"{found.mean:.0%} [{found.low:.0%}, {found.high:.0%}]"
