"""Decide again from what a run has measured, for another profile; nothing is measured."""

from __future__ import annotations

import dataclasses

from auditor.evidence import Evidence, Values
from auditor.follow_up import with_follow_up
from auditor.metrics.drift import chance
from auditor.results import AuditResult, ProfileAnswer, Recommendation
from auditor.sigma import pending_convergence, recommend
from auditor.validity import Convergence
from profiles import Profile, Quantity, available, load_profile


def decide_again(result: AuditResult, profile: Profile) -> Recommendation:
    """What a profile makes of the measurements of a finished audit, on the same halves."""
    found = recommend(
        measurements=result.measurements,
        sigmas=result.sigmas,
        samples=result.samples,
        profile=profile,
        screen=result.images.screen,
        confirm=result.images.confirm,
        chance=chance(result.k, *result.model.input_shape[1:]),
        std=result.model.std,
        convergence=_doubled(result),
        seed=result.seed,
        input_shape=result.model.input_shape,
        not_applicable=result.not_applicable,
    )
    checked = {check.sigma: check for check in result.follow_ups}
    return with_follow_up(found, checked[found.sigma]) if found.sigma in checked else found


def missing(result: AuditResult, profile: Profile) -> tuple[str, ...]:
    """Records that a profile asks for and the run does not have, a line for each quantity."""
    height, width = result.model.input_shape[-2:]
    evidence = Evidence(
        measurements=result.measurements,
        screen=result.images.screen,
        confirm=result.images.confirm,
        height=height,
        width=width,
        chance=chance(result.k, height, width),
        seed=result.seed,
    )
    front = Quantity(
        probe="attack",
        metric="topk_intersection",
        attack="strongest",
        epsilon=profile.front_epsilon(height, width),
    )
    lines = []
    for quantity in (profile.objective, *profile.criteria, front):
        absent = [
            sigma
            for sigma in result.sigmas
            if evidence.find(quantity, sigma=sigma, worst="smallest") is None
        ]
        if absent:
            lines.append(_line(quantity, absent, height, width, everywhere=len(result.sigmas)))
    answer = decide_again(result, profile)
    lines += [
        f"quality {metric} on all images: it was measured on a sample"
        for metric in profile.metrics("quality")
        if any(
            "outside the sample" in m.excluded for m in result.find(probe="quality", metric=metric)
        )
    ]
    lines += [
        f"attack with a doubled budget at σ = {sigma:g}, ε = {epsilon:g}/255"
        for sigma, epsilon in pending(result, profile)
    ]
    if answer.sigma is not None and answer.sigma not in {c.sigma for c in result.follow_ups}:
        lines.append(f"planted evidence, and draws per map, at σ = {answer.sigma:g}")
    return tuple(dict.fromkeys(lines))


def pending(result: AuditResult, profile: Profile) -> tuple[tuple[float, float], ...]:
    """(σ, ε in 1/255) of attacks to repeat with a doubled budget, as the profile decides."""
    return pending_convergence(
        decide_again(result, profile),
        profile=profile,
        input_shape=result.model.input_shape,
        convergence=_doubled(result),
    )


def answer(result: AuditResult, profile: Profile, *, decided: str = "") -> ProfileAnswer:
    """A profile's answer in brief; ``decided`` is the time, empty if nobody asked for it."""
    found = decide_again(result, profile)
    return ProfileAnswer(
        name=profile.name,
        sha256=profile.sha256,
        decided=decided,
        verdict=found.verdict,
        sigma=found.sigma,
        considered=found.considered,
        reason=found.reasons[0] if found.reasons else "",
        missing=missing(result, profile),
    )


def of_every_profile(result: AuditResult) -> tuple[ProfileAnswer, ...]:
    """What each profile of ours but the declared one would choose, from the same records."""
    names = [name for name in available() if name != result.profile.name]
    return tuple(answer(result, load_profile(name)) for name in names)


def with_answer(result: AuditResult, profile: Profile, *, decided: str) -> AuditResult:
    """The result with this profile among those that were tried, and its answer."""
    made = answer(result, profile, decided=decided)
    others = tuple(a for a in result.other_profiles if a.sha256 != profile.sha256)
    tried = (*result.profile.tried, (profile.name, profile.sha256, decided))
    return dataclasses.replace(
        result,
        profile=dataclasses.replace(result.profile, tried=tried),
        other_profiles=(*others, made),
    )


def _doubled(result: AuditResult) -> Convergence:
    found: dict[tuple[float, float], Values] = {}
    for m in result.find(probe="attack", attack="strongest_doubled", metric="topk_intersection"):
        if m.sigma is not None and m.epsilon is not None:
            found[m.sigma, m.epsilon] = m.values
    return found


def _line(
    quantity: Quantity, absent: list[float], height: int, width: int, *, everywhere: int
) -> str:
    size = quantity.epsilon_at(height, width)
    words = f"{quantity.probe} {quantity.metric}"
    if size is not None:
        words += f" at ε = {size:g}/255"
    if len(absent) < everywhere:
        words += f", σ = {', '.join(f'{sigma:g}' for sigma in absent)}"
    return words
