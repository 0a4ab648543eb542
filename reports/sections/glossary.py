"""What the words of the report mean, without formulas."""

from __future__ import annotations

from reportlab.platypus import Flowable

from auditor.results import AuditResult
from reports.blocks import table
from reports.definitions import TERMS


def build(result: AuditResult) -> list[Flowable]:
    """One row for each term."""
    return [table(("Term", "Meaning", "Range", "Better"), TERMS, (1.5, 4.6, 1.1, 0.7), dense=True)]
