"""A profile's criteria against the measurements: pass, fail, inconclusive or not run.

A criterion passes on a half of the images if the confidence limit nearer to the bound clears it,
and fails if the other limit is on the wrong side as well. Limits are those of the two-sided
interval at the profile's confidence, so a wrong pass has half of the remaining probability. Many
σ are looked at, and their intervals are not widened for it: what guards against a lucky σ is that
the one chosen must pass again on images that had no part in the choice.
"""

from __future__ import annotations

from dataclasses import dataclass

from auditor.evidence import FEWEST_IMAGES, Evidence, Values
from auditor.results import CriterionResult, Estimate
from auditor.validity import Convergence, doubt, unsettled
from profiles import Criterion


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What one half of the images, or the doubled budget, says of a criterion.

    `cause` is empty for a pass, else ``limit`` (failed), ``undecided``, ``few``, ``missing``,
    ``weak``, ``saturated``, ``floor``, ``unchecked`` or ``unconverged``; `shortfall` is how far
    the limit that counts misses the bound. `lost` says that no further data or stronger attack can
    make it pass: it failed, or the attack is in doubt but already leaves too little of the map.
    """

    status: str
    reason: str
    cause: str = ""
    estimate: Estimate | None = None
    shortfall: float = 0.0
    lost: bool = False


@dataclass(frozen=True, kw_only=True)
class Judged:
    """A criterion at one σ on both halves; `doubling` is ``None`` where nothing is attacked."""

    criterion: Criterion
    sigma: float
    values: Values | None
    screen: Finding
    confirm: Finding
    doubling: Finding | None

    @property
    def findings(self) -> tuple[Finding, ...]:
        """All that must pass."""
        return (self.screen, self.confirm, *([self.doubling] if self.doubling else []))

    @property
    def status(self) -> str:
        """Combined: ``pass`` only if everything passes, ``fail`` if anything fails."""
        found = [finding.status for finding in self.findings]
        return next((s for s in ("not run", "fail", "inconclusive") if s in found), "pass")

    @property
    def lost(self) -> bool:
        """Whether nothing can make it pass any more."""
        return any(finding.lost for finding in self.findings)

    @property
    def decisive(self) -> tuple[Finding, ...]:
        """The findings that the combined status rests on."""
        return tuple(f for f in self.findings if f.status == self.status)

    def result(self) -> CriterionResult:
        """The record for the report."""
        criterion = self.criterion
        return CriterionResult(
            name=criterion.name,
            title=criterion.title,
            metric=criterion.metric,
            comparison=criterion.comparison,
            bound=criterion.bound,
            because=criterion.because,
            basis=criterion.basis,
            sigma=self.sigma,
            screen=self.screen.estimate,
            confirm=self.confirm.estimate,
            status=self.status,
            reason=" ".join(dict.fromkeys(f.reason for f in self.decisive)),
        )


def judge(
    criterion: Criterion,
    evidence: Evidence,
    *,
    sigma: float,
    confidence: float,
    convergence: Convergence,
) -> Judged:
    """Judge a criterion at one σ, with the worst of several twins."""
    worst = "smallest" if criterion.comparison == ">=" else "largest"
    confidence = criterion.confidence or confidence
    values = evidence.find(criterion, sigma=sigma, worst=worst, compared_to=criterion.compared_to)
    epsilon = criterion.epsilon_at(evidence.height, evidence.width)

    def on(half: str) -> Finding:
        if values is None:
            twin = criterion.probe == "twin"
            reason = "No twin was compared." if twin else "Not measured at this σ."
            return Finding(status="not run", reason=reason, cause="missing")
        estimate = evidence.estimate(values, half, confidence)
        counted = 0 if estimate is None else estimate.n
        if estimate is None or counted < criterion.images or not evidence.enough:
            size = min(len(evidence.screen), len(evidence.confirm))
            reason = (
                f"Only {counted} images of the {half} half count; {criterion.images} are needed."
                if evidence.enough
                else f"The smaller half has {size} images; {FEWEST_IMAGES} are needed in each."
            )
            return Finding(status="inconclusive", reason=reason, cause="few", estimate=estimate)
        finding = _against_bound(criterion, estimate, half)
        if epsilon is None:
            return finding
        doubted = doubt(evidence, sigma=sigma, epsilon=epsilon, half=half)
        return finding if doubted is None else _doubted(criterion, finding, *doubted)

    doubling = None
    if epsilon is not None and values is not None:
        cause, reason = unsettled(evidence, sigma=sigma, epsilon=epsilon, convergence=convergence)
        doubling = Finding(status="inconclusive" if cause else "pass", reason=reason, cause=cause)
    return Judged(
        criterion=criterion,
        sigma=sigma,
        values=values,
        screen=on("screening"),
        confirm=on("confirmation"),
        doubling=doubling,
    )


def _against_bound(criterion: Criterion, estimate: Estimate, half: str) -> Finding:
    bound = criterion.bound
    at_least = criterion.comparison == ">="
    near, far = (estimate.low, estimate.high) if at_least else (estimate.high, estimate.low)
    figure = f"{estimate.mean:.3f} [{estimate.low:.3f}, {estimate.high:.3f}] on the {half} half"
    if near >= bound if at_least else near <= bound:
        return Finding(status="pass", reason=f"{figure}.", estimate=estimate)
    fails = far < bound if at_least else far > bound
    missed = abs(near - bound)
    side = "lower" if at_least else "upper"
    end = "" if fails else ", while the interval reaches both sides"
    return Finding(
        status="fail" if fails else "inconclusive",
        reason=f"{figure}: the {side} limit misses {bound:g} by {missed:.3f}{end}.",
        cause="limit" if fails else "undecided",
        estimate=estimate,
        shortfall=missed,
        lost=fails,
    )


def _doubted(criterion: Criterion, finding: Finding, cause: str, reason: str) -> Finding:
    """Finding of an attack that does not count: inconclusive, but lost if it failed anyway."""
    lost = finding.lost and criterion.compared_to is None  # a difference has no such side
    more = "Even so it leaves too little, and a stronger one can only leave less."
    return Finding(
        status="inconclusive",
        reason=f"{reason} {more}" if lost else reason,
        cause=cause,
        estimate=finding.estimate,
        shortfall=finding.shortfall if lost else 0.0,
        lost=lost,
    )
