"""Frozen records of an audit, their versioned JSON, and nothing else: all that reports know."""

from __future__ import annotations

import dataclasses
import json
import os
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from auditor.bounds.record import Assumption, Bound
from auditor.errors import InputError
from auditor.identities import (
    Check,
    ExplanationRecord,
    ImageIdentity,
    ModelIdentity,
    ProfileRecord,
    Setting,
)
from auditor.plain import build
from auditor.seal import check_seal

__all__ = [
    "SCHEMA_VERSION",
    "Assumption",
    "AuditResult",
    "Bound",
    "Check",
    "Cost",
    "CriterionResult",
    "Estimate",
    "ExplanationRecord",
    "FollowUp",
    "Gate",
    "ImageIdentity",
    "Measurement",
    "MethodAnswer",
    "ModelIdentity",
    "ProfileAnswer",
    "ProfileRecord",
    "Recommendation",
    "Setting",
    "SigmaOption",
    "SubgroupEstimate",
]

SCHEMA_VERSION = 1
PLAIN_GRADIENT = ExplanationRecord()


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A mean over images with its bootstrap confidence interval.

    Attributes
    ----------
    mean, low, high
        In the unit of the measured quantity; ``low`` and ``high`` bound the two-sided interval.
    n
        Number of images that counted.
    confidence
        Level of the interval, in (0, 1).
    """

    mean: float
    low: float
    high: float
    n: int
    confidence: float


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """One quantity under one condition, a value for every image of the audit.

    Attributes
    ----------
    probe
        ``smoothing``, ``attack``, ``natural``, ``twin``, ``ensemble``, ``control``, ``curvature``,
        ``transfer_matrix``, ``quality`` or ``planted``.
    metric
        Name as in the field, e.g. ``topk_intersection``.
    unit
        Unit of the values: ``ratio``, ``pixels``, ``map units``, ...
    values
        One per image in the order of ``ImageIdentity.names``; ``None`` where the image is excluded.
    excluded
        Reason → number of images that do not count, e.g. ``{"misclassified": 2}``.
    estimate
        Mean over all images that count; ``None`` when none does.
    sigma
        Smoothing in pixel units of [0, 1]; 0 is the unsmoothed map.
    epsilon
        Size of the perturbation in 1/255 units.
    attack
        ``strongest``, ``topk``, ``mass_center``, ``manipulation``, ``transfer`` or
        ``random_signs``; of ``natural`` the name of the change.
    partner
        Twin or control that the model is compared with, or the ensemble that is measured.
    chance
        Value that two unrelated maps would have.
    """

    probe: str
    metric: str
    unit: str
    values: tuple[float | None, ...]
    estimate: Estimate | None
    excluded: Mapping[str, int] = field(default_factory=dict)
    method: str = "simple_grad"
    sigma: float | None = None
    epsilon: float | None = None
    attack: str | None = None
    partner: str | None = None
    chance: float | None = None


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """A measurement at one σ against the same without smoothing, image by image.

    ``change`` is the mean difference, ``None`` if nothing counts; ``p_value`` that of Wilcoxon's
    signed-rank test, ``adjusted`` with Holm's correction for all comparisons of the metric.
    """

    probe: str
    metric: str
    partner: str
    sigma: float
    change: Estimate | None
    p_value: float | None
    adjusted: float | None


@dataclass(frozen=True, kw_only=True)
class SubgroupEstimate:
    """A headline measurement over the images of one subgroup.

    ``images`` is the size of the subgroup, ``estimate.n`` the number of them that count; the
    other fields are those of :class:`Measurement`.
    """

    subgroup: str
    images: int
    probe: str
    metric: str
    sigma: float | None
    epsilon: float | None
    attack: str | None
    estimate: Estimate | None


@dataclass(frozen=True, kw_only=True)
class Gate:
    """A condition that a σ must meet before any criterion is looked at.

    ``passed`` is ``None`` when the gate could not be evaluated; ``reason`` then says why.
    ``comparison`` is ``>=`` or ``<=`` (or ``<``), between ``value`` and ``limit``.
    """

    name: str
    title: str
    value: float | None
    comparison: str
    limit: float
    passed: bool | None
    reason: str


@dataclass(frozen=True, kw_only=True)
class CriterionResult:
    """A profile's criterion at one σ, on both halves of the images.

    ``status`` is ``pass``, ``fail``, ``inconclusive`` or ``not run``; ``reason`` says why in one
    sentence; ``because`` is where the threshold comes from, ``basis`` what kind of source that is:
    ``paper``, ``regulation``, ``standard``, ``judgment`` or ``own words``.
    """

    name: str
    title: str
    metric: str
    comparison: str
    bound: float
    because: str
    sigma: float
    screen: Estimate | None
    confirm: Estimate | None
    status: str
    reason: str
    basis: str = "own words"


@dataclass(frozen=True, kw_only=True)
class SigmaOption:
    """Everything the decision knows about one σ.

    ``status`` is ``admissible``, ``rejected`` or ``inconclusive`` (on the screening half);
    ``wins`` is the share of bootstrap resamples in which this σ was chosen; ``objective`` is the
    profile's objective on the screening half; ``on_front`` says whether no other σ is better in
    all of stability, fidelity and attack drift.
    """

    sigma: float
    status: str
    gates: tuple[Gate, ...]
    criteria: tuple[CriterionResult, ...]
    objective: Estimate | None
    on_front: bool
    wins: float


@dataclass(frozen=True, kw_only=True)
class Recommendation:
    """The answer: a σ with its uncertainty, or that none will do.

    Attributes
    ----------
    verdict
        ``recommended``, ``no_sigma``, ``inconclusive`` or, from a glance, ``provisional``.
    sigma, sigma_255, sigma_normalized
        The recommended σ in pixel space [0, 1], in 0–255 units, and per channel in units of the
        model's normalized input; ``None`` and empty without a recommendation. The last is empty too
        if the user's own preprocessing normalizes: its units are not known.
    considered
        The σ whose criteria and gates are shown: the recommended one, else the nearest miss.
    samples
        Noise draws per map that the figures belong to.
    interval
        Bootstrap interval of the chosen σ at ``interval_confidence`` (``None`` if none was chosen
        in at least half of the resamples), ``none_share`` the share in which no σ was chosen.
    reasons
        Plain sentences: what failed and by how much, or why the data cannot tell.
    advice
        What to try instead.
    equivalent
        σ that the screening images cannot tell from the best: admissible, on the front, and not
        shown to be worse by more than the profile's indifference.
    """

    verdict: str
    sigma: float | None
    sigma_255: float | None
    sigma_normalized: tuple[float, ...]
    considered: float | None
    samples: int
    interval: tuple[float, float] | None
    interval_confidence: float
    none_share: float
    criteria: tuple[CriterionResult, ...]
    gates: tuple[Gate, ...]
    options: tuple[SigmaOption, ...]
    reasons: tuple[str, ...]
    advice: tuple[str, ...]
    equivalent: tuple[float, ...] = ()


@dataclass(frozen=True, kw_only=True)
class FollowUp:
    """What was checked at a recommended σ after it was chosen.

    Attributes
    ----------
    sigma
        The recommended σ.
    samples
        Noise draws per map that are recommended with it; ``samples_reason`` says why so many.
    map_error
        Standard error of a map with that many draws, as a share of its norm; ``None`` for the
        unsmoothed map.
    remeasured
        Draws, more than those of the audit, with which the ``gates`` were measured again on
        ``images`` images; ``None`` where that was not done.
    planted
        ``found``, ``not found`` or ``not checked``: whether the map finds evidence that was
        planted; ``planted_reason`` says in a sentence how far, or why it was not checked.
    """

    sigma: float
    samples: int
    samples_reason: str
    map_error: float | None
    planted: str
    planted_reason: str
    remeasured: int | None = None
    gates: tuple[Gate, ...] = ()
    images: int = 0


@dataclass(frozen=True, kw_only=True)
class ProfileAnswer:
    """What another profile makes of the same records.

    ``decided`` is when somebody asked for it; empty for the profiles that every audit compares.
    ``missing`` names records that the profile asks for and the run does not have.
    """

    name: str
    sha256: str
    decided: str
    verdict: str
    sigma: float | None
    considered: float | None
    reason: str
    missing: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class MethodAnswer:
    """What the audit of one of several methods found.

    Attributes
    ----------
    name
        Of the method.
    verdict
        Of its own audit, as in :class:`Recommendation`, or ``not applicable``.
    sigma, objective
        Its best σ on the screening half and the profile's objective there; ``None`` where no σ is
        admissible.
    gradients
        For one explanation at that σ.
    chosen
        Whether the audit's answer is this method's.
    reason
        The first reason of its verdict, or why the model cannot support the method.
    """

    name: str
    verdict: str
    sigma: float | None
    objective: Estimate | None
    gradients: int | None
    chosen: bool
    reason: str


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Model evaluations by probe: each is one gradient, or one forward pass, of one image."""

    probe: str
    gradients: int
    forwards: int


