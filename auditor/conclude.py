"""Put everything that is known of a finished audit into its result."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from auditor.attributions.custom import Custom
from auditor.attributions.registry import METHODS, spec_of
from auditor.comparisons import compare_ensembles
from auditor.plan import Plan
from auditor.records import Values
from auditor.results import (
    AuditResult,
    Bound,
    Cost,
    ExplanationRecord,
    FollowUp,
    ImageIdentity,
    Measurement,
    ProfileRecord,
    Recommendation,
    Setting,
)
from auditor.subgroups import by_subgroup
from auditor.version import __version__


def conclude(
    plan: Plan,
    *,
    fixed: Mapping[str, Any],
    predicted: npt.NDArray[np.int64],
    halves: tuple[tuple[int, ...], tuple[int, ...]],
    correct: Values,
    found: tuple[Measurement, ...],
    recommendation: Recommendation,
    follow_ups: tuple[FollowUp, ...],
    bounds: tuple[Bound, ...],
    costs: tuple[Cost, ...],
    timings: Mapping[str, float],
) -> AuditResult:
    """The result of an audit; ``fixed`` is what the run folder keeps from its first start."""
    settings = plan.settings
    # A user's function may have the name of a method of ours.
    entry = None if isinstance(plan.method, Custom) else METHODS.get(plan.method.name)
    return AuditResult(
        auditor_version=__version__,
        created=fixed["created"],
        seed=settings.seed,
        k=settings.k,
        sigmas=settings.sigmas,
        epsilons=settings.epsilons,
        samples=settings.samples,
        effort=plan.effort,
        model=plan.classifier.identity(plan.checks[0]),
        twins=tuple(
            twin.identity(checks) for twin, checks in zip(plan.twins, plan.checks[1:], strict=True)
        ),
        images=_images(plan, predicted, halves, correct),
        profile=_profile(plan, fixed["created"]),
        recommendation=recommendation,
        follow_ups=follow_ups,
        bounds=bounds,
        measurements=found,
        settings=tuple(Setting(**setting) for setting in fixed["origins"]),
        environment=fixed["environment"],
        costs=costs,
        explanation=ExplanationRecord(
            name=plan.method.name,
            identity=plan.method.identity,
            price=plan.method.price,
            random=plan.method.random,
            differentiable=plan.method.differentiable,
            formula=entry.formula if entry else "",
            source=entry.source if entry else "",
            spec=spec_of(plan.method),
        ),
        notes=(*plan.notes, *_another_class(plan, predicted)),
        not_applicable=plan.not_applicable,
        command=fixed["command"],
        timings=timings,
        comparisons=compare_ensembles(found, seed=settings.seed),
        subgroups=by_subgroup(
            found,
            plan.images.subgroups,
            sigma=recommendation.considered,
            epsilon=plan.profile.front_epsilon(*plan.classifier.input_shape[1:]),
            seed=settings.seed,
        ),
    )


def _another_class(plan: Plan, predicted: npt.NDArray[np.int64]) -> tuple[str, ...]:
    if not plan.target.isdigit():
        return ()
    others = int((predicted != int(plan.target)).sum())
    return (
        f"Class {plan.target} is explained. {others} of {len(predicted)} images are predicted as "
        "another class: they are not attacked and do not count.",
    )


def _images(
    plan: Plan,
    predicted: Sequence[int] | npt.NDArray[np.int64],
    halves: tuple[tuple[int, ...], tuple[int, ...]],
    correct: Values,
) -> ImageIdentity:
    images = plan.images
    names = images.class_names or plan.classifier.labels or ()
    classes = images.labels if images.labels is not None else tuple(int(c) for c in predicted)
    balance = Counter(names[c] if c < len(names) else f"class {c}" for c in classes)
    return ImageIdentity(
        source=images.source,
        format=images.format,
        manifest_sha256=images.manifest_sha256,
        available=images.available,
        selection=images.selection,
        names=images.names,
        predicted=tuple(int(c) for c in predicted),
        labels=images.labels,
        class_balance=dict(sorted(balance.items())),
        class_names=tuple(names),
        misclassified=None
        if images.labels is None
        else int((np.array(images.labels) != np.array(predicted)).sum()),
        unreadable=images.unreadable,
        screen=halves[0],
        confirm=halves[1],
        subgroups=images.subgroups,
    )


def _profile(plan: Plan, declared: str) -> ProfileRecord:
    profile = plan.profile
    objective = profile.objective
    words = f"{objective.direction} {objective.probe} {objective.metric}"
    size = objective.epsilon_at(*plan.classifier.input_shape[1:])
    if size is not None:
        words += f" at ε = {size:g}/255"
    return ProfileRecord(
        name=profile.name,
        title=profile.title,
        summary=" ".join(profile.summary.split()),
        sha256=profile.sha256,
        declared=declared,
        confidence=profile.confidence,
        objective=words,
        tried=((profile.name, profile.sha256, declared),),
    )
