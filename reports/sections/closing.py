"""Limitations, clauses, parameters, reproduction, use of σ, sign-off."""

from __future__ import annotations

from reportlab.platypus import Flowable

from auditor.results import AuditResult
from reports import text
from reports.blocks import bullets, code, facts, gap, paragraph, subsection, table, together
from reports.formatting import count, seconds
from reports.snippet import captum_snippet, method_snippet, own_snippet


def build_limitations(result: AuditResult) -> list[Flowable]:
    """What the figures do not say."""
    return bullets(text.LIMITATIONS)


def build_clauses(result: AuditResult) -> list[Flowable]:
    """Which section is evidence towards which clause."""
    return [
        paragraph(text.CLAUSES_LEAD),
        table(
            ("Clause", "Subject", "Evidence towards it"), text.CLAUSES, (2.2, 3, 2.6), dense=True
        ),
    ]


def build_parameters(result: AuditResult) -> list[Flowable]:
    """Every parameter and who set it."""
    rows = [(setting.name, setting.value, setting.origin) for setting in result.settings]
    return [
        table(("Parameter", "Value", "Origin"), rows, (2, 4, 1.2), dense=True)
        if rows
        else paragraph("No parameter was recorded.")
    ]


def build_reproduction(result: AuditResult) -> list[Flowable]:
    """Environment, costs and the command that repeats the audit."""
    parts: list[Flowable] = [
        subsection("Command"),
        code(result.command),
        subsection("Environment"),
        facts(
            (
                ("Auditor", result.auditor_version),
                ("Date of the audit", result.created),
                ("Seed", str(result.seed)),
                ("Effort", result.effort),
                *sorted(e for e in result.environment.items() if e[0] != "auditor"),
            ),
            abreast=2,
        ),
    ]
    if result.costs:
        rows = [(c.probe, count(c.gradients), count(c.forwards)) for c in result.costs]
        total = (
            "total",
            count(sum(c.gradients for c in result.costs)),
            count(sum(c.forwards for c in result.costs)),
        )
        parts += [
            subsection("Costs in model evaluations"),
            table(("Probe", "Gradients", "Forward passes"), [*rows, total], (3, 1, 1), dense=True),
        ]
    if result.timings:
        parts += [
            subsection("Time"),
            facts(
                (
                    (name, seconds(value))
                    for name, value in result.timings.items()
                    if name != "one gradient"  # not a task; see what an explanation costs
                ),
                abreast=4,
            ),
        ]
    parts.append(paragraph(text.ATTACHMENT))
    return parts


def build_snippet(result: AuditResult) -> list[Flowable]:
    """The recommended map in code."""
    answer, model = result.recommendation, result.model
    if answer.sigma is None:
        return [paragraph(text.NOT_RUN["snippet"])]
    if answer.verdict == "provisional":
        return [paragraph(text.PROVISIONAL_SNIPPET)]
    own = result.explanation
    if own.spec and own.spec != "simple_grad":
        snippet = method_snippet(own.spec, answer.sigma, result.recommended_samples)
        return [paragraph(text.METHOD_SNIPPET_LEAD), code(snippet)]
    if own.name != "simple_grad":
        snippet = own_snippet(own.name, answer.sigma, result.recommended_samples)
        return [paragraph(text.OWN_SNIPPET_LEAD), code(snippet)]
    return [
        paragraph(text.SNIPPET_LEAD),
        code(captum_snippet(answer.sigma, result.recommended_samples, model.mean, model.std)),
    ]


def build_sign_off(result: AuditResult) -> list[Flowable]:
    """Lines to sign, and the history of this report."""
    blank = ""
    lines = [(role, blank, blank, blank) for role in ("Prepared by", "Reviewed by", "Approved by")]
    history = [("1", result.created, f"First issue, by auditor {result.auditor_version}.")]
    history += [(blank, blank, blank)] * 2
    return [
        paragraph(text.SIGN_OFF),
        together(
            table(("Role", "Name", "Date", "Signature"), lines, (1, 2, 1, 2), tall=True), gap(4)
        ),
        subsection("Change history"),
        table(("Version", "Date", "Change"), history, (0.6, 1.6, 4), tall=True),
    ]
