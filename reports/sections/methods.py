"""How each quantity is defined and where it comes from."""

from __future__ import annotations

from reportlab.platypus import Flowable

from auditor.results import AuditResult, ExplanationRecord
from reports import definitions
from reports.blocks import paragraph, table
from reports.formatting import count, plural


def build(result: AuditResult) -> list[Flowable]:
    """One row for each method: formula, source, why it fits."""
    height, width = result.model.input_shape[-2:]
    lead = (
        f"In this audit k = {count(result.k)} of {count(height * width)} pixels, "
        f"n = {count(result.samples)} noise draws per map, seed {result.seed}."
    )
    return [
        paragraph(lead),
        table(
            ("Quantity", "Definition", "Source", "Why"),
            (*_explanation(result.explanation), *definitions.METHODS[2:]),
            (1.1, 3.4, 1.6, 1.5),
            dense=True,
        ),
    ]


def _explanation(record: ExplanationRecord) -> tuple[tuple[str, str, str, str], ...]:
    """The first two rows: what is explained, and its smoothed form."""
    plain = definitions.METHODS[:2]
    if record.name == "simple_grad":
        return plain
    attacked = definitions.NOT_DIFFERENTIABLE
    if record.differentiable:
        attacked = definitions.DIFFERENTIABLE
    price = plural(record.price, "gradient")
    formula = f"a(x) = {record.formula}. " if record.formula else ""
    own = definitions.OWN_EXPLANATION.format(price=price, attacked=attacked, formula=formula)
    if record.formula and record.identity:
        own += f" Here {record.identity}."
    if record.random:
        own += " " + definitions.RANDOM_EXPLANATION
    return (
        (
            record.name,
            own,
            record.source,
            definitions.CHOSEN if record.formula else definitions.OWN,
        ),
        ("Smoothed form", definitions.OWN_SMOOTHED, *plain[1][2:]),
    )
