"""A checked audit that has not started: settings, preflight, and what it will cost."""

from __future__ import annotations

import dataclasses
import math
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from auditor import cost
from auditor.attributions.noise import mix
from auditor.errors import InputError
from auditor.evaluation import Evaluator
from auditor.evidence import FEWEST_IMAGES
from auditor.images import ImageSet
from auditor.models import Classifier
from auditor.preflight import run_preflight
from auditor.results import Check, Setting
from auditor.settings import Settings, plan_settings
from auditor.version import __version__
from profiles import Profile, ProfileError, load_profile

BATCH_VALUES = 4 * 3 * 224 * 224
"""Pixel values in one batch: 4 photographs of 224×224 (at 8 a gradient takes 1.7 times as long on
two CPU cores), and never more than 256 images."""

CONTROL = 1000
"""Keeps the seed of the re-initialized control apart from those of noise."""


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Plan:
    """A checked audit that has not started: nothing was measured or written.

    ``estimate`` is what it will cost; :func:`auditor.engine.execute` starts it. ``checks`` holds
    the preflight of the audited model and of each twin, ``control`` the re-initialized model,
    ``notes`` what the user should know of the audit as a whole.
    """

    classifier: Classifier
    twins: tuple[Classifier, ...]
    images: ImageSet
    profile: Profile
    effort: str
    settings: Settings
    origins: tuple[Setting, ...]
    control: Classifier
    checks: tuple[tuple[Check, ...], ...]
    batch: int
    device: str
    estimate: cost.Estimate
    notes: tuple[str, ...]


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
    doubled = [name for i, name in enumerate(names) if name in names[:i]]
    if doubled:
        raise InputError(
            f"Two twins have the name {doubled[0]!r}. Name them: --twin SPEC,name=NAME."
        )
    check_size(classifier, images)
    sample = images.pixels[:4]
    checks = [run_preflight(member, sample.to(device)) for member in (classifier, *twins)]
    check_labels(classifier, images)
    for twin in twins:
        if twin.classes != classifier.classes:
            raise InputError(
                f"{twin.name}: {twin.classes} classes, the audited model has {classifier.classes}. "
                "A twin must tell the same classes apart."
            )
    batch = batch or usual_batch(classifier.input_shape)
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
    control = classifier.reinitialized(
        # Not the user's own seed: the control would be the network that training began with.
        seed=mix(settings.seed, CONTROL),
        calibration=images.pixels[:64].to(device),
    )
    return Plan(
        classifier=classifier,
        twins=tuple(twins),
        images=images,
        profile=profile,
        effort=effort,
        settings=settings,
        origins=(Setting(name="profile", value=profile.name, origin=origin), *origins),
        control=control,
        notes=_notes(images, control),
        checks=tuple(checks),
        batch=batch,
        device=device,
        estimate=predicted,
    )


def usual_batch(shape: tuple[int, int, int]) -> int:
    """Images (C, H, W) in one call of the model, unless the user says otherwise."""
    return max(1, min(256, BATCH_VALUES // math.prod(shape)))


def check_size(classifier: Classifier, images: ImageSet) -> None:
    """Refuse images that are not of the model's size."""
    if images.pixels.shape[1:] != classifier.input_shape:
        sizes = (tuple(images.pixels.shape[1:]), classifier.input_shape)
        found, needed = ("×".join(map(str, size)) for size in sizes)
        raise InputError(
            f"Images are {found}, {classifier.name} takes {needed}. Load them with load_images, "
            "which resizes, or pass another input size."
        )


def check_labels(classifier: Classifier, images: ImageSet) -> None:
    """Refuse labels that cannot be the model's: every image would count as misclassified."""
    classes = classifier.classes
    if images.labels is not None and max(images.labels) >= classes:
        raise InputError(
            f"{images.source}: label {max(images.labels)}, but {classifier.name} has {classes} "
            "classes. Correct the labels, or leave them out."
        )
    folders = len(images.class_names)
    if images.format == "imagefolder" and classifier.labels is None and folders != classes:
        raise InputError(
            f"{images.source}: {folders} class folders, but {classifier.name} has {classes} "
            "classes. Pass the class names in the order of its outputs (--labels FILE)."
        )


def _notes(images: ImageSet, control: Classifier) -> tuple[str, ...]:
    notes = [check.message for check in control.remarks]
    if len(images.names) < 2 * FEWEST_IMAGES:
        notes.append(
            f"A verdict needs {FEWEST_IMAGES} images in each half; with {len(images.names)} in all "
            "there will be measurements but no verdict."
        )
    return tuple(notes)


def request(plan: Plan) -> dict[str, Any]:
    """What must be the same for a run to be resumed."""
    asked: dict[str, Any] = {
        "auditor": __version__,
        **_member("model", plan.classifier),
        "images": plan.images.manifest_sha256,
        "labels": plan.images.labels,
        "profile": f"{plan.profile.name} {plan.profile.sha256}",
        "effort": plan.effort,
    }
    for twin in plan.twins:
        asked |= _member(f"twin {twin.name}", twin)
    return asked | dataclasses.asdict(plan.settings)


def _member(what: str, model: Classifier) -> dict[str, Any]:
    return {
        what: model.sha256(),
        f"{what}: mean": model.mean,
        f"{what}: std": model.std,
        f"{what}: input size": model.input_shape,
    }


def environment(*, device: str, batch: int) -> dict[str, str]:
    """Software and machine, for the report."""
    return {
        "auditor": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "platform": f"{platform.system()} {platform.machine()}",
        "device": device,
        "threads": str(torch.get_num_threads()),
        "batch": str(batch),
    }
