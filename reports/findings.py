"""What each probe found, in one sentence with its numbers; empty where it was not run."""

from __future__ import annotations

from auditor.results import AuditResult, Estimate
from reports.formatting import estimate_line, number, percent, short
from reports.series import estimate, focus, headline_epsilon, one, partners


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


def explained(result: AuditResult) -> str:
    """Whether the unsmoothed map, and the one at the σ in question, find the pixels that matter."""
    random = estimate(result, probe="quality", metric="road_random", sigma=0.0)
    found = estimate(result, probe="quality", metric="road_morf", sigma=0.0)
    if found is None or random is None:
        return ""
    if found.low > random.high:
        verdict = "the map finds pixels that the decision rests on"
    elif found.high < random.low:
        verdict = "the map misses the pixels that the decision rests on"
    else:
        verdict = "these images do not show that the map finds the pixels that matter"
    words = (
        "Imputing pixels in the order of the unsmoothed map takes "
        f"{estimate_line(found)} off the probability of the class, in random order "
        f"{number(random.mean)}: {verdict}"
    )
    sigma = focus(result)
    smooth = estimate(result, probe="quality", metric="road_morf", sigma=sigma) if sigma else None
    if smooth is None:
        return words + "."
    return f"{words}. At σ = {short(sigma)} it takes {estimate_line(smooth)}."


def curved(result: AuditResult) -> str:
    """How fast the loss's gradient can turn, and on how many images it turned no faster."""
    predicted = one(result, probe="curvature", metric="hessian_eigenvalue")
    if predicted is None or predicted.estimate is None:
        return ""
    words = (
        "To first order the gradient of the loss turns by at most "
        f"{estimate_line(predicted.estimate)} for each unit of perturbation, in the mean"
    )
    drifts = result.find(probe="curvature", metric="loss_gradient_drift")
    # the smallest perturbation is where a first-order statement has its best chance
    measured = min(drifts, key=lambda m: m.epsilon or 0.0, default=None)
    if measured is None or measured.estimate is None:
        return words + "."
    pairs = [
        (limit, seen)
        for limit, seen in zip(predicted.values, measured.values, strict=True)
        if limit is not None and seen is not None
    ]
    held = sum(seen <= limit for limit, seen in pairs) / len(pairs) if pairs else 0.0
    return (
        f"{words}; at ε = {short(measured.epsilon)}/255 it turned by "
        f"{number(measured.estimate.mean)}, and on {percent(held)} of the images by no more than "
        "that image's limit."
    )


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
