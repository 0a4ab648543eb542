"""A checked audit that has not started: settings, preflight, and what it will cost."""

from __future__ import annotations

import dataclasses
import functools
import math
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from auditor import cost
from auditor.attributions import Method
from auditor.attributions.noise import mix
from auditor.bounds.training import Training
from auditor.ensembles import Ensemble
from auditor.errors import InputError
from auditor.evaluation import Evaluator
from auditor.evidence import FEWEST_IMAGES
from auditor.explanation import examine, load_explanation, try_on
from auditor.glance import GLANCE, LEFT_OUT
from auditor.images import ImageSet
from auditor.memory import halving, largest_batch, memory_in_use
from auditor.models import Classifier
from auditor.preflight import run_preflight
from auditor.probes.quality import unavailable
from auditor.results import Check, Setting
from auditor.samples import AUTO, Pilot, auto_samples
from auditor.settings import Settings, plan_settings
from auditor.target import ask, check_target
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
    the preflight of the audited model and of each twin, ``method`` the explanation,
    ``ensembles`` which of model and twins are compared as members of one, ``control`` the
    re-initialized model if the format has one, ``target`` the class that is explained
    (``predicted``, ``label`` or an index), ``not_applicable`` the probes that this model cannot
    have and why, ``pilot`` how the number of draws was found if that was asked for, ``notes`` what
    the user should know of the audit as a whole, ``training`` how the model was trained.
    """

    classifier: Classifier
    method: Method
    twins: tuple[Classifier, ...]
    ensembles: tuple[Ensemble, ...]
    images: ImageSet
    profile: Profile
    effort: str
    settings: Settings
    origins: tuple[Setting, ...]
    control: Classifier | None
    target: str
    not_applicable: Mapping[str, str]
    checks: tuple[tuple[Check, ...], ...]
    batch: int
    device: str
    estimate: cost.Estimate
    notes: tuple[str, ...]
    pilot: Pilot | None
    training: Training | None = None


def make_plan(
    classifier: Classifier,
    images: ImageSet,
    *,
    profile: str | Path | Profile = "compliance",
    twins: Sequence[Classifier] = (),
    ensembles: Sequence[Ensemble] = (),
    effort: str = "standard",
    device: str = "cpu",
    batch: int | None = None,
    memory: int | None = None,
    target: str | int = "predicted",
    explain: object = None,
    samples: int | str | None = None,
    training: Training | None = None,
    origin: str = "python",
    **given: Any,
) -> Plan:
    """Check everything and predict the cost of an audit.

    Parameters are those of :func:`auditor.engine.audit`; ``origin`` names where the settings in
    ``given`` come from.
    """
    profile = known_profile(profile)
    if batch is not None and batch < 1:
        raise InputError(f"batch {batch} is too small: give at least 1.")
    method = load_explanation(explain)
    _check_methods(profile, method)
    names = [twin.name for twin in twins]
    doubled = [name for i, name in enumerate(names) if name in names[:i]]
    if doubled:
        raise InputError(
            f"Two twins have the name {doubled[0]!r}. Name them: --twin SPEC,name=NAME."
        )
    check_ensembles(ensembles, members=1 + len(twins))
    check_size(classifier, images)
    sample = images.batch(range(len(images.names))[:4])
    checks = [run_preflight(member, sample.to(device)) for member in (classifier, *twins)]
    check_labels(classifier, images)
    check_target(target, classifier, images)
    _check_minimum(profile, images)
    if effort == GLANCE and twins:
        raise InputError("effort glance compares no twin: leave out the twins, or use more effort.")
    for twin in twins:
        if twin.classes != classifier.classes:
            raise InputError(
                f"{twin.name}: {twin.classes} classes, the audited model has {classifier.classes}. "
                "A twin must tell the same classes apart."
            )
    target, (classifier, *twins), images = ask(target, (classifier, *twins), images)
    fewest = classifier.capabilities.batches[0]
    batch = batch or max(fewest, usual_batch(classifier.input_shape))
    models = [
        Evaluator(model=member, batch=batch, device=device) for member in (classifier, *twins)
    ]
    if memory is not None:
        taken = memory_in_use(device)
        batch = min(largest_batch(m, sample, memory=memory, resident=taken) for m in models)
        models = [dataclasses.replace(model, batch=batch) for model in models]
    method, tried = examine(method, models[0], sample)
    checks[0] += tried
    for other in models[1:]:
        try_on(method, other, sample)
    omitted = _not_applicable(classifier, method) | unavailable(models[0], sample)
    planned = functools.partial(
        plan_settings,
        effort=effort,
        profile=profile,
        input_shape=classifier.input_shape,
        origin=origin,
        method=method,
        **given,
    )
    found = None
    if samples == AUTO:
        found = auto_samples(models[0], images, planned()[0], target=target, method=method)
        samples = found.samples
    settings, origins = planned(samples=samples)
    if found:
        origins = tuple(
            dataclasses.replace(row, value=found.words) if row.name == "samples" else row
            for row in origins
        )

    def estimate(batch: int) -> cost.Estimate:
        return cost.estimate(
            settings,
            x=sample,
            images=len(images.names),
            models=[dataclasses.replace(model, batch=batch) for model in models],
            classes=classifier.classes,
            ensembles=len(ensembles),
            leave_out=(*omitted, *(LEFT_OUT if effort == GLANCE else ())),
            method=method,
        )

    predicted, batch = halving(batch, estimate)
    control = None
    if "control" not in omitted:
        control = classifier.reinitialized(
            # Not the user's own seed: the control would be the network that training began with.
            seed=mix(settings.seed, CONTROL),
            calibration=images.batch(range(len(images.names))[:64]).to(device),
        )
        try_on(method, dataclasses.replace(models[0], model=control), sample)
    chosen = [
        Setting(name="explain", value=method.name, origin=origin if explain else "default"),
        Setting(name="target", value=str(target), origin=origin),
    ]
    if classifier.output.key is not None:
        chosen.append(Setting(name="output", value=classifier.output.key, origin=origin))
    if classifier.preprocess is not None:
        own = origin if classifier.preprocess.given else "model"
        chosen.append(Setting(name="preprocess", value=classifier.preprocess.identity, origin=own))
    return Plan(
        classifier=classifier,
        method=method,
        twins=tuple(twins),
        ensembles=tuple(ensembles),
        images=images,
        profile=profile,
        effort=effort,
        settings=settings,
        origins=(Setting(name="profile", value=profile.name, origin=origin), *chosen, *origins),
        control=control,
        target=str(target),
        not_applicable=omitted,
        notes=(*_prepared(classifier, images), *_notes(images, control, omitted, found)),
        pilot=found,
        training=training,
        checks=tuple(checks),
        batch=batch,
        device=device,
        estimate=predicted,
    )


def known_profile(profile: str | Path | Profile) -> Profile:
    """A profile by its name or file; one that cannot be used raises :class:`InputError`."""
    if isinstance(profile, Profile):
        return profile
    try:
        return load_profile(profile)
    except ProfileError as error:
        raise InputError(str(error)) from error


def usual_batch(shape: tuple[int, int, int]) -> int:
    """Images (C, H, W) in one call of the model, unless the user says otherwise."""
    return max(1, min(256, BATCH_VALUES // math.prod(shape)))


def check_size(classifier: Classifier, images: ImageSet) -> None:
    """Refuse images that are not of the model's size."""
    if images.shape != classifier.input_shape:
        sizes = (images.shape, classifier.input_shape)
        found, needed = ("×".join(map(str, size)) for size in sizes)
        raise InputError(
            f"Images are {found}, {classifier.name} takes {needed}. Load them with load_images, "
            "which resizes, or pass another input size."
        )


