"""What the words of the report mean, without formulas."""

from __future__ import annotations

from reportlab.platypus import Flowable

from auditor.results import AuditResult
from reports.blocks import columns, paragraph
from reports.definitions import TERMS
from reports.formatting import Markup, join, markup


def build(result: AuditResult) -> list[Flowable]:
    """Each term with its meaning, its range and which way is better, in two columns."""
    return [columns([paragraph(_entry(*term), "cell") for term in TERMS])]


def _entry(term: str, meaning: str, span: str, better: str) -> Markup:
    limits = ", ".join(filter(None, (span, better and f"{better} is better")))
    words = [Markup(f"<b>{markup(term)}</b>:"), meaning]
    return join([*words, f"({limits})"] if limits else words)
