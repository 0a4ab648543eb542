"""Sentences made from the results: what page one tells a manager."""

from __future__ import annotations

from auditor.results import AuditResult, CriterionResult, Gate
from reports import text
from reports.formatting import NOTHING, count, estimate_line, number, percent, plural, short
from reports.series import estimate, focus, headline_epsilon


def verdict(result: AuditResult) -> str:
    """The verdict in a few words."""
    answer = result.recommendation
    return text.VERDICTS.get(answer.verdict, answer.verdict).format(sigma=short(answer.sigma))


def for_managers(result: AuditResult) -> tuple[str, str, str]:
    """Three sentences without jargon: the problem, what smoothing does, what follows."""
    return _problem(result), _remedy(result), _consequence(result)


def _problem(result: AuditResult) -> str:
    epsilon = headline_epsilon(result)
    plain = _overlap(result, 0.0)
    if epsilon is None or plain is None:
        return (
            "How far a deliberate change of an image can alter the explanation of the model's "
            "decision could not be measured on these images."
        )
    return (
        f"Someone who changes each pixel by at most {short(epsilon)} of 255 brightness levels, "
        f"and leaves the model's decision as it is, can replace {percent(1 - plain)} of the "
        "pixels that its explanation shows as most important."
    )


def _remedy(result: AuditResult) -> str:
    sigma = focus(result)
    if sigma == 0 and result.recommendation.verdict == "recommended":
        return "No smoothing that was tried serves this purpose better than none at all."
    if sigma is None or sigma == 0:
        return "Smoothing, which averages the explanations of many noisy copies, was tried as well."
    which = {
        "recommended": "With the recommended smoothing",
        "no_sigma": "With the smoothing that came closest",
    }.get(result.recommendation.verdict, "With the smoothing looked at most closely")
    smooth = _overlap(result, sigma)
    floor = estimate(result, probe="smoothing", metric="self_overlap", sigma=sigma)
    if smooth is None:
        return f"{which}, the effect of such a change could not be measured on these images."
    sentence = f"{which}, such a change replaces {percent(1 - smooth)} of them"
    if floor is None:
        return sentence + "."
    return (
        f"{sentence}; {percent(1 - floor.mean)} differ even without it, because smoothing itself "
        "is random."
    )


def _consequence(result: AuditResult) -> str:
    answer = result.recommendation
    images = plural(len(result.images.names), "image")
    if answer.verdict == "recommended":
        met = sum(c.status == "pass" for c in answer.criteria)
        return (
            f"Explanations made in this way meet {met} of the {len(answer.criteria)} "
            f"requirements set beforehand for the purpose “{result.profile.name}”, judged on "
            f"{images}; the limits named in this report apply."
        )
    if answer.verdict == "provisional":
        return (
            "This is a first look: neither an attack nor a second network was tried, so nothing is "
            "known of how far these explanations can be changed. Do not rely on them yet."
        )
    if answer.verdict == "no_sigma":
        return (
            "No strength of smoothing that was tried was shown to make the explanations of this "
            f"model good enough for the purpose “{result.profile.name}”: do not rely on them "
            "for it."
        )
    return (
        f"The evidence from {images} does not settle the question either way, which is no reason "
        "to trust the explanations: what stands in the way is listed below."
    )


def _overlap(result: AuditResult, sigma: float) -> float | None:
    found = estimate(
        result,
        probe="attack",
        attack="strongest",
        metric="topk_intersection",
        sigma=sigma,
        epsilon=headline_epsilon(result),
    )
    return found.mean if found else None


def sigma_facts(result: AuditResult) -> tuple[tuple[str, str], ...]:
    """The recommended σ in three units, n, and its interval: (name, value)."""
    answer = result.recommendation
    mark = "Provisional " if answer.verdict == "provisional" else ""
    if answer.sigma is None:
        first: tuple[tuple[str, str], ...] = (
            ("Recommended σ", "none"),
            (
                "σ looked at most closely" if answer.verdict == "inconclusive" else "Nearest miss",
                NOTHING if answer.considered is None else f"σ = {short(answer.considered)}",
            ),
        )
    else:
        channels = [short(value) for value in answer.sigma_normalized]
        normalized = channels[0] if len(set(channels)) == 1 else " / ".join(channels)
        first = (
            (f"{mark}σ in pixel units [0, 1]", short(answer.sigma)),
            (f"{mark}σ in 0–255 units", short(answer.sigma_255)),
            ("σ in the model's normalized units", normalized or text.UNKNOWN_UNITS),
        )
    return (
        *first,
        ("Samples per map, n", count(result.recommended_samples)),
        (f"{percent(answer.interval_confidence)} bootstrap interval of σ", sigma_interval(result)),
    )


def sigma_interval(result: AuditResult) -> str:
    """The bootstrap interval of the chosen σ; without one, how often none was chosen."""
    answer = result.recommendation
    if answer.interval is None:
        return f"none (no σ in {percent(answer.none_share)} of resamples)"
    low, high = answer.interval
    return f"{short(low)} to {short(high)}"


def requirement(criterion: CriterionResult) -> str:
    """The condition that a criterion sets."""
    metric = text.METRICS.get(criterion.metric, criterion.metric.replace("_", " "))
    return f"{metric} {sign(criterion.comparison)} {short(criterion.bound)}"


def gate_line(gate: Gate) -> str:
    """Value and limit of a gate."""
    return f"{number(gate.value)} ({sign(gate.comparison)} {short(gate.limit)})"


def sign(comparison: str) -> str:
    """The comparison as it is printed in books."""
    return {">=": "≥", "<=": "≤"}.get(comparison, comparison)


def gate_status(gate: Gate) -> str:
    """The gate's outcome in the words of the criteria."""
    return {True: "pass", False: "fail", None: "inconclusive"}[gate.passed]


def methods(result: AuditResult) -> list[tuple[str, str]]:
    """A line for each of several methods."""
    rows = []
    for method in result.methods:
        found = method.verdict.replace("_", " ").replace("sigma", "σ")
        if method.sigma is not None:
            found += f"; best σ = {short(method.sigma)}, {estimate_line(method.objective)}"
            found += f"; {plural(method.gradients or 0, 'gradient')}"
        rows.append((f"Method {method.name}{' (chosen)' if method.chosen else ''}", found))
    return rows


def checked(result: AuditResult) -> list[tuple[str, str]]:
    """What was checked at the recommended σ afterwards."""
    return [
        row
        for found in result.follow_ups
        if found.sigma == focus(result)
        for row in (
            ("Draws", found.samples_reason),
            ("Planted evidence", f"{found.planted}. {found.planted_reason}"),
        )
    ]
