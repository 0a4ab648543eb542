"""How each quantity is defined and where it comes from."""

from __future__ import annotations

from reportlab.platypus import Flowable

from auditor.results import AuditResult
from reports import text
from reports.blocks import paragraph, table
from reports.formatting import count


def build(result: AuditResult) -> list[Flowable]:
    """One row for each method: formula, source, why it fits."""
    height, width = result.model.input_shape[-2:]
    lead = (
        f"In this audit k = {count(result.k)} of {count(height * width)} pixels, "
        f"n = {count(result.samples)} noise draws per map, seed {result.seed}."
    )
    return [
        paragraph(lead),
        table(("Quantity", "Definition", "Source", "Why"), text.METHODS, (1.1, 3.4, 1.6, 1.5)),
    ]
