"""What would change the choice of σ: distances to limits, other profiles, equal σ, its cost."""

from __future__ import annotations

from reportlab.platypus import Flowable

from auditor.results import AuditResult, CriterionResult, Estimate, ProfileAnswer
from reports import sentences
from reports.blocks import bullets, facts, paragraph, status, subsection, table
from reports.formatting import count, join, number, percent, short
from reports.series import estimate, focus

ENOUGH = 0.1
"""Map error, as a share of the map's norm, at which noise draws suffice."""

PLANTED = (
    "not checked: whether the map finds evidence that was put into a picture on purpose. "
    "auditor.quality.PlantedTruth does it in Python."
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
    sentences = [
        f"{looks} values of σ were looked at on the screening half, and one went on to the "
        "confirmation half: its intervals there are those of a single test, however many were "
        "looked at before. At confidence "
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
    draws = answer.samples if sigma else 1
    gradients = draws * result.explanation.price
    rows = [("Gradients per explanation", f"{count(gradients)} (σ = {short(sigma)}, n = {draws})")]
    price = result.timings.get("one gradient")
    if price is not None:
        rows.append(
            ("Time per explanation here", f"{number(1000 * gradients * price)} ms, in batches")
        )
    error = estimate(result, probe="smoothing", metric="map_error", sigma=sigma)
    if error is not None and sigma:
        # The standard error of a mean falls like 1/√n.
        needed = max(2, round(draws * (error.mean / ENOUGH) ** 2 + 0.5))
        rows.append(("Error of the map", f"{percent(error.mean)} of its norm at n = {draws}"))
        advice = (
            f"{count(needed)} draws reach {percent(ENOUGH)}; the gates were measured at n = {draws}"
            if needed != draws
            else f"{draws}"
        )
        rows.append(("Recommended n", advice))
    rows.append(("Planted evidence", PLANTED))
    return [subsection("What an explanation costs, and what was not checked"), facts(rows)]


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
