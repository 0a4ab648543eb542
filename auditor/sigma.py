"""From measurements and a profile to a recommended σ, or to the reason why there is none.

σ are screened on one half of the images: gates, then criteria, then the Pareto front of stability,
fidelity and attack drift, then the profile's objective. The one chosen must pass again on the
other half, and an attack it rests on must not change when its budget is doubled.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from auditor import gates as gating
from auditor.criteria import judge
from auditor.evidence import Evidence, Values
from auditor.results import Estimate, Measurement, Recommendation, SigmaOption
from auditor.selection import (
    INTERVAL_CONFIDENCE,
    Contender,
    bootstrap_choice,
    equivalent,
    on_front,
)
from auditor.validity import Convergence
from auditor.verdict import decide
from profiles import Profile, Quantity


def recommend(
    *,
    measurements: Sequence[Measurement],
    sigmas: Sequence[float],
    samples: int,
    profile: Profile,
    screen: Sequence[int],
    confirm: Sequence[int],
    chance: float,
    std: Sequence[float],
    convergence: Convergence | None = None,
    seed: int,
    input_shape: Sequence[int],
    not_applicable: Mapping[str, str] | None = None,
) -> Recommendation:
    """Recommend a σ, or say that none will do or that the data cannot tell.

    Parameters
    ----------
    measurements
        Records of the probes ``smoothing``, ``attack``, ``twin`` and ``control`` at every σ.
    sigmas
        The grid, in pixel units of [0, 1].
    samples
        Noise draws per map that the measurements were made with.
    profile
        Gates, criteria, objective and confidence.
    screen, confirm
        Indices of the images of the two halves, which must not overlap.
    chance
        Top-k overlap of two unrelated maps, k/(H·W).
    std
        Standard deviations of the model's own normalization, per channel; empty if not known.
    convergence
        Overlap per image under the attack with a doubled budget, by (σ, ε in 1/255); what
        :func:`pending_convergence` asks for.
    seed
        Seed of every bootstrap.
    input_shape
        (C, H, W).
    not_applicable
        Probes that the model cannot have, with the reasons; a gate that needs one stays open.

    Raises
    ------
    ValueError
        If the halves overlap, there is no σ, or a condition was measured twice.
    """
    if not sigmas or set(screen) & set(confirm):
        raise ValueError("there must be a σ, and no image in both halves")
    evidence = Evidence(
        measurements=tuple(measurements),
        screen=tuple(screen),
        confirm=tuple(confirm),
        height=input_shape[-2],
        width=input_shape[-1],
        chance=chance,
        seed=seed,
        not_applicable=not_applicable or {},
    )
    checked = {} if convergence is None else convergence
    contenders = [
        _contender(profile, evidence, sigma=sigma, convergence=checked)
        for sigma in sorted(set(sigmas))
    ]
    decision = decide(contenders, evidence)
    stability = bootstrap_choice(contenders, evidence)
    sigma = decision.considered.sigma if decision.verdict == "recommended" else None
    return Recommendation(
        verdict=decision.verdict,
        sigma=sigma,
        sigma_255=None if sigma is None else sigma * 255,
        sigma_normalized=() if sigma is None else tuple(sigma / channel for channel in std),
        considered=decision.considered.sigma,
        samples=samples,
        interval=stability.interval,
        interval_confidence=INTERVAL_CONFIDENCE,
        none_share=stability.none_share,
        criteria=tuple(judged.result() for judged in decision.considered.criteria),
        gates=decision.gates,
        options=tuple(
            SigmaOption(
                sigma=contender.sigma,
                status=contender.status,
                gates=contender.gates,
                criteria=tuple(judged.result() for judged in contender.criteria),
                objective=_objective(contender, profile, evidence),
                on_front=bool(flag),
                wins=wins,
            )
            for contender, flag, wins in zip(
                contenders, on_front(contenders, evidence), stability.wins, strict=True
            )
        ),
        reasons=decision.reasons,
        advice=decision.advice,
        equivalent=equivalent(
            contenders,
            evidence,
            indifference=profile.objective.indifference,
            confidence=profile.confidence,
        ),
    )


def pending_convergence(
    recommendation: Recommendation,
    *,
    profile: Profile,
    input_shape: Sequence[int],
    convergence: Convergence | None = None,
) -> tuple[tuple[float, float], ...]:
    """(σ, ε in 1/255) of attacks to repeat with a doubled budget before the verdict is final.

    Only the σ chosen on the screening half is checked. Nothing is pending where it is rejected on
    the confirmation half, nor where the attack was already repeated.
    """
    chosen = {o.sigma for o in recommendation.options if o.status == "admissible" and o.on_front}
    sigma = recommendation.considered
    if recommendation.verdict != "inconclusive" or sigma is None or sigma not in chosen:
        return ()
    sizes = {c.epsilon_at(input_shape[-2], input_shape[-1]) for c in profile.criteria}
    wanted = [(sigma, epsilon) for epsilon in sorted(filter(None, sizes))]
    return tuple(pair for pair in wanted if pair not in (convergence or {}))


def _contender(
    profile: Profile, evidence: Evidence, *, sigma: float, convergence: Convergence
) -> Contender:
    requirements = gating.requirements(evidence, profile.gates, sigma=sigma)
    smaller_is_better = profile.objective.direction == "minimize"
    objective = evidence.find(
        profile.objective, sigma=sigma, worst="largest" if smaller_is_better else "smallest"
    )
    overlap = evidence.find(
        Quantity(
            probe="attack",
            metric="topk_intersection",
            attack="strongest",
            epsilon=profile.front_epsilon(evidence.height, evidence.width),
        ),
        sigma=sigma,
        worst="smallest",
    )
    stability, fidelity = (
        evidence.find(Quantity(probe=probe, metric=metric), sigma=sigma, worst="largest")
        for probe, metric in (
            ("twin", "normalized_stability_error"),
            ("smoothing", "normalized_fidelity_error"),
        )
    )
    axes = (stability, fidelity, _negative(overlap))
    # With a single coordinate there is nothing to trade off, and σ = 0 would be all of the front.
    compared = sum(axis is not None for axis in axes) > 1
    return Contender(
        sigma=sigma,
        requirements=requirements,
        gates=tuple(gating.evaluate(r, evidence, half="screening") for r in requirements),
        criteria=tuple(
            judge(
                criterion,
                evidence,
                sigma=sigma,
                confidence=profile.confidence,
                convergence=convergence,
            )
            for criterion in profile.criteria
        ),
        objective=objective if smaller_is_better else _negative(objective),
        axes=axes if compared else (None,) * len(axes),
    )


def _objective(contender: Contender, profile: Profile, evidence: Evidence) -> Estimate | None:
    if contender.objective is None:
        return None
    maximize = profile.objective.direction == "maximize"
    values = _negative(contender.objective) if maximize else contender.objective
    return evidence.estimate(values or (), "screening", profile.confidence)


def _negative(values: Values | None) -> Values | None:
    return None if values is None else tuple(None if v is None else -v for v in values)