@dataclass(frozen=True, kw_only=True)
class AuditResult:
    """A finished audit.

    ``not_applicable`` holds the probes that this model cannot have, each with the reason;
    ``follow_ups`` what was checked at the σ that a profile recommends, by σ; ``methods`` the
    answers of each, where several were audited: all else is of the one that was chosen.
    ``gallery`` holds the pictures of some images (from ``maps.npz``, not in the JSON): ``index``
    (g,), the first ``worst`` of them those whose unsmoothed map moved most, the others in the
    middle; ``image`` (g, C, H, W) in [0, 1]; at each of ``sigmas`` (s,) the ``perturbed`` image
    (s, g, C, H, W), ``before`` and ``after`` (s, g, H, W), magnitudes that are not negative, and
    their top-k ``overlap`` (s, g); ``epsilon`` in 1/255. ``direction`` (b, C, H, W)
    holds unit vectors along which the logit of each image ``direction_index`` (b,) is most curved.
    Of the first two members of each of e ensembles, ``member_place`` (e, 2) among the model and its
    twins, ``member_maps`` (e, p, 2, 2, H, W) by σ, which is 0 or ``member_sigma``, and member;
    on the images ``member_index`` (e, p), which are ``member_image`` (e, p, C, H, W).
    """

    schema_version: int = SCHEMA_VERSION
    auditor_version: str
    created: str
    seed: int
    k: int
    sigmas: tuple[float, ...]
    epsilons: tuple[float, ...]
    samples: int
    effort: str
    model: ModelIdentity
    twins: tuple[ModelIdentity, ...]
    images: ImageIdentity
    profile: ProfileRecord
    recommendation: Recommendation
    measurements: tuple[Measurement, ...]
    settings: tuple[Setting, ...]
    environment: Mapping[str, str]
    costs: tuple[Cost, ...]
    notes: tuple[str, ...]
    command: str
    timings: Mapping[str, float]
    explanation: ExplanationRecord = PLAIN_GRADIENT
    subgroups: tuple[SubgroupEstimate, ...] = ()
    other_profiles: tuple[ProfileAnswer, ...] = ()
    follow_ups: tuple[FollowUp, ...] = ()
    methods: tuple[MethodAnswer, ...] = ()
    comparisons: tuple[Comparison, ...] = ()
    not_applicable: Mapping[str, str] = field(default_factory=dict)
    bounds: tuple[Bound, ...] = ()
    gallery: Mapping[str, npt.NDArray[np.float32]] = field(
        default_factory=dict, compare=False, repr=False
    )

    def find(self, **conditions: Any) -> tuple[Measurement, ...]:
        """Measurements whose fields equal all the given conditions, in the order measured.

        >>> result.find(probe="attack", attack="strongest")  # doctest: +SKIP
        """
        return tuple(
            m
            for m in self.measurements
            if all(getattr(m, name) == value for name, value in conditions.items())
        )

    @property
    def recommended_samples(self) -> int:
        """Noise draws that are recommended with σ, else those that all was measured with."""
        answer = self.recommendation
        followed = {checked.sigma: checked.samples for checked in self.follow_ups}
        return followed.get(answer.sigma or 0.0, answer.samples) if answer.sigma else answer.samples

    def to_json(self) -> str:
        """JSON text with sorted keys; infinite or NaN numbers raise ``ValueError``."""
        record = _fields(self)
        del record["gallery"]
        return json.dumps(
            record, sort_keys=True, ensure_ascii=False, allow_nan=False, default=_fields
        )

    @classmethod
    def from_json(cls, text: str, *, where: str = "audit.json") -> AuditResult:
        """Read what :meth:`to_json` wrote; anything else raises :class:`InputError`."""
        try:
            record = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise InputError(f"{where}: not valid JSON ({error}).") from error
        version = record.get("schema_version") if isinstance(record, dict) else None
        if version != SCHEMA_VERSION:
            raise InputError(
                f"{where}: schema version {version!r}, this auditor reads {SCHEMA_VERSION}. "
                "Use the auditor that wrote it."
            )
        try:
            return typing.cast(AuditResult, build(cls, record))
        except (OverflowError, TypeError, ValueError) as error:
            raise InputError(f"{where}: not an audit result ({error}).") from error

    @classmethod
    def load(cls, run: Path) -> AuditResult:
        """Read a run folder: ``audit.json`` and, where it exists, ``maps.npz``."""
        path = run / "audit.json"
        if not os.path.isfile(path):
            raise InputError(f"{run}: no audit.json here. Finish the audit with --resume first.")
        check_seal(run, path.name)
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"{path}: cannot be read ({error}).") from error
        result = cls.from_json(text, where=str(path))
        maps = run / "maps.npz"
        if not maps.is_file():
            return result
        check_seal(run, maps.name)
        return result.with_maps(maps)

    def with_maps(self, path: Path) -> AuditResult:
        """The result with the pictures of a ``maps.npz``; a damaged one raises `InputError`."""
        try:
            with path.open("rb") as content, np.load(content, allow_pickle=False) as arrays:
                gallery = {name: arrays[name] for name in arrays.files}
        except Exception as error:  # damaged archives raise many things
            raise InputError(f"{path}: cannot be read ({error}).") from error
        ensembles = {m.partner for m in self.find(probe="ensemble", metric="stability_error")}
        if gallery and not (
            _fits(gallery, len(self.images.names))
            and _members_fit(gallery, self, ensembles=len(ensembles))
        ):
            raise InputError(
                f"{path}: not the pictures of this audit, or of an older auditor. Move it away to "
                "render without pictures, or audit again."
            )
        return dataclasses.replace(self, gallery=gallery)


