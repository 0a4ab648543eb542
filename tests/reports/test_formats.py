"""JSON, JUnit and Markdown of an audit."""

from __future__ import annotations

import dataclasses
import re
from xml.etree import ElementTree

import pytest

from auditor.results import AuditResult
from reports import FILES, write_report
from reports.formatting import short
from reports.junit import junit
from reports.markdown import markdown

KINDS = ("recommended", "no_sigma", "inconclusive")
HOSTILE = "a|b <script>*x*</script>\n[y](z) \udc80\x00&"


def test_every_format_has_a_file_and_is_the_same_each_time(result, tmp_path):
    for form, name in FILES.items():
        write_report(result, tmp_path / name, form=form)
        first = (tmp_path / name).read_bytes()
        write_report(result, tmp_path / name, form=form)
        assert (tmp_path / name).read_bytes() == first
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(FILES.values())


def test_json_is_the_result(result, tmp_path):
    write_report(result, tmp_path / "r.json", form="json")
    assert AuditResult.from_json((tmp_path / "r.json").read_text(encoding="utf-8")) == result


@pytest.mark.parametrize("kind", KINDS)
def test_junit_has_a_case_for_the_verdict_and_each_criterion(make_result, kind):
    result = make_result(verdict=kind)
    suite = ElementTree.fromstring(junit(result)).find("testsuite")
    cases = suite.findall("testcase")
    criteria = result.recommendation.criteria
    assert [c.get("name") for c in cases] == ["verdict", *(c.title for c in criteria)]
    outcome = ["pass" if kind == "recommended" else "fail", *(c.status for c in criteria)]
    expected = {"pass": None, "fail": "failure", "inconclusive": "failure", "not run": "skipped"}
    for case, status in zip(cases, outcome, strict=True):
        assert (case[0].tag if len(case) else None) == expected[status]
    for count, tag in (("failures", "failure"), ("skipped", "skipped")):
        assert suite.get(count) == str(sum(expected[o] == tag for o in outcome))
    assert suite.get("tests") == str(len(cases))


@pytest.mark.parametrize("kind", KINDS)
def test_markdown_has_verdict_sigma_criteria_and_advice(make_result, kind):
    result = make_result(verdict=kind)
    words = markdown(result)
    answer = result.recommendation
    assert words.startswith("## Audit of explanations: ")
    if answer.sigma is not None:
        assert f"σ = {short(answer.sigma)}" in words
    for criterion in answer.criteria:
        assert re.search(
            rf"^\| {re.escape(criterion.title)} .* {criterion.status} \|$", words, re.M
        )
    for line in answer.advice:
        assert f"- {line}" in words


def test_names_from_outside_stay_text(result):
    hostile = dataclasses.replace(result, model=dataclasses.replace(result.model, name=HOSTILE))
    words = markdown(hostile)
    line = next(line for line in words.splitlines() if line.startswith("Model "))
    assert r"a\|b \<script\>\*x\*" in line
    assert "\x00" not in words
    suite = ElementTree.fromstring(junit(hostile)).find("testsuite")
    assert suite.find("testcase").get("classname").startswith("a|b <script>*x*</script>\\n[y](z)")
