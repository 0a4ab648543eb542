"""How σ was chosen: every candidate with its gates, criteria, objective and bootstrap wins."""

from __future__ import annotations

from reportlab.platypus import Flowable

from auditor.results import AuditResult, CriterionResult, Gate, SigmaOption
from reports import sentences, text
from reports.blocks import beside, bullets, facts, paragraph, status, subsection, table
from reports.charts import Candidate, bar_chart, front_chart
from reports.formatting import (
    NOTHING,
    Markup,
    count,
    estimate_cell,
    estimate_inline,
    join,
    markup,
    number,
    percent,
    short,
)
from reports.series import estimate, focus, headline_epsilon
from reports.style import LOOKS, TEXT_WIDTH

_HALF = TEXT_WIDTH / 2 - 6


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
            ),
            abreast=2,
        ),
    ]
    parts += _methods(result)
    if answer.reasons:
        parts += [subsection("Reasons"), *bullets(answer.reasons)]
    if not answer.options:
        return [*parts, paragraph("No σ was examined.")]
    parts += [subsection("Every σ that was examined"), _options(result)]
    parts.append(beside(*filter(None, (_front(result), [_wins(result)]))))
    parts += _gates(answer.options)
    parts += _criteria(result)
    return parts


def _methods(result: AuditResult) -> list[Flowable]:
    """The answers of all methods, where several were audited."""
    if not result.methods:
        return []
    pairs = len(result.recommendation.options) * sum(
        m.verdict != "not applicable" for m in result.methods
    )
    return [
        subsection("Every method that was audited"),
        paragraph(text.METHODS_READING.format(pairs=pairs), "caption"),
        table(
            ("Method", "Its verdict", "Its σ", "Objective", "Gradients", "Why"),
            [
                (
                    _emphasized(method.name, method.chosen),
                    status(method.verdict),
                    short(method.sigma),
                    estimate_cell(method.objective),
                    NOTHING if method.gradients is None else count(method.gradients),
                    method.reason,
                )
                for method in result.methods
            ],
            (1.6, 1.3, 0.7, 1.6, 0.9, 3.6),
        ),
    ]


def _options(result: AuditResult) -> Flowable:
    chosen = focus(result)
    rows = [
        (
            _emphasized(short(option.sigma), option.sigma == chosen),
            short(255 * option.sigma),
            status(option.status),
            _tally(sum(g.passed is True for g in option.gates), len(option.gates)),
            _tally(sum(c.status == "pass" for c in option.criteria), len(option.criteria)),
            estimate_inline(option.objective),
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
        (0.8, 0.8, 1.5, 0.9, 0.9, 1.9, 0.8, 1.0),
        dense=True,
    )


def _front(result: AuditResult) -> list[Flowable]:
    """What survives an attack against what smoothing costs, σ by σ."""
    epsilon, chosen = headline_epsilon(result), focus(result)
    found = []
    for option in result.recommendation.options:
        kept = estimate(
            result,
            probe="attack",
            attack="strongest",
            metric="topk_intersection",
            sigma=option.sigma,
            epsilon=epsilon,
        )
        cost = estimate(
            result, probe="smoothing", metric="normalized_fidelity_error", sigma=option.sigma
        )
        if kept is not None and (cost is not None or option.sigma == 0):
            found.append(
                Candidate(
                    label=short(option.sigma),
                    x=kept.mean,
                    y=cost.mean if cost else 0.0,  # the unsmoothed map is at no distance to itself
                    on_front=option.on_front,
                    chosen=option.sigma == chosen,
                )
            )
    if len(found) < 2:
        return []
    return [
        front_chart(
            title="What an attack leaves, what smoothing costs",
            candidates=found,
            x_title=f"overlap under attack, ε = {short(epsilon)}/255 (right is better)",
            y_title="fidelity error, normalized (lower is better)",
            look=LOOKS["plain"],
            width=_HALF,
        ),
        paragraph(text.FRONT_READING, "caption"),
    ]


def _wins(result: AuditResult) -> Flowable:
    answer = result.recommendation
    bars = [(short(option.sigma), option.wins) for option in answer.options]
    chosen = focus(result)
    return bar_chart(
        title="How often each σ was chosen, images resampled",
        bars=[*bars, ("none", answer.none_share)],
        x_title="smoothing σ (pixel units)",
        width=_HALF,
        height=180,
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
        table(("σ", *titles.values()), rows, (0.55, *[1.0] * len(titles)), dense=True),
        *bullets(sorted(open_gates)),
    ]


def _gate_cell(gate: Gate | None) -> Markup:
    if gate is None:
        return status("not run")
    outcome = status(sentences.gate_status(gate))
    return join([outcome, sentences.gate_line(gate)])


def _criteria(result: AuditResult) -> list[Flowable]:
    """Every criterion at every σ, and the reasons at the σ in question."""
    options = result.recommendation.options
    titles: dict[str, str] = {c.name: c.title for o in options for c in o.criteria}
    if not titles:
        return []
    rows = []
    for option in options:
        by_name = {criterion.name: criterion for criterion in option.criteria}
        rows.append((short(option.sigma), *(_criterion_cell(by_name.get(name)) for name in titles)))
    reasons = [f"{c.title}: {c.reason}" for c in result.recommendation.criteria if c.reason]
    return [
        subsection("Criteria at every σ, on both halves of the images"),
        paragraph("Result, then means on the screening and on the confirming half.", "caption"),
        table(("σ", *titles.values()), rows, (0.55, *[1.4] * len(titles)), dense=True),
        *(
            [subsection("At the σ in question", reserve=30), *bullets(reasons, "note")]
            if reasons
            else []
        ),
    ]


def _criterion_cell(criterion: CriterionResult | None) -> Markup:
    if criterion is None:
        return status("not run")
    means = " · ".join(
        number(half.mean) if half else NOTHING for half in (criterion.screen, criterion.confirm)
    )
    return join([status(criterion.status), means])


def _tally(passed: int, of: int) -> str:
    return f"{passed} of {of}"


def _emphasized(label: str, chosen: bool) -> str:
    return Markup(f"<b>{markup(label)}</b>") if chosen else label
