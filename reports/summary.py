"""The one table that an audit prints on the terminal."""

from __future__ import annotations

from rich.table import Table
from rich.text import Text

from auditor.results import AuditResult, CriterionResult
from reports import sentences
from reports.formatting import count, estimate_line, short, visible
from reports.series import estimate, focus, headline_epsilon

WIDTH = 80
_COLORS = {
    "recommended": "green",
    "pass": "green",
    "no_sigma": "red",
    "fail": "red",
    "inconclusive": "yellow",
    "provisional": "yellow",
}


def summary_table(result: AuditResult) -> Table:
    """Verdict, σ, attack results and criteria in a table that fits 80 columns.

    Names from outside are shown literally: no markup, no control characters.
    """
    answer = result.recommendation
    table = Table(
        title=_text(f"{result.model.name}: {sentences.verdict(result)}"),
        title_style=f"bold {_COLORS.get(answer.verdict, '')}".strip(),
        show_header=False,
        width=WIDTH,
    )
    table.add_column(overflow="fold", ratio=3)
    table.add_column(overflow="fold", ratio=5)
    for name, value in (*sentences.sigma_facts(result), *_measured(result)):
        table.add_row(_text(name), _text(value))
    table.add_section()
    for criterion in answer.criteria:
        table.add_row(_text(criterion.title), _outcome(criterion))
    table.add_section()
    for name, value in (*sentences.methods(result), *sentences.checked(result)):
        table.add_row(_text(name), _text(value))
    for reason in answer.reasons:
        table.add_row("Reason", _text(reason))
    for advice in answer.advice:
        table.add_row("What to do next", _text(advice))
    return table


def _measured(result: AuditResult) -> list[tuple[str, str]]:
    images = result.images
    rows = [("Images audited", f"{count(len(images.names))} of {count(images.available)}")]
    epsilon = headline_epsilon(result)
    if epsilon is None:
        return rows
    for sigma in dict.fromkeys((0.0, focus(result))):
        if sigma is None:
            continue
        found = estimate(
            result,
            probe="attack",
            attack="strongest",
            metric="topk_intersection",
            sigma=sigma,
            epsilon=epsilon,
        )
        name = f"Attacked overlap, ε = {short(epsilon)}/255, σ = {short(sigma)}"
        rows.append((name, estimate_line(found)))
    return rows


def _outcome(criterion: CriterionResult) -> Text:
    return Text.assemble(
        (criterion.status, _COLORS.get(criterion.status, "")),
        f"; required: {visible(sentences.requirement(criterion))}; confirming half: ",
        estimate_line(criterion.confirm),
    )


def _text(value: str) -> Text:
    return Text(visible(value))
