"""Page one: the verdict, σ, three sentences, the trade-off, the criteria."""

from __future__ import annotations

from reportlab.graphics.shapes import Drawing
from reportlab.platypus import Flowable, Paragraph, Table

from auditor.results import AuditResult
from reports import sentences, text
from reports.blocks import beside, bullets, gap, paragraph, status, subsection, table, table_style
from reports.charts import Curve, grid_chart
from reports.curves import COST, KEPT, cost_curves, kept_curves
from reports.formatting import estimate_cell, join, markup, percent, plural, short
from reports.series import (
    chance_level,
    focus_mark,
    sigma_ticks,
)
from reports.style import INK, RULE, STATUS_COLORS, TEXT_WIDTH, TINT, style

_KIND = {"recommended": "good", "no_sigma": "bad", "inconclusive": "open", "provisional": "open"}


def build(result: AuditResult) -> list[Flowable]:
    """All of page one below its title."""
    answer = result.recommendation
    parts: list[Flowable] = [_banner(result), gap(4), _subject(result)]
    parts += [_numbers(result), gap(6)]
    parts += [paragraph(sentence, "lead") for sentence in sentences.for_managers(result)]
    parts += [*_trade_off(result)]
    if answer.verdict != "recommended":
        parts += [subsection("Why", reserve=20), *bullets(answer.reasons)]
    elif answer.reasons:
        parts += [subsection("Remarks", reserve=20), *bullets(answer.reasons)]
    if answer.advice:
        parts += [subsection("What to do next", reserve=20), *bullets(answer.advice)]
    return [*parts, *_criteria(result)]


def _banner(result: AuditResult) -> Table:
    color = STATUS_COLORS[_KIND.get(result.recommendation.verdict, "none")]
    look = [
        ("LINEBEFORE", (0, 0), (0, -1), 5, color),
        ("LEFTPADDING", (0, 0), (-1, -1), 12),
        ("TOPPADDING", (0, 0), (-1, -1), 0),
        ("BOTTOMPADDING", (0, 0), (-1, -1), 6),
    ]
    words = Paragraph(markup(sentences.verdict(result)), style("verdict"))
    return Table([[words]], colWidths=[TEXT_WIDTH], style=table_style(look))


def _subject(result: AuditResult) -> Paragraph:
    own = result.explanation.name
    explained = "" if own == "simple_grad" else f" · explanation: {own}"
    return paragraph(
        f"Model {result.model.name} · {plural(len(result.images.names), 'image')} · "
        f"purpose: {result.profile.title} ({result.profile.name}){explained}"
    )


def _numbers(result: AuditResult) -> Table:
    pairs = sentences.sigma_facts(result)
    look = [
        ("BACKGROUND", (0, 0), (-1, -1), TINT),
        ("VALIGN", (0, 0), (-1, -1), "TOP"),
        ("LINEABOVE", (0, 0), (-1, 0), 0.8, INK),
        ("LINEBELOW", (0, -1), (-1, -1), 0.8, INK),
        ("LINEAFTER", (0, 0), (-2, -1), 0.4, RULE),
        ("TOPPADDING", (0, 0), (-1, -1), 3),
        ("BOTTOMPADDING", (0, 0), (-1, -1), 3),
    ]
    return Table(
        [
            [Paragraph(markup(name), style("small")) for name, _ in pairs],
            [Paragraph(markup(value), style("fact")) for _, value in pairs],
        ],
        colWidths=[TEXT_WIDTH / len(pairs)] * len(pairs),
        style=table_style(look),
    )


def _trade_off(result: AuditResult) -> list[Flowable]:
    better = _chart(result, KEPT, kept_curves(result), share=True)
    worse = _chart(result, COST, cost_curves(result), share=False)
    charts = [chart for chart in (better, worse) if chart is not None]
    if not charts:
        return [paragraph(text.NOT_RUN["smoothing"])]
    confidence = next((m.estimate.confidence for m in result.measurements if m.estimate), 0.95)
    caption = text.HOW_TO_READ_CHART.format(confidence=percent(confidence))
    return [
        gap(2),
        beside(*charts),
        paragraph(join([caption, text.GLOSSARY]), "caption"),
    ]


def _chart(
    result: AuditResult, title: str, curves: tuple[Curve, ...], *, share: bool
) -> Drawing | None:
    if not curves:
        return None
    mark, label = focus_mark(result)
    return grid_chart(
        title=title,
        curves=curves,
        ticks=sigma_ticks(result),
        x_title="smoothing σ (pixel units)",
        width=TEXT_WIDTH / 2 - 6,
        height=186,
        legend_rows=3,
        y_range=(0, 1) if share else None,
        levels=chance_level(result) if share else (),
        mark=mark,
        mark_label=label,
    )


def _criteria(result: AuditResult) -> list[Flowable]:
    answer = result.recommendation
    if not answer.criteria:
        return [subsection("Criteria"), paragraph("No criterion was evaluated.")]
    sigma = answer.criteria[0].sigma
    rows = [
        (
            criterion.title,
            sentences.requirement(criterion),
            estimate_cell(criterion.screen),
            estimate_cell(criterion.confirm),
            status(criterion.status),
        )
        for criterion in answer.criteria
    ]
    passed = sum(gate.passed is True for gate in answer.gates)
    gates = (
        f"Gates (conditions that come before the criteria) passed: {passed} of {len(answer.gates)}."
    )
    failing = [gate.title for gate in answer.gates if gate.passed is not True]
    if failing:
        gates += " Not passed: " + "; ".join(failing) + "."
    return [
        subsection(f"Criteria at σ = {short(sigma)}"),
        table(
            ("Criterion", "Required", "Screening half", "Confirming half", "Result"),
            rows,
            (3.0, 2.6, 1.25, 1.25, 1.3),
        ),
        paragraph(gates, "small"),
    ]
