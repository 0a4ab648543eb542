"""How σ was chosen: every candidate with its gates, criteria, objective and bootstrap wins."""

from __future__ import annotations

from reportlab.platypus import Flowable

from auditor.results import AuditResult, CriterionResult, Gate, SigmaOption
from reports import sentences, text
from reports.blocks import bullets, facts, paragraph, status, subsection, table
from reports.charts import bar_chart
from reports.formatting import Markup, estimate_cell, markup, percent, short
from reports.series import focus


def build(result: AuditResult) -> list[Flowable]:
    """Verdict, table of σ, wins, gates and criteria at every σ."""
    answer = result.recommendation
    parts: list[Flowable] = [
        paragraph(text.DECISION_READING),
        facts(
            (
                ("Verdict", sentences.verdict(result)),
                ("Objective", result.profile.objective),
                *sentences.sigma_facts(result),
                ("No σ chosen", f"in {percent(answer.none_share)} of the bootstrap resamples"),
            )
        ),
    ]
    if answer.reasons:
        parts += [subsection("Reasons"), *bullets(answer.reasons)]
    if not answer.options:
        return [*parts, paragraph("No σ was examined.")]
    parts += [subsection("Every σ that was examined"), _options(result), _wins(result)]
    parts += _gates(answer.options)
    parts += _criteria(answer.options)
    return parts


def _options(result: AuditResult) -> Flowable:
    chosen = focus(result)
    rows = [
        (
            _emphasized(short(option.sigma), option.sigma == chosen),
            short(255 * option.sigma),
            status(option.status),
            _tally(sum(g.passed is True for g in option.gates), len(option.gates)),
            _tally(sum(c.status == "pass" for c in option.criteria), len(option.criteria)),
            estimate_cell(option.objective),
            "yes" if option.on_front else "no",
            percent(option.wins),
        )
        for option in result.recommendation.options
    ]
    return table(
        (
            "σ",
            "σ (0–255)",
            "Status (screening half)",
            "Gates passed",
            "Criteria passed",
            "Objective (screening half)",
            "Pareto front",
            "Bootstrap wins",
        ),
        rows,
        (0.9, 0.9, 1.5, 1, 1, 1.6, 0.9, 1.0),
    )


def _wins(result: AuditResult) -> Flowable:
    answer = result.recommendation
    bars = [(short(option.sigma), option.wins) for option in answer.options]
    chosen = focus(result)
    return bar_chart(
        title="How often each σ was chosen when the images were resampled",
        bars=[*bars, ("none", answer.none_share)],
        x_title="smoothing σ (pixel units)",
        mark=next((i for i, o in enumerate(answer.options) if o.sigma == chosen), None),
    )


def _gates(options: tuple[SigmaOption, ...]) -> list[Flowable]:
    titles: dict[str, str] = {gate.name: gate.title for o in options for gate in o.gates}
    if not titles:
        return []
    rows = []
    for option in options:
        by_name = {gate.name: gate for gate in option.gates}
        rows.append((short(option.sigma), *(_gate_cell(by_name.get(name)) for name in titles)))
    open_gates = {
        f"{gate.title}: {gate.reason}"
        for option in options
        for gate in option.gates
        if gate.passed is None and gate.reason
    }
    return [
        subsection("Gates"),
        table(("σ", *titles.values()), rows, (0.55, *[1.0] * len(titles))),
        *bullets(sorted(open_gates)),
    ]


def _gate_cell(gate: Gate | None) -> Markup:
    if gate is None:
        return status("not run")
    outcome = status(sentences.gate_status(gate))
    return Markup(f"{outcome}<br/>{markup(sentences.gate_line(gate))}")


def _criteria(options: tuple[SigmaOption, ...]) -> list[Flowable]:
    rows = [_criterion_row(criterion) for option in options for criterion in option.criteria]
    if not rows:
        return []
    return [
        subsection("Criteria at every σ, on both halves of the images"),
        table(
            ("σ", "Criterion", "Required", "Screening", "Confirming", "Result", "Reason"),
            rows,
            (0.8, 1.9, 1.5, 1.2, 1.2, 1.3, 2.4),
        ),
    ]


def _criterion_row(criterion: CriterionResult) -> tuple[str, ...]:
    return (
        short(criterion.sigma),
        criterion.title,
        sentences.requirement(criterion),
        estimate_cell(criterion.screen),
        estimate_cell(criterion.confirm),
        status(criterion.status),
        criterion.reason,
    )


def _tally(passed: int, of: int) -> str:
    return f"{passed} of {of}"


def _emphasized(label: str, chosen: bool) -> str:
    return Markup(f"<b>{markup(label)}</b>") if chosen else label
