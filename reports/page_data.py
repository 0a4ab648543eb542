"""What the interactive page shows, as plain data with every number already in words."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any

from auditor.results import AuditResult, Estimate, Recommendation, SigmaOption
from reports import sentences, text
from reports.charts import Curve
from reports.curves import COST, KEPT, cost_curves, kept_curves
from reports.formatting import estimate_line, number, short, visible
from reports.maps import image_png, map_png, scale_top
from reports.pictures import Place, class_name, places, shown
from reports.series import (
    DRIFT_METRICS,
    Condition,
    estimate,
    focus,
    headline_epsilon,
    partners,
)
from reports.style import Look

_SYMBOLS = {
    "circle": "circle",
    "square": "square",
    "diamond": "diamond",
    "triangle": "triangle-up",
    "cross": "x-thin",
}
_SMOOTHING = ("self_overlap", "label_kept", "map_error", "norm_ratio", "normalized_fidelity_error")
_TWIN = ("normalized_stability_error", "topk_intersection", "ssim")


def page_data(result: AuditResult, others: Mapping[str, Recommendation]) -> dict[str, Any]:
    """Everything that moves with σ or with the choice of an image.

    ``others`` holds what other profiles would say, by name; the audit's own comes first.
    """
    own = {result.profile.name: result.recommendation}
    verdicts = own | {name: answer for name, answer in others.items() if name not in own}
    chosen = focus(result)
    return {
        "focus": result.sigmas.index(chosen) if chosen in result.sigmas else 0,
        "sigmas": [_at(result, sigma, verdicts) for sigma in result.sigmas],
        "images": [_image(result, place) for place in places(result)],
        "charts": [
            _chart(result, KEPT, kept_curves(result), unit=True),
            _chart(result, COST, cost_curves(result), unit=False),
        ],
    }


def _at(
    result: AuditResult, sigma: float, verdicts: Mapping[str, Recommendation]
) -> dict[str, Any]:
    return {
        "label": f"σ = {short(sigma)}",
        "units": f"{short(255 * sigma)} of 255 brightness levels" if sigma else "no smoothing",
        "groups": [
            {"title": title, "rows": rows} for title, rows in _groups(result, sigma) if rows
        ],
        "profiles": [_verdict(name, answer, sigma) for name, answer in verdicts.items()],
    }


def _groups(result: AuditResult, sigma: float) -> list[tuple[str, list[tuple[str, str]]]]:
    """Drift, stability and fidelity at a σ: title of the group, then names and values."""
    epsilon = headline_epsilon(result)

    def row(name: str, **where: Condition) -> tuple[str, str] | None:
        return _line(name, estimate(result, sigma=sigma, **where))

    attacked = [
        row(
            text.METRICS[metric], probe="attack", attack="strongest", epsilon=epsilon, metric=metric
        )
        for metric in DRIFT_METRICS
    ]
    twins = [
        row(f"{text.METRICS[metric]}, {twin}", probe="twin", partner=twin, metric=metric)
        for twin in partners(result, "twin")
        for metric in _TWIN
    ]
    smoothing = [row(text.METRICS[m], probe="smoothing", metric=m) for m in _SMOOTHING]
    return [
        (f"Drift under the strongest attack, ε = {short(epsilon)}/255", _made(attacked)),
        ("Stability: maps of the model against those of its twins", _made(twins)),
        ("Fidelity: smoothed against unsmoothed maps, nobody attacks", _made(smoothing)),
    ]


def _line(name: str, found: Estimate | None) -> tuple[str, str] | None:
    return None if found is None else (visible(name), estimate_line(found))


def _made(rows: Sequence[tuple[str, str] | None]) -> list[tuple[str, str]]:
    return [row for row in rows if row is not None]


def _verdict(name: str, answer: Recommendation, sigma: float) -> dict[str, Any]:
    option = next((o for o in answer.options if o.sigma == sigma), None)
    examined = option.status if option else "not examined"
    status = answer.verdict if answer.sigma == sigma else examined
    return {"name": visible(name), "status": status, "lines": _reasons(option) if option else []}


def _reasons(option: SigmaOption) -> list[str]:
    """What stands in the way at a σ; all that was met, if nothing does."""
    gates = [
        f"{gate.title}: {sentences.gate_line(gate)}, {sentences.gate_status(gate)}"
        for gate in option.gates
        if gate.passed is not True
    ]
    criteria = [
        f"{c.title}: {sentences.requirement(c)}; {estimate_line(c.screen)}, {c.status}"
        for c in option.criteria
    ]
    return [visible(line) for line in (*gates, *criteria)]


def _image(result: AuditResult, place: Place) -> dict[str, Any]:
    views = []
    for sigma in result.sigmas:
        seen = shown(result, place, sigma)
        top = scale_top(seen.before, seen.after)
        views.append(
            {
                "perturbed": _uri(image_png(seen.perturbed)),
                "before": _uri(map_png(seen.before, top)),
                "after": _uri(map_png(seen.after, top)),
                "overlap": number(seen.overlap),
                "top": number(top),
                "epsilon": short(seen.epsilon),
            }
        )
    kind = "moved most" if place.worst else "in the middle"
    return {
        "name": visible(f"{result.images.names[place.index]} ({kind})"),
        "predicted": visible(class_name(result, place.index)),
        "image": _uri(image_png(shown(result, place, 0.0).image)),
        "views": views,
    }


def _uri(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode()


def _chart(
    result: AuditResult, title: str, curves: Sequence[Curve], *, unit: bool
) -> dict[str, Any]:
    return {
        "title": title,
        "ticks": [short(sigma) for sigma in result.sigmas],
        "unit": unit,
        "traces": [_trace(curve) for curve in curves],
    }


def _trace(curve: Curve) -> dict[str, Any]:
    color = _hex(curve.look)
    return {
        "name": visible(curve.label),
        "x": [point[0] for point in curve.points],
        "y": [point[1] for point in curve.points],
        "mode": "lines+markers",
        "line": {"color": color, "dash": ",".join(f"{d}px" for d in curve.look.dash) or "solid"},
        "marker": {
            "color": color,
            "size": 8,
            "symbol": _SYMBOLS[curve.look.marker] + ("" if curve.look.filled else "-open"),
        },
        "error_y": {
            "type": "data",
            "symmetric": False,
            "array": [high - mean for _, mean, _, high in curve.points],
            "arrayminus": [mean - low for _, mean, low, _ in curve.points],
            "thickness": 1,
        },
    }


def _hex(look: Look) -> str:
    return str(look.color.hexval()).replace("0x", "#")
