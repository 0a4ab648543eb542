"""What attacks leave of the explanation, smoothed against unsmoothed, beside controls."""

from __future__ import annotations

from reportlab.graphics.shapes import Drawing
from reportlab.platypus import Flowable

from auditor.results import AuditResult, Measurement
from reports import findings, text
from reports.blocks import beside, lead, paragraph, subsection, table
from reports.charts import grid_chart
from reports.formatting import (
    NOTHING,
    aside,
    count,
    estimate_cell,
    estimate_inline,
    estimate_line,
    short,
)
from reports.sections import subgroups
from reports.series import (
    ALL_ATTACKS,
    ATTACKS,
    DRIFT_METRICS,
    chance_level,
    counted,
    drawn,
    estimate,
    exclusions,
    focus,
    focus_mark,
    headline_epsilon,
    one,
    over_epsilon,
    over_sigma,
    sigma_ticks,
)
from reports.style import LOOKS, TEXT_WIDTH

_HALF = TEXT_WIDTH / 2 - 6
_ENDS = ("random_signs", "strongest")


def build(result: AuditResult) -> list[Flowable]:
    """Charts over ε and σ, the table of overlaps, the table of all drift metrics."""
    rows = _conditions(result)
    if not rows:
        return [paragraph(text.NOT_RUN["attack"])]
    shown, epsilon = (0.0, focus(result)), headline_epsilon(result)
    parts: list[Flowable] = [*lead(findings.attacked(result)), paragraph(text.ATTACK_READING)]
    charts = [c for c in (_epsilon_chart(result), _sigma_chart(result)) if c is not None]
    if charts:
        parts.append(beside(*charts))
    area = estimate(result, probe="attack", attack="strongest", metric="auc_over_eps")
    if area is not None:
        parts.append(
            paragraph(
                "Area under the overlap of the unsmoothed map over ε (trapezoids of unit spacing "
                f"over the grid): {estimate_line(area)}."
            )
        )
    parts += [
        subsection(f"Top-k overlap, smoothed against unsmoothed{_by_chance(result)}"),
        table(
            (
                "σ",
                "ε",
                "Attack",
                "Overlap",
                "Overlap, same noise",
                "Floor at this σ",
                "n",
                "Excluded",
            ),
            [
                _overlap_row(result, m)
                for m in rows
                if (m.sigma in shown or m.epsilon == epsilon)
                and m.attack
                in (ALL_ATTACKS if m.sigma in shown and m.epsilon == epsilon else ATTACKS)
            ],
            (0.75, 0.5, 1.35, 1.5, 1.5, 1.5, 0.6, 3.1),
            dense=True,
        ),
        subsection("All drift metrics under attack"),
        table(
            ("σ", "ε", "Attack", *(text.METRICS[metric] for metric in DRIFT_METRICS)),
            [
                _drift_row(result, m)
                for m in rows
                if m.sigma in shown and m.attack in (ALL_ATTACKS if m.epsilon == epsilon else _ENDS)
            ],
            (0.95, 0.5, 1.55, *[1.3] * len(DRIFT_METRICS)),
            dense=True,
        ),
        paragraph(
            "Small type: confidence interval over images. n and exclusions as in the table above. "
            "Single attacks are printed at the ε at which σ are compared, and so are most σ; the "
            "rest is in the attached audit.json.",
            "caption",
        ),
        *_natural(result),
        *_manipulation(result),
        *_transfer_matrix(result),
        *subgroups.build(result),
    ]
    return parts


def _by_chance(result: AuditResult) -> str:
    levels = chance_level(result)
    return f" ({levels[0].label})" if levels else ""


def _natural(result: AuditResult) -> list[Flowable]:
    """How far maps move when nobody attacks."""
    found = result.find(probe="natural", metric="topk_intersection")
    if not found:
        return []
    metrics = ("spearman", "center_shift", "cosine_distance", "ssim")
    rows = [
        (
            short(m.sigma),
            text.NATURAL.get(m.attack or "", m.attack or NOTHING),
            estimate_cell(m.estimate),
            *(
                estimate_cell(
                    estimate(result, probe="natural", metric=name, sigma=m.sigma, attack=m.attack)
                )
                for name in metrics
            ),
            counted(m),
            aside(exclusions(m)),
        )
        for m in sorted(found, key=lambda m: m.sigma or 0.0)
    ]
    return [
        subsection("When nobody attacks"),
        paragraph(text.NATURAL_READING),
        table(
            (
                "σ",
                "Change",
                text.METRICS["topk_intersection"],
                *(text.METRICS[name] for name in metrics),
                "n",
                "Excluded",
            ),
            rows,
            (0.65, 1.6, 1.3, 1.3, 1.3, 1.3, 1.3, 0.6, 1.9),
            dense=True,
        ),
    ]


def _manipulation(result: AuditResult) -> list[Flowable]:
    """How near manipulation comes to the map of another image."""
    reached = result.find(probe="attack", metric="target_cosine", attack="manipulation")
    if not reached:
        return []
    rows = []
    for m in reached:
        at = {"metric": "target_cosine", "sigma": m.sigma, "epsilon": m.epsilon}
        control = estimate(result, probe="attack", attack="random_signs", **at)
        rows.append(
            (
                short(m.sigma),
                short(m.epsilon),
                estimate_inline(m.estimate),
                estimate_inline(control),
                counted(m),
                exclusions(m),
            )
        )
    return [
        subsection("Manipulation towards another image's explanation"),
        paragraph(text.MANIPULATION_READING),
        table(
            ("σ", "ε (1/255)", "Cosine reached", "Random signs", "n", "Excluded"),
            rows,
            (1, 1, 2, 2, 1, 2.5),
        ),
    ]


