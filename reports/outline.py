"""The sections of the report in their order; adding one is a module and a line here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from reportlab.platypus import Flowable

from auditor.results import AuditResult
from reports.sections import (
    answers,
    appendix,
    attack,
    bounds,
    closing,
    curvature,
    decision,
    gallery,
    glossary,
    methods,
    quality,
    scope,
    smoothing,
    twins,
    verdict,
)


@dataclass(frozen=True)
class Section:
    """A title and what builds the flowables below it.

    ``brief`` builds less, for a report that would be too long otherwise.
    """

    title: str
    build: Callable[[AuditResult], list[Flowable]]
    brief: Callable[[AuditResult], list[Flowable]] | None = None


SECTIONS = (
    Section("Verdict", verdict.build),
    Section("Scope and identity", scope.build),
    Section("Threat model", scope.build_threat_model),
    Section("Criteria declared before the results", scope.build_criteria),
    Section("Methods", methods.build),
    Section("Attack results", attack.build),
    Section("Images and their maps", gallery.build),
    Section("Effect of smoothing", smoothing.build),
    Section("Quality of the maps", quality.build),
    Section("Comparison with twins", twins.build, partial(twins.build, most=1)),
    Section("Curvature", curvature.build),
    Section("Bounds and certificates", bounds.build),
    Section("The choice of σ", decision.build),
    Section("What would change the choice", answers.build),
    Section("Limitations", closing.build_limitations),
    Section("Evidence towards clauses", closing.build_clauses),
    Section("Parameters", closing.build_parameters),
    Section("Reproduction", closing.build_reproduction),
    Section("Using the recommended σ", closing.build_snippet),
    Section("Glossary", glossary.build),
    Section("Sign-off", closing.build_sign_off),
    Section("Appendix: image by image", appendix.build, partial(appendix.build, most=60)),
)
