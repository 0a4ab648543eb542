"""The verdict on the σ of a grid, with its reasons in plain sentences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from auditor import gates as gating
from auditor.advice import advice, criterion_sentences, gate_sentence
from auditor.criteria import Judged
from auditor.evidence import FEWEST_IMAGES, Evidence
from auditor.results import Gate
from auditor.selection import Contender, choose, on_front


@dataclass(frozen=True, kw_only=True)
class Decision:
    """A verdict and the σ it is about: the recommended one, else the nearest miss."""

    verdict: str
    considered: Contender
    gates: tuple[Gate, ...]
    reasons: tuple[str, ...]
    advice: tuple[str, ...]


def decide(contenders: Sequence[Contender], evidence: Evidence) -> Decision:
    """Verdict on contenders in ascending σ: ``recommended``, ``no_sigma`` or ``inconclusive``."""
    chosen = choose(contenders, evidence)
    if chosen is not None:
        return _confirm(contenders[chosen], len(contenders), evidence)
    flags = on_front(contenders, evidence)
    dominated = {c.sigma for c, flag in zip(contenders, flags, strict=True) if not flag}
    still_open = [c for c in contenders if c.sigma not in dominated and _open(c)]
    nearest = min(
        still_open or contenders, key=lambda c: _distance(c, dominated=c.sigma in dominated)
    )
    label = f"σ = {nearest.sigma:g}"
    verdict = "inconclusive" if still_open or not evidence.enough else "no_sigma"
    if not evidence.enough:
        size = min(len(evidence.screen), len(evidence.confirm))
        first = (
            f"{FEWEST_IMAGES} images are needed in each half for a verdict; the smaller half has "
            f"{size}."
        )
    elif still_open:
        first = f"No σ passes everything; with {label} nothing fails, but not all is settled."
    else:
        first = f"None of the {len(contenders)} values of σ will do; the nearest miss is {label}."
    # Only the attack on a chosen σ is repeated with a doubled budget: not what stands in the way.
    unmet = [j for j in nearest.criteria if _causes(j) != {"unchecked"}]
    said = set() if evidence.enough else {"few", "unchecked"}  # by the first sentence
    reasons = [first]
    reasons += _obstacles(nearest.gates, [j for j in unmet if not _causes(j) <= said])
    if nearest.sigma in dominated:
        reasons.append(
            f"Another σ is at least as good as {label} in stability, fidelity and attack drift "
            "and better in one of them."
        )
    if nearest.objective is None:
        reasons.append(f"The profile's objective was not measured at {label}.")
    return Decision(
        verdict=verdict,
        considered=nearest,
        gates=nearest.gates,
        reasons=tuple(reasons),
        advice=advice(nearest.gates, unmet),
    )


def _causes(judged: Judged) -> set[str]:
    return {finding.cause for finding in judged.decisive}


def _open(contender: Contender) -> bool:
    """Whether nothing speaks against a σ, on either half, and something is unsettled."""
    lost = any(judged.lost for judged in contender.criteria)
    return contender.status == "inconclusive" and not lost


def _confirm(chosen: Contender, count: int, evidence: Evidence) -> Decision:
    """Judge the σ chosen on the screening half by everything else that is known of it."""
    gates = tuple(
        gating.worse(gate, gating.evaluate(requirement, evidence, half="confirmation"))
        for requirement, gate in zip(chosen.requirements, chosen.gates, strict=True)
    )
    label = f"σ = {chosen.sigma:g}"
    lost = any(judged.lost for judged in chosen.criteria)
    if lost or any(gate.passed is False for gate in gates):
        verdict = "no_sigma"
        first = f"{label} is the best on the screening half, but fails on the confirmation half."
    elif any(gate.passed is None for gate in gates):
        verdict = "inconclusive"
        first = f"{label} is the best on the screening half, but a gate could not be evaluated."
    elif all(judged.status == "pass" for judged in chosen.criteria):
        verdict = "recommended"
        first = (
            f"{label} meets every criterion on both halves of the images, and is the best of the "
            f"{count} values of σ for this profile among those that do on the screening half."
        )
    else:
        verdict = "inconclusive"
        first = f"{label} is the best on the screening half, but it is not confirmed."
    return Decision(
        verdict=verdict,
        considered=chosen,
        gates=gates,
        reasons=(first, *_obstacles(gates, chosen.criteria)),
        advice=advice(gates, chosen.criteria),
    )


def _obstacles(gates: Sequence[Gate], criteria: Sequence[Judged]) -> list[str]:
    """Failed gates and criteria first, then what is open, then gates not evaluated."""
    failed = [gate_sentence(gate) for gate in gates if gate.passed is False]
    order = ("fail", "inconclusive", "not run")
    missed = sorted(
        (j for j in criteria if j.status != "pass"), key=lambda j: order.index(j.status)
    )
    unknown = [gate_sentence(gate) for gate in gates if gate.passed is None]
    return [*failed, *(s for judged in missed for s in criterion_sentences(judged)), *unknown]


def _distance(contender: Contender, *, dominated: bool) -> tuple[float, ...]:
    """How near a σ comes: first by what failed, then by what is open, then by how much."""
    missed = sum(gating.shortfall(gate) for gate in contender.gates)
    missed += sum(max(f.shortfall for f in judged.findings) for judged in contender.criteria)
    return (
        sum(gate.passed is False for gate in contender.gates),
        sum(judged.lost for judged in contender.criteria),
        dominated,
        sum(judged.screen.status != "pass" for judged in contender.criteria),
        missed,
        contender.sigma,
    )
