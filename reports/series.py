"""What the charts and tables read from an audit: single estimates and curves over σ or ε."""

from __future__ import annotations

from auditor.results import AuditResult, Estimate, Measurement
from reports.charts import Curve, Level
from reports.formatting import count, short
from reports.style import Look

DRIFT_METRICS = (
    "topk_intersection",
    "topk_mass",
    "topk_iou",
    "spearman",
    "center_shift",
    "cosine_distance",
    "ssim",
    "l2",
    "relative_l2",
)
Condition = str | float | None
ATTACKS = ("random_signs", "transfer", "strongest")
ALL_ATTACKS = ("random_signs", "transfer", "mass_center", "manipulation", "topk", "strongest")


def one(result: AuditResult, **conditions: Condition) -> Measurement | None:
    """The measurement under these conditions, ``None`` if it was not made."""
    found = result.find(**conditions)
    return found[0] if found else None


def estimate(result: AuditResult, **conditions: Condition) -> Estimate | None:
    """Its mean and interval, ``None`` if not made or if no image counts."""
    measurement = one(result, **conditions)
    return measurement.estimate if measurement else None


def partners(result: AuditResult, probe: str) -> tuple[str, ...]:
    """Twins or controls of a probe, in the order measured."""
    return tuple(dict.fromkeys(m.partner for m in result.find(probe=probe) if m.partner))


def headline_epsilon(result: AuditResult) -> float | None:
    """The ε that compares most σ: measured at the most of them, the largest of equals."""
    counts: dict[float, int] = {}
    for m in result.find(probe="attack", attack="strongest", metric="topk_intersection"):
        if m.epsilon is not None and m.estimate is not None:
            counts[m.epsilon] = counts.get(m.epsilon, 0) + 1
    return max(counts, key=lambda e: (counts[e], e), default=None)


def focus(result: AuditResult) -> float | None:
    """The σ that figures emphasize: the recommended one, else the one considered."""
    answer = result.recommendation
    return answer.sigma if answer.sigma is not None else answer.considered


def focus_mark(result: AuditResult) -> tuple[int | None, str]:
    """Position of that σ in the grid, and what to call it."""
    sigma = focus(result)
    label = {
        "recommended": "recommended",
        "provisional": "provisional",
        "no_sigma": "nearest miss",
    }.get(result.recommendation.verdict, "considered")
    return (result.sigmas.index(sigma) if sigma in result.sigmas else None), label


def sigma_ticks(result: AuditResult) -> tuple[str, ...]:
    """Labels of the σ axis."""
    return tuple(short(sigma) for sigma in result.sigmas)


def over_sigma(result: AuditResult, label: str, look: Look, **conditions: Condition) -> Curve:
    """Curve over the positions of the σ grid; a σ without an estimate has no point."""
    return _curve(
        label,
        look,
        [estimate(result, sigma=sigma, **conditions) for sigma in result.sigmas],
    )


def over_epsilon(result: AuditResult, label: str, look: Look, **conditions: Condition) -> Curve:
    """Curve over the positions of the ε grid."""
    return _curve(label, look, [estimate(result, epsilon=e, **conditions) for e in result.epsilons])


def drawn(*curves: Curve) -> tuple[Curve, ...]:
    """The curves that have any point."""
    return tuple(curve for curve in curves if curve.points)


def chance_level(result: AuditResult, metric: str = "topk_intersection") -> tuple[Level, ...]:
    """The chance level of a metric as a reference line, if it has one."""
    for m in result.find(metric=metric):
        if m.chance is not None:
            return (Level(value=m.chance, label=f"chance {short(m.chance)}"),)
    return ()


def counted(measurement: Measurement | None) -> str:
    """How many images count, also where they are too few for an interval."""
    if measurement is None:
        return "0"
    if measurement.estimate is not None:
        return count(measurement.estimate.n)
    return count(sum(value is not None for value in measurement.values))


def exclusions(measurement: Measurement) -> str:
    """Excluded images by reason, ``none`` if all count; whether those left are too few."""
    parts = [f"{reason}: {n}" for reason, n in measurement.excluded.items() if n]
    if measurement.estimate is None and any(v is not None for v in measurement.values):
        parts.append("too few for an interval")
    return "; ".join(parts) or "none"


def _curve(label: str, look: Look, estimates: list[Estimate | None]) -> Curve:
    points = tuple((float(i), e.mean, e.low, e.high) for i, e in enumerate(estimates) if e)
    return Curve(label=label, look=look, points=points)
