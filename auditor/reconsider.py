"""What other profiles would say of measurements that are there; nothing is measured."""

from __future__ import annotations

from auditor.metrics.drift import chance
from auditor.results import AuditResult, Recommendation
from auditor.sigma import recommend
from profiles import Profile, available, load_profile


def reconsider(result: AuditResult, profile: Profile) -> Recommendation:
    """Decide again for a profile; what it needs and nobody measured stays open."""
    height, width = result.model.input_shape[-2:]
    doubled = result.find(probe="attack", metric="topk_intersection", attack="strongest_doubled")
    return recommend(
        measurements=result.measurements,
        sigmas=result.sigmas,
        samples=result.samples,
        profile=profile,
        screen=result.images.screen,
        confirm=result.images.confirm,
        chance=chance(result.k, height, width),
        std=result.model.std,
        convergence={
            (m.sigma, m.epsilon): m.values
            for m in doubled
            if m.sigma is not None and m.epsilon is not None
        },
        seed=result.seed,
        input_shape=result.model.input_shape,
        not_applicable=result.not_applicable,
    )


def other_verdicts(result: AuditResult) -> dict[str, Recommendation]:
    """Each shipped profile but the audit's own, by name."""
    names = [name for name in available() if name != result.profile.name]
    return {name: reconsider(result, load_profile(name)) for name in names}