def _transfer_matrix(result: AuditResult) -> list[Flowable]:
    """What a perturbation found for the map at one σ leaves of the map at another."""
    found = result.find(probe="transfer_matrix", metric="topk_intersection")
    if not found:
        return []
    columns = tuple(dict.fromkeys(m.sigma for m in found))
    rows = []
    for partner in dict.fromkeys(m.partner for m in found):
        cells = [
            estimate_inline(
                estimate(
                    result,
                    probe="transfer_matrix",
                    metric="topk_intersection",
                    sigma=sigma,
                    partner=partner,
                )
            )
            for sigma in columns
        ]
        rows.append((f"found at {partner}", *cells))
    images = max((m.estimate.n for m in found if m.estimate), default=0)
    return [
        subsection("Transfer between smoothed and unsmoothed explanations", reserve=80),
        paragraph(
            text.TRANSFER_READING.format(epsilon=short(found[0].epsilon), images=count(images))
        ),
        table(
            ("", *(f"shown at σ = {short(sigma)}" for sigma in columns)),
            rows,
            (1.6, *[1.6] * len(columns)),
        ),
    ]


def _conditions(result: AuditResult) -> list[Measurement]:
    found = result.find(probe="attack", metric="topk_intersection")
    known = {name: place for place, name in enumerate(ALL_ATTACKS)}

    def order(m: Measurement) -> tuple[float, float, int, str]:
        name = m.attack or ""
        return m.sigma or 0.0, m.epsilon or 0.0, known.get(name, len(known)), name

    return sorted(found, key=order)


def _overlap_row(result: AuditResult, m: Measurement) -> tuple[str, ...]:
    same = {"probe": "attack", "attack": m.attack, "sigma": m.sigma, "epsilon": m.epsilon}
    floor = estimate(result, probe="smoothing", metric="self_overlap", sigma=m.sigma)
    return (
        short(m.sigma),
        short(m.epsilon),
        text.ATTACKS.get(m.attack or "", m.attack or NOTHING),
        estimate_inline(m.estimate),
        estimate_inline(estimate(result, metric="topk_intersection_common", **same)),
        NOTHING if m.sigma == 0 else estimate_inline(floor),
        counted(m),
        aside(exclusions(m)),
    )


def _drift_row(result: AuditResult, m: Measurement) -> tuple[str, ...]:
    same = {"probe": "attack", "attack": m.attack, "sigma": m.sigma, "epsilon": m.epsilon}
    return (
        short(m.sigma),
        short(m.epsilon),
        text.ATTACKS.get(m.attack or "", m.attack or NOTHING),
        *(estimate_cell(estimate(result, metric=metric, **same)) for metric in DRIFT_METRICS),
    )


def _epsilon_chart(result: AuditResult) -> Drawing | None:
    at = {"probe": "attack", "metric": "topk_intersection"}
    sigma = focus(result)
    curves = drawn(
        over_epsilon(
            result,
            "random signs, unsmoothed",
            LOOKS["random_signs"],
            **at,
            sigma=0.0,
            attack="random_signs",
        ),
        over_epsilon(
            result, "strongest, unsmoothed", LOOKS["strongest"], **at, sigma=0.0, attack="strongest"
        ),
        *(
            [
                over_epsilon(
                    result,
                    f"strongest, σ = {short(sigma)}",
                    LOOKS["plain"],
                    **at,
                    sigma=sigma,
                    attack="strongest",
                )
            ]
            if sigma
            else []
        ),
    )
    if not curves:
        return None
    return grid_chart(
        title="Top-k overlap over the size of the perturbation",
        curves=curves,
        ticks=[short(e) for e in result.epsilons],
        x_title="ε (1/255)",
        width=_HALF,
        height=165,
        y_range=(0, 1),
        levels=chance_level(result),
    )


def _sigma_chart(result: AuditResult) -> Drawing | None:
    epsilon = headline_epsilon(result)
    at = {"probe": "attack", "metric": "topk_intersection", "epsilon": epsilon}
    curves = drawn(
        over_sigma(
            result,
            "self-overlap (floor)",
            LOOKS["self_overlap"],
            probe="smoothing",
            metric="self_overlap",
        ),
        *(
            over_sigma(result, text.ATTACKS[name], LOOKS[name], **at, attack=name)
            for name in ATTACKS
        ),
    )
    if epsilon is None or not curves:
        return None
    mark, label = focus_mark(result)
    return grid_chart(
        title=f"Top-k overlap over smoothing, ε = {short(epsilon)}/255",
        curves=curves,
        ticks=sigma_ticks(result),
        x_title="smoothing σ (pixel units)",
        width=_HALF,
        height=165,
        y_range=(0, 1),
        levels=chance_level(result),
        mark=mark,
        mark_label=label,
    )


def worst_case(result: AuditResult, sigma: float | None) -> Measurement | None:
    """The adaptive attack's overlap at a σ and the headline ε, image by image."""
    return one(
        result,
        probe="attack",
        attack="strongest",
        metric="topk_intersection",
        sigma=sigma,
        epsilon=headline_epsilon(result),
    )
