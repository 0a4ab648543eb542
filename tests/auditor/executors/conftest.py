"""A small audit, and what one process finds in it."""

from __future__ import annotations

import dataclasses
import json

import pytest

import auditor
from auditor.engine import execute
from auditor.plan import Plan, make_plan
from auditor.results import AuditResult
from auditor.store import RunFolder


@pytest.fixture(scope="session")
def plan(classifier, twin, images) -> Plan:
    """Five images in parts of two, at two σ."""
    few = auditor.from_arrays(images.pixels[:5], images.labels[:5])
    planned = make_plan(
        classifier, few, twins=[twin], effort="quick", sigmas=(0.1,), samples=3, budget=60
    )
    fewer = dataclasses.replace(planned.settings, chunk=2, quality_images=0, bound_images=1)
    return dataclasses.replace(planned, settings=fewer)


@pytest.fixture(scope="session")
def alone(plan, tmp_path_factory) -> AuditResult:
    """What one process finds."""
    return execute(plan, RunFolder(tmp_path_factory.mktemp("alone")), command="")


@pytest.fixture(scope="session")
def figures():
    """What must not depend on where an audit runs."""

    def of(result) -> dict:
        record = json.loads(result.to_json())
        return {
            name: record[name] for name in ("measurements", "recommendation", "bounds", "costs")
        }

    return of
