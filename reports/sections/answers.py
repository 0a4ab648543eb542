"""What would change the choice of σ: distances to limits, other profiles, equal σ, its cost."""

from __future__ import annotations

from reportlab.platypus import Flowable

from auditor.results import AuditResult, CriterionResult, Estimate, FollowUp, ProfileAnswer
from reports import sentences
from reports.blocks import bullets, facts, paragraph, status, subsection, table
from reports.formatting import count, join, number, percent, short
from reports.series import estimate, focus

HOW_PLANTED = (
    "Two copies of the model learn, from pictures that hold two of the images side by side, to "
    "tell the class of the left one, and of the right one. Only pictures count in which the "
    "prediction depends on that half and on nothing else; the same picture is explained for both."
)


def build(result: AuditResult) -> list[Flowable]:
    """Distances, equal σ, cost, and every profile that was tried."""
    return [
        *_distances(result),
        *_multiplicity(result),
        *_cost(result),
        *_others(result),
        *_tried(result),
    ]


def _distances(result: AuditResult) -> list[Flowable]:
    criteria = result.recommendation.criteria
    if not criteria:
        return [paragraph("No criterion was evaluated.")]
    rows = [
        (
            criterion.title,
            sentences.requirement(criterion),
            _distance(criterion, criterion.screen),
            _distance(criterion, criterion.confirm),
            criterion.basis,
        )
        for criterion in criteria
    ]
    return [
        subsection(f"Distance to each limit at σ = {short(criteria[0].sigma)}"),
        paragraph(
            "From the confidence limit that counts to the bound; positive: passed with that much "
            "to spare. A change of the bound, or of the map, by more than this turns the outcome."
        ),
        table(
            ("Criterion", "Required", "Screening half", "Confirming half", "Kind of source"),
            rows,
            (2.8, 2.2, 1.2, 1.2, 1.2),
        ),
    ]


def _distance(criterion: CriterionResult, found: Estimate | None) -> str:
    if found is None:
        return "not run"
    at_least = criterion.comparison == ">="
    spare = found.low - criterion.bound if at_least else criterion.bound - found.high
    return f"{spare:+.3f}"


def _multiplicity(result: AuditResult) -> list[Flowable]:
    answer = result.recommendation
    looks = len(answer.options)
    several = sum(method.verdict != "not applicable" for method in result.methods)
    what = f"pairs of method and σ ({several} methods)" if several > 1 else "values of σ"
    sentences = [
        f"{looks * max(several, 1)} {what} were looked at on the screening half, and one went on "
        "to the confirmation half: its intervals there are those of a single test, however many "
        "were looked at before. At confidence "
        f"{percent(result.profile.confidence)} a criterion that is not met passes there with "
        f"probability {number(50 * (1 - result.profile.confidence))}% at most."
    ]
    if len(answer.equivalent) > 1:
        listed = ", ".join(short(sigma) for sigma in answer.equivalent)
        sentences.append(
            f"The data cannot tell σ = {listed} apart: all pass on the screening half, and no "
            "objective is shown to be worse than the best by more than what the profile calls "
            "indifferent. The best mean was chosen, and of equal ones the smallest σ."
        )
    return [subsection("How many were looked at"), *bullets(sentences)]


def _cost(result: AuditResult) -> list[Flowable]:
    sigma, answer = focus(result), result.recommendation
    if sigma is None:
        return []
    draws = result.recommended_samples if sigma else 1
    gradients = draws * result.explanation.price
    rows = [("Gradients per explanation", f"{count(gradients)} (σ = {short(sigma)}, n = {draws})")]
    price = result.timings.get("one gradient")
    if price is not None:
        rows.append(
            ("Time per explanation here", f"{number(1000 * gradients * price)} ms, in batches")
        )
    error = estimate(result, probe="smoothing", metric="map_error", sigma=sigma)
    checked = next((c for c in result.follow_ups if c.sigma == sigma), None)
    if error is not None and sigma and checked is None:
        rows.append(("Error of the map", f"{percent(error.mean)} of its norm at n = {draws}"))
    title = subsection("What an explanation costs, and what was checked of it")
    if checked is None:
        why = "only a recommended σ is checked" if answer.sigma is None else "of an older audit"
        return [title, facts([*rows, ("Planted evidence", f"not checked: {why}")])]
    rows.append(("Recommended n", f"{count(checked.samples)}. {checked.samples_reason}"))
    rows.append(("Planted evidence", f"{checked.planted}. {checked.planted_reason}"))
    return [
        title,
        facts(rows),
        *([] if checked.planted == "not checked" else [paragraph(HOW_PLANTED, "caption")]),
        *_gates_again(checked),
    ]


def _gates_again(checked: FollowUp) -> list[Flowable]:
    if not checked.gates:
        return []
    heading = f"Gates with n = {checked.remeasured}, on {checked.images} images"
    rows = [
        (gate.title, sentences.gate_line(gate), status(sentences.gate_status(gate)))
        for gate in checked.gates
    ]
    return [table((heading, "Value", "Result"), rows, (5, 2, 1.5))]


def _others(result: AuditResult) -> list[Flowable]:
    if not result.other_profiles:
        return []
    return [
        subsection("What other profiles would choose from the same records"),
        table(
            ("Profile", "Answer", "Reason, and what was not measured for it"),
            [_other(answer) for answer in result.other_profiles],
            (1.4, 1.6, 5.0),
        ),
    ]


def _other(answer: ProfileAnswer) -> tuple[str, ...]:
    found = f"σ = {short(answer.sigma)}" if answer.sigma is not None else status(answer.verdict)
    lacks = f"Not measured: {'; '.join(answer.missing)}." if answer.missing else ""
    return (answer.name, found, join(filter(None, (answer.reason, lacks))))


def _tried(result: AuditResult) -> list[Flowable]:
    rows = [(name, when, sha) for name, sha, when in result.profile.tried]
    return [
        subsection("Profiles tried on this run"),
        paragraph(
            "The first was declared before anything was measured, and the verdict is its. Each "
            "further one was tried on the same records; a σ that only one of many allows was "
            "looked for."
        ),
        table(("Profile", "When", "SHA-256 of the profile"), rows, (1.4, 2.0, 4.6)),
    ]
