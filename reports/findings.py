"""What each probe found, in one sentence with its numbers; empty where it was not run."""

from __future__ import annotations

from auditor.results import AuditResult, Estimate
from reports.formatting import estimate_line, percent, short
from reports.series import estimate, focus, headline_epsilon, partners


def attacked(result: AuditResult) -> str:
    """What is left of the top k, unsmoothed and at the σ in question."""
    epsilon = headline_epsilon(result)

    def left(sigma: float, attack: str) -> Estimate | None:
        return estimate(
            result,
            probe="attack",
            metric="topk_intersection",
            attack=attack,
            sigma=sigma,
            epsilon=epsilon,
        )

    plain, noise = left(0.0, "strongest"), left(0.0, "random_signs")
    if plain is None:
        return ""
    words = (
        f"At ε = {short(epsilon)}/255 the strongest attack leaves {estimate_line(plain)} of the "
        "unsmoothed map's top pixels"
    )
    if noise is not None:
        words += f", random noise of that size {percent(noise.mean)}"
    sigma = focus(result)
    smooth = left(sigma, "strongest") if sigma else None
    if smooth is None:
        return words + "."
    return f"{words}; at σ = {short(sigma)} it leaves {estimate_line(smooth)}."


def smoothed(result: AuditResult) -> str:
    """How far the smoothed map at the σ in question is from the unsmoothed one."""
    sigma = focus(result)
    found = estimate(result, probe="smoothing", metric="topk_intersection", sigma=sigma)
    kept = estimate(result, probe="smoothing", metric="label_kept", sigma=sigma)
    if not sigma or found is None:
        return ""
    words = (
        f"At σ = {short(sigma)} the smoothed map shares {estimate_line(found)} of its top pixels "
        "with the unsmoothed map"
    )
    if kept is None:
        return words + "."
    return f"{words}, and {percent(kept.mean)} of the noisy copies keep their class."


def retrained(result: AuditResult) -> str:
    """How much two trainings agree on the top pixels, and what smoothing changes in that."""
    sigma = focus(result)
    for twin in partners(result, "twin"):
        at = {"probe": "twin", "metric": "topk_intersection", "partner": twin}
        plain = estimate(result, sigma=0.0, **at)
        smooth = estimate(result, sigma=sigma, **at) if sigma else None
        if plain is None:
            continue
        words = f"Without smoothing the model and {twin} share {estimate_line(plain)} of the top k"
        if smooth is None:
            return words + "."
        return f"{words}, at σ = {short(sigma)} {estimate_line(smooth)}."
    return ""
