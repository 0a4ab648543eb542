"""A checked audit that has not started: settings, preflight, and what it will cost."""

from __future__ import annotations

import dataclasses
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from auditor import cost
from auditor.errors import InputError
from auditor.evaluation import Evaluator
from auditor.images import ImageSet
from auditor.models import Classifier
from auditor.preflight import run_preflight
from auditor.results import Check, Setting
from auditor.settings import Settings, plan_settings
from auditor.version import __version__
from profiles import Profile, ProfileError, load_profile

BATCH_VALUES = 8 * 3 * 224 * 224
"""Pixel values in one batch: 8 photographs of 224×224, and never more than 256 images."""


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Plan:
    """A checked audit that has not started: nothing was measured or written.

    ``estimate`` is what it will cost; :func:`auditor.engine.execute` starts it. ``checks`` holds
    the preflight of the audited model and of each twin.
    """

    classifier: Classifier
    twins: tuple[Classifier, ...]
    images: ImageSet
    profile: Profile
    effort: str
    settings: Settings
    origins: tuple[Setting, ...]
    checks: tuple[tuple[Check, ...], ...]
    batch: int
    device: str
    estimate: cost.Estimate


def make_plan(
    classifier: Classifier,
    images: ImageSet,
    *,
    profile: str | Path | Profile = "compliance",
    twins: Sequence[Classifier] = (),
    effort: str = "standard",
    device: str = "cpu",
    batch: int | None = None,
    origin: str = "python",
    **given: Any,
) -> Plan:
    """Check everything and predict the cost of an audit.

    Parameters are those of :func:`auditor.engine.audit`; ``origin`` names where the settings in
    ``given`` come from.
    """
    if not isinstance(profile, Profile):
        try:
            profile = load_profile(profile)
        except ProfileError as error:
            raise InputError(str(error)) from error
    if batch is not None and batch < 1:
        raise InputError(f"batch {batch} is too small: give at least 1.")
    settings, origins = plan_settings(
        effort=effort, profile=profile, input_shape=classifier.input_shape, origin=origin, **given
    )
    names = [twin.name for twin in twins]
    if len(set(names)) < len(names):
        raise InputError(f"Two twins have the name {names[0]!r}. Name them: --twin SPEC,name=NAME.")
    sample = images.pixels[:4]
    checks = [run_preflight(member, sample.to(device)) for member in (classifier, *twins)]
    for twin in twins:
        if twin.classes != classifier.classes:
            raise InputError(
                f"{twin.name}: {twin.classes} classes, the audited model has {classifier.classes}. "
                "A twin must tell the same classes apart."
            )
    batch = batch or max(1, min(256, BATCH_VALUES // sample[0].numel()))
    models = [
        Evaluator(model=member, batch=batch, device=device) for member in (classifier, *twins)
    ]
    predicted = cost.estimate(
        settings,
        x=sample,
        images=len(images.names),
        models=models,
        classes=classifier.classes,
    )
    return Plan(
        classifier=classifier,
        twins=tuple(twins),
        images=images,
        profile=profile,
        effort=effort,
        settings=settings,
        origins=(Setting(name="profile", value=profile.name, origin=origin), *origins),
        checks=tuple(checks),
        batch=batch,
        device=device,
        estimate=predicted,
    )


def request(plan: Plan) -> dict[str, Any]:
    """What must be the same for a run to be resumed."""
    asked: dict[str, Any] = {
        "auditor": __version__,
        "model": plan.classifier.sha256(),
        "mean": plan.classifier.mean,
        "std": plan.classifier.std,
        "images": plan.images.manifest_sha256,
        "profile": f"{plan.profile.name} {plan.profile.sha256}",
        "effort": plan.effort,
        **{f"twin {twin.name}": twin.sha256() for twin in plan.twins},
    }
    return asked | dataclasses.asdict(plan.settings)


def environment(plan: Plan) -> dict[str, str]:
    """Software and machine, for the report."""
    return {
        "auditor": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "platform": f"{platform.system()} {platform.machine()}",
        "device": plan.device,
        "threads": str(torch.get_num_threads()),
        "batch": str(plan.batch),
    }