def _fits(gallery: Mapping[str, npt.NDArray[Any]], images: int) -> bool:
    """Whether the arrays of a gallery are there, agree in shape and are of these images."""
    try:
        (shown,), (sigmas,) = gallery["index"].shape, gallery["sigmas"].shape
        _, *channels_and_size = gallery["image"].shape
        _, *size = channels_and_size
        shapes = {
            "worst": (),
            "epsilon": (),
            "image": (shown, *channels_and_size),
            "perturbed": (sigmas, shown, *channels_and_size),
            "before": (sigmas, shown, *size),
            "after": (sigmas, shown, *size),
            "overlap": (sigmas, shown),
        }
        index = gallery["index"]
        return (
            len(size) == 2
            and sigmas > 0
            and all(gallery[name].shape == shape for name, shape in shapes.items())
            and bool(((index >= 0) & (index < images)).all())
        )
    except (KeyError, ValueError):
        return False


def _members_fit(
    gallery: Mapping[str, npt.NDArray[Any]], of: AuditResult, *, ensembles: int
) -> bool:
    """Whether the pictures of ensembles, if any, agree in shape and are of this audit."""
    if not any(name.startswith("member_") for name in gallery):
        return True
    try:
        _, *channels_and_size = gallery["image"].shape
        _, *size = channels_and_size
        index, place = gallery["member_index"], gallery["member_place"]
        _, shown = index.shape
        shapes = {
            "member_index": (ensembles, shown),
            "member_place": (ensembles, 2),
            "member_sigma": (),
            "member_image": (ensembles, shown, *channels_and_size),
            "member_maps": (ensembles, shown, 2, 2, *size),
        }
        return (
            all(gallery[name].shape == shape for name, shape in shapes.items())
            and bool(((index >= 0) & (index < len(of.images.names))).all())
            and bool(((place >= 0) & (place <= len(of.twins))).all())
        )
    except (KeyError, ValueError):
        return False


def _fields(record: Any) -> dict[str, Any]:
    """A record's own fields, without the deep copies of ``dataclasses.asdict``."""
    return {field.name: getattr(record, field.name) for field in dataclasses.fields(record)}