def check_ensembles(ensembles: Sequence[Ensemble], *, members: int) -> None:
    """Refuse ensembles of one name, of fewer than two members, or of some that are not there."""
    names = [ensemble.name for ensemble in ensembles]
    for ensemble in ensembles:
        places = set(ensemble.members)
        if len(places) < 2 or not places <= set(range(members)):
            raise InputError(
                f"Ensemble {ensemble.name!r}: members {ensemble.members}. Give two or more places: "
                f"0 is the audited model, 1 to {members - 1} are its twins."
            )
        if names.count(ensemble.name) > 1:
            raise InputError(f"Two ensembles have the name {ensemble.name!r}. Name them apart.")


def check_labels(classifier: Classifier, images: ImageSet) -> None:
    """Refuse labels that cannot be the model's: every image would count as misclassified."""
    classes = classifier.classes
    if images.labels is not None and max(images.labels) >= classes:
        raise InputError(
            f"{images.source}: label {max(images.labels)}, but {classifier.name} has {classes} "
            "classes. Correct the labels, or leave them out."
        )
    named = len(images.class_names)
    whole = {"imagefolder": "class folders", "cifar10": "class names", "cifar100": "class names"}
    kind = whole.get(images.format)
    if kind is not None and named and classifier.labels is None and named != classes:
        raise InputError(
            f"{images.source}: {named} {kind}, but {classifier.name} has {classes} "
            "classes. Pass the class names in the order of its outputs (--labels FILE)."
        )


