from __future__ import annotations

from collections.abc import Callable

import pytest

from auditor.results import AuditResult

from .synthetic import make_result as make


@pytest.fixture(scope="session")
def make_result() -> Callable[..., AuditResult]:
    """Make up an audit; the keywords are the fields of ``Scenario``."""
    return make


@pytest.fixture(scope="session")
def result() -> AuditResult:
    """The audit of a small network with one twin, σ recommended."""
    return make(gallery=2)
