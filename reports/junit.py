"""The verdict as JUnit XML: one test case for each criterion, so that a pipeline shows them."""

from __future__ import annotations

from xml.etree import ElementTree

from auditor.results import AuditResult, CriterionResult
from reports import sentences
from reports.formatting import estimate_line, visible

_CHILD = {"fail": "failure", "inconclusive": "failure", "not run": "skipped"}


def junit(result: AuditResult) -> str:
    """XML with a test case for the verdict and one for each criterion.

    A criterion that is inconclusive is a failure, one that was not run is skipped.
    """
    answer = result.recommendation
    suite = ElementTree.Element("testsuite", name="attribution audit", timestamp=result.created)
    properties = ElementTree.SubElement(suite, "properties")
    facts = {
        "model": result.model.name,
        "model.sha256": result.model.sha256,
        "profile": result.profile.name,
        "verdict": answer.verdict,
        "sigma": "none" if answer.sigma is None else f"{answer.sigma:g}",
    }
    for name, value in facts.items():
        ElementTree.SubElement(properties, "property", name=name, value=visible(value))
    verdict = _case(suite, result, "verdict")
    if answer.verdict != "recommended":
        failure = ElementTree.SubElement(
            verdict, "failure", type=answer.verdict, message=visible(sentences.verdict(result))
        )
        failure.text = "\n".join(visible(line) for line in (*answer.reasons, *answer.advice))
    for criterion in answer.criteria:
        _criterion(_case(suite, result, criterion.title), criterion)
    for count, tag in (("failures", "failure"), ("skipped", "skipped")):
        suite.set(count, str(len(suite.findall(f"testcase/{tag}"))))
    suite.set("errors", "0")
    suite.set("tests", str(len(suite.findall("testcase"))))
    suites = ElementTree.Element("testsuites")
    suites.append(suite)
    ElementTree.indent(suites)
    text: str = ElementTree.tostring(suites, encoding="unicode")
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{text}\n'


def _case(suite: ElementTree.Element, result: AuditResult, name: str) -> ElementTree.Element:
    kind = f"{result.model.name}.{result.profile.name}"
    return ElementTree.SubElement(
        suite, "testcase", classname=visible(kind), name=visible(name), time="0"
    )


def _criterion(case: ElementTree.Element, criterion: CriterionResult) -> None:
    if criterion.status not in _CHILD:
        return
    child = ElementTree.SubElement(
        case, _CHILD[criterion.status], message=visible(f"{criterion.status}: {criterion.reason}")
    )
    if child.tag == "failure":
        child.set("type", criterion.status)
        child.text = visible(
            f"Required: {sentences.requirement(criterion)}. "
            f"Screening half: {estimate_line(criterion.screen)}. "
            f"Confirming half: {estimate_line(criterion.confirm)}."
        )
