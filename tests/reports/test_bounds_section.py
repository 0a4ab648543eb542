from __future__ import annotations

import dataclasses
import re

import numpy as np
import pytest
from reportlab.platypus import Paragraph, Table

import reports
from auditor.results import Assumption, AuditResult, Bound
from reports.sections import bounds
from reports.style import register_fonts

from .synthetic import make_result


def bound(**changes: object) -> Bound:
    given: dict[str, object] = {
        "name": "topk_certificate",
        "title": "Top-k overlap",
        "source": "Levine 2019",
        "kind": "lower",
        "unit": "ratio",
        "values": (0.45, 0.3),
        "measured": (0.85, None),
        "vacuous": (False, False),
        "images": (0, 1),
        "sigma": 0.1,
        "radius": 0.05,
        "assumptions": (Assumption(text="Fixed class", status="met"),),
    }
    return Bound(**(given | changes))


def words(result: AuditResult) -> str:
    """The text of the section, drawings aside."""
    register_fonts()
    found: list[str] = []
    waiting = list(bounds.build(result))
    while waiting:
        part = waiting.pop(0)
        if isinstance(part, Paragraph):
            found.append(re.sub("<[^>]*>", "", part.text))
        elif isinstance(part, Table):
            waiting = [cell for row in part._cellvalues for cell in row] + waiting
        elif isinstance(part, list):
            waiting = part + waiting
    return " ".join(found)


def test_brackets_curve_and_theorems_are_printed(tmp_path):
    theorem = bound(
        name="stability",
        title="Stability error of the gradient",
        source="Theorem 5",
        kind="upper",
        unit="map units",
        values=(431.2,),
        measured=(0.1,),
        vacuous=(True,),
        images=(),
        radius=None,
        log10=True,
        note="n = 100.",
        assumptions=(Assumption(text="No kinks", status="not met", reason="ReLU."),),
    )
    curvature = bound(name="logit_curvature", kind="estimate", title="Drift", radius=0.1)
    result = make_result()
    directions = {
        "direction": np.ones((1, 1, 28, 28), dtype=np.float32),
        "direction_index": np.array([1]),
    }
    result = dataclasses.replace(
        result,
        bounds=(bound(), bound(radius=0.1, measured=(None, None), note="few"), curvature, theorem),
        gallery={**result.gallery, **directions},
    )
    text = words(result)
    reports.write_pdf(result, tmp_path / "report.pdf")  # everything fits on its page
    assert "0.450 to 0.850 0.400" in text  # certified, attacked, width
    assert "1.58 × 10^431" in text
    assert "1 of 2 assumptions are not met" in text
    assert "The direction in which an explanation breaks" in text
    assert "|λ| = 0.300" in text
    assert "Stability error of the gradient: n = 100." in text


@pytest.mark.parametrize("known", [(), (bound(measured=(None, None)),)], ids=["none", "one side"])
def test_what_is_missing_is_said(known):
    text = words(dataclasses.replace(make_result(), bounds=known))
    assert ("this audit has no bounds" if not known else "no bracket has two sides") in text


def test_a_crossed_bracket_is_called_a_fault():
    result = dataclasses.replace(make_result(), bounds=(bound(measured=(0.2, None)),))
    assert "1 bracket crossed: this is a fault of the auditor." in words(result)