def _check_minimum(profile: Profile, images: ImageSet) -> None:
    """Refuse fewer images than a criterion asks for; below the usual minimum nothing is decided."""
    count = len(images.names)
    for criterion in profile.criteria:
        if criterion.images > FEWEST_IMAGES and count < 2 * criterion.images:
            raise InputError(
                f"profile {profile.name}, criterion {criterion.name!r}: images = "
                f"{criterion.images} in each half, but there are {count} images in all.\n"
                f"Give at least {2 * criterion.images} images, or choose another profile."
            )


def _check_methods(profile: Profile, method: Method) -> None:
    """Refuse criteria for methods of which none is audited: nobody would notice that they fell."""
    for criterion in profile.criteria:
        if criterion.method not in (None, method.name):
            raise InputError(
                f"profile {profile.name}, criterion {criterion.name!r}: method = "
                f"{criterion.method!r} is not audited ({method.name} is).\n"
                f"Audit {criterion.method}, or leave out this key or the criterion."
            )


def _not_applicable(classifier: Classifier, method: Method) -> dict[str, str]:
    """Probes that this model or explanation cannot have, each with the reason."""
    omitted = {}
    if not classifier.capabilities.reinitialization.able:
        omitted["control"] = classifier.capabilities.reinitialization.reason
    if classifier.output.scale == "sigmoid" and classifier.classes > 2:
        omitted["curvature"] = "Independent labels have no cross-entropy in common."
    if not method.is_gradient:
        omitted["curvature"] = (
            f"It is about gradients of the loss, and {method.name} is another map."
        )
    return omitted


def _prepared(classifier: Classifier, images: ImageSet) -> tuple[str, ...]:
    """Say so if pictures were not prepared as the model's preprocessing would."""
    made = classifier.preprocess
    wanted = made.identity if made is not None and made.pixels is not None else ""
    if images.preprocess == wanted or images.format == "python":
        return ()
    return (
        f"The images were prepared by {images.preprocess or 'resizing'}, not by "
        f"{wanted or 'resizing'}: pass preprocess=model.preprocess to load_images.",
    )


def _notes(
    images: ImageSet,
    control: Classifier | None,
    omitted: Mapping[str, str],
    pilot: Pilot | None,
) -> tuple[str, ...]:
    notes = [check.message for check in control.remarks] if control is not None else []
    if pilot:
        notes.append(f"Draws per map: {pilot.words}. That took {pilot.gradients} gradients.")
    notes += [f"Not applicable to this model: {probe}. {why}" for probe, why in omitted.items()]
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
        "subgroups": plan.images.subgroups,
        "images: preprocess": plan.images.preprocess,
        "profile": f"{plan.profile.name} {plan.profile.sha256}",
        "explain": f"{plan.method.name} {plan.method.identity}",
        "target": plan.target,
        "effort": plan.effort,
        # Not named where it is the usual one, which runs of earlier versions do not name.
        "dtype": None if plan.classifier.dtype == torch.float32 else str(plan.classifier.dtype),
        "training": None if plan.training is None else dataclasses.asdict(plan.training),
    }
    for twin in plan.twins:
        asked |= _member(f"twin {twin.name}", twin)
    asked |= {f"ensemble {one.name}": one.members for one in plan.ensembles}
    return asked | dataclasses.asdict(plan.settings)


def _member(what: str, model: Classifier) -> dict[str, Any]:
    return {
        what: model.sha256(),
        f"{what}: mean": model.mean,
        f"{what}: std": model.std,
        f"{what}: input size": model.input_shape,
        f"{what}: preprocess": "" if model.preprocess is None else model.preprocess.identity,
        f"{what}: output": dataclasses.astuple(model.output),
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


def forecast(plan: Plan) -> dict[str, Any]:
    """What an audit will cost and what its user should know first, as the terminal shows it."""
    return {
        "evaluations": {c.probe: c.gradients + c.forwards for c in plan.estimate.costs},
        "minutes": plan.estimate.seconds / 60,
        "memory_mib": plan.estimate.memory_mib,
        "images": len(plan.images.names),
        "notes": [
            *plan.notes,
            *(c.message for checks in plan.checks for c in checks if c.status == "note"),
        ],
    }
