"""The verdict as Markdown, short enough for a comment on a pull request."""

from __future__ import annotations

import re
from collections.abc import Sequence

from auditor.results import AuditResult
from reports import sentences, text
from reports.formatting import estimate_line, plural, visible

_SIGNS = {"pass": "✓", "fail": "✗", "inconclusive": "?", "not run": "–"}


def markdown(result: AuditResult) -> str:
    """Heading, σ, three sentences, criteria, what failed, what to do."""
    answer = result.recommendation
    lines = [
        f"## {text.TITLE}: {_plain(sentences.verdict(result))}",
        "",
        f"Model {_plain(result.model.name)} · {plural(len(result.images.names), 'image')} · "
        f"purpose: {_plain(result.profile.name)}",
        "",
        *_table(
            ("", ""),
            (
                *sentences.sigma_facts(result),
                *sentences.methods(result),
                *sentences.checked(result),
            ),
        ),
        "",
        " ".join(_plain(sentence) for sentence in sentences.for_managers(result)),
        "",
    ]
    if answer.criteria:
        rows = [
            (
                criterion.title,
                sentences.requirement(criterion),
                estimate_line(criterion.screen),
                estimate_line(criterion.confirm),
                f"{_SIGNS.get(criterion.status, '')} {criterion.status}",
            )
            for criterion in answer.criteria
        ]
        header = ("Criterion", "Required", "Screening half", "Confirming half", "Result")
        lines += [*_table(header, rows), ""]
    failing = [gate.title for gate in answer.gates if gate.passed is not True]
    if failing:
        lines += [f"Gates not passed: {_plain('; '.join(failing))}.", ""]
    for title, sentences_of_it in (("Why", answer.reasons), ("What to do next", answer.advice)):
        if sentences_of_it:
            lines += [f"**{title}**", "", *(f"- {_plain(s)}" for s in sentences_of_it), ""]
    lines.append(f"Model SHA-256 `{visible(result.model.sha256)[:64]}`, {_plain(result.created)}.")
    return "\n".join(lines) + "\n"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    body = ["| " + " | ".join(_plain(cell) for cell in row) + " |" for row in (header, *rows)]
    return [body[0], "|" + "---|" * len(header), *body[1:]]


def _plain(words: str) -> str:
    """Text in which nothing is markup."""
    return re.sub(r"([\\`*_{}\[\]<>|#~@&])", r"\\\1", visible(words))
