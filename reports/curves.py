"""The two groups of curves that tell an audit at a glance: what is kept, and what it costs."""

from __future__ import annotations

from auditor.results import AuditResult
from reports.charts import Curve
from reports.formatting import short
from reports.series import drawn, headline_epsilon, over_sigma, partners
from reports.style import LOOKS

KEPT = "Share of the most important pixels kept"
COST = "Errors, divided by the mean size of the map"


def kept_curves(result: AuditResult) -> tuple[Curve, ...]:
    """Top-k overlap over σ: untouched, attacked, under random noise."""
    epsilon = headline_epsilon(result)
    at = {"probe": "attack", "metric": "topk_intersection", "epsilon": epsilon}
    return drawn(
        over_sigma(
            result,
            "untouched image: self-overlap (floor)",
            LOOKS["self_overlap"],
            probe="smoothing",
            metric="self_overlap",
        ),
        over_sigma(
            result,
            f"attacked, ε = {short(epsilon)}/255",
            LOOKS["strongest"],
            **at,
            attack="strongest",
        ),
        over_sigma(
            result, "random noise of that size", LOOKS["random_signs"], **at, attack="random_signs"
        ),
    )


def cost_curves(result: AuditResult) -> tuple[Curve, ...]:
    """Normalized fidelity and stability errors over σ, for at most two twins."""
    return drawn(
        over_sigma(
            result,
            "fidelity error (smoothed against unsmoothed)",
            LOOKS["fidelity"],
            probe="smoothing",
            metric="normalized_fidelity_error",
        ),
        *(
            over_sigma(
                result,
                "stability error (against twin)" if index == 0 else f"same, twin {index + 1}",
                LOOKS["stability"] if index == 0 else LOOKS["plain"],
                probe="twin",
                metric="normalized_stability_error",
                partner=partner,
            )
            for index, partner in enumerate(partners(result, "twin")[:2])
        ),
    )
