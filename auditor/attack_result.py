"""What one attack found: frozen records and their versioned JSON."""

from __future__ import annotations

import dataclasses
import json
import statistics
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy.typing as npt

from auditor.errors import InputError
from auditor.plain import build
from auditor.results import Cost, ModelIdentity

ATTACK_SCHEMA_VERSION = 1

STAGES = ("no_attack", "attacked", "eight_bits", "random_signs")
"""Conditions under which the map is compared with the clean one, in the order they are shown."""

METRICS = ("topk_intersection", "center_shift", "cosine", "spearman")
"""What is measured of every attack; the cosine is that of the raw maps."""

GOALS = {"manipulation": "target_cosine", "region": "region_share"}
"""What is measured of an attack with a target: how near the map came to it."""

Column = tuple[float | None, ...]


def _mean(column: Column) -> float | None:
    known = [v for v in column if v is not None]
    return statistics.fmean(known) if known else None


@dataclass(frozen=True, kw_only=True)
class OracleChoice:
    """How the direction oracle was chosen.

    ``gradients`` holds the measured time of a step of each oracle that was tried, in units of the
    time of one gradient of the same images; ``failed`` says why one could not be used.
    ``kinks_left`` names what the surrogate could not replace, if it was tried.
    """

    asked: str
    chosen: str
    gradients: Mapping[str, float]
    failed: Mapping[str, str]
    kinks_left: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class AttackRow:
    """The attack at one ε; columns have one value per image, in the order of ``names``.

    Attributes
    ----------
    epsilon
        In 1/255; the length of the whole change for the ℓ2 norm.
    values
        Stage (of `STAGES`) → metric → column; ``None`` where the image was not attacked, nothing
        kept the label, or the metric is undefined. ``no_attack`` compares two maps of the clean
        image under independent noise; the others compare the perturbed image's map with the clean
        one. ``eight_bits`` is the image as its file holds it.
    infeasible
        Stage → number of attacked images for which nothing kept the label.
    largest_change, length
        Of the 8-bit image against the clean 8-bit image, in 1/255: the largest change of a value
        (ℓ∞ norm), and the length of the whole change (ℓ2 norm).
    winner
        Index into ``searches`` of the one that found the perturbation, also at a smaller ε.
    """

    epsilon: float
    values: Mapping[str, Mapping[str, Column]]
    infeasible: Mapping[str, int]
    largest_change: Column
    length: Column
    winner: tuple[int | None, ...]

    def mean(self, stage: str, metric: str) -> float | None:
        """Mean over the images that have a value; ``None`` when none has."""
        return _mean(self.values[stage].get(metric, ()))


@dataclass(frozen=True, kw_only=True)
class NaturalRow:
    """An everyday change of the clean images, when nobody attacks; columns as in `AttackRow`.

    Attributes
    ----------
    change
        One of :data:`auditor.probes.natural.CHANGES`.
    values
        Metric → column: the changed image's map against the clean one, under noise of its own;
        ``None`` where the image was not attacked or its prediction changed.
    changed
        Number of attacked images whose prediction changed.
    """

    change: str
    values: Mapping[str, Column]
    changed: int

    def mean(self, metric: str) -> float | None:
        """Mean over the images that have a value; ``None`` when none has."""
        return _mean(self.values.get(metric, ()))


@dataclass(frozen=True, kw_only=True)
class TransferRow:
    """Another explanation's maps under the 8-bit images that the attack found.

    Attributes
    ----------
    explanation
        Whose maps, as asked.
    epsilon
        In 1/255; ``None`` compares two maps of the clean image, under independent noise.
    values
        Metric → column, as in `AttackRow`.
    """

    explanation: str
    epsilon: float | None
    values: Mapping[str, Column]

    def mean(self, metric: str) -> float | None:
        """Mean over the images that have a value; ``None`` when none has."""
        return _mean(self.values.get(metric, ()))


@dataclass(frozen=True, kw_only=True)
class AttackResult:
    """A finished attack.

    Attributes
    ----------
    attack, norm, sigma, samples, k, rule, budget, seed
        As asked; ``samples`` is 1 without smoothing, ``rule`` is ``default`` unless one was given,
        and ``budget`` counts gradients for each image and ε.
    searches
        Each search with its steps.
    target
        Class that is explained, as asked: ``predicted``, ``label`` or an index. Of independent
        labels the one of the index was asked alone: ``predicted`` and ``labels`` then say whether
        it is there (1) or not (0).
    explanation
        Whose maps are attacked; ``simple_grad`` is the plain gradient.
    toward
        What the map is drawn to; empty for attacks that draw it to nothing.
    rounded_images, largest_rounding
        Clean images that were not 8-bit and became so before the attack, and the largest change of
        a value by that, in 1/255.
    misclassified, another_class, no_target
        Images that were not attacked: the label says that the prediction is wrong, else the
        prediction is not the explained class, else there is no map to be drawn to.
    rows, natural
        The attack by ε, and beside it what everyday changes of the same images do.
    transfer
        What the same images do to the maps of other explanations.
    costs
        Model evaluations: ``attack``, ``oracle`` (choosing it), ``scoring`` and ``natural``.
    seconds, model_share
        Wall time from the first evaluation on, and the share of it inside evaluations.
    arrays
        Not in the JSON. ``clean`` (n, C, H, W) and ``perturbed`` (ε, n, C, H, W) levels, uint8;
        ``map_before`` (n, C, H, W) and ``map_after`` (ε, n, C, H, W) raw maps of both, float32;
        ``attacked`` (n,) and ``kept`` (ε, n), bool: what is there, the rest is zero.
    """

    schema_version: int = ATTACK_SCHEMA_VERSION
    auditor_version: str
    created: str
    command: str
    attack: str
    norm: str
    sigma: float
    samples: int
    search_samples: int
    select_samples: int
    k: int
    seed: int
    rule: str
    budget: int
    searches: tuple[str, ...]
    oracle: OracleChoice | None
    target: str
    toward: str
    explanation: str
    model: ModelIdentity
    names: tuple[str, ...]
    source: str
    manifest_sha256: str
    selection: str
    unreadable: tuple[tuple[str, str], ...]
    predicted: tuple[int, ...]
    labels: tuple[int, ...] | None
    rounded_images: int
    largest_rounding: float
    attacked: int
    misclassified: int
    another_class: int
    no_target: int
    rows: tuple[AttackRow, ...]
    natural: tuple[NaturalRow, ...]
    costs: tuple[Cost, ...]
    seconds: float
    model_share: float
    environment: Mapping[str, str]
    transfer: tuple[TransferRow, ...] = ()
    arrays: Mapping[str, npt.NDArray[Any]] = field(default_factory=dict, compare=False, repr=False)

    @property
    def gradients(self) -> float:
        """Gradients that the attack took for each image and ε, measured."""
        spent = sum(cost.gradients for cost in self.costs if cost.probe == "attack")
        return spent / max(1, self.attacked * len(self.rows))

    def to_json(self) -> str:
        """JSON text with sorted keys; infinite or NaN numbers raise ``ValueError``."""
        record = dataclasses.asdict(dataclasses.replace(self, arrays={}))
        del record["arrays"]
        return json.dumps(record, sort_keys=True, ensure_ascii=False, allow_nan=False, indent=1)

    @classmethod
    def from_json(cls, text: str, *, where: str = "attack.json") -> AttackResult:
        """Read what :meth:`to_json` wrote; anything else raises :class:`InputError`."""
        try:
            record = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise InputError(f"{where}: not valid JSON ({error}).") from error
        version = record.get("schema_version") if isinstance(record, dict) else None
        if version != ATTACK_SCHEMA_VERSION:
            raise InputError(
                f"{where}: schema version {version!r}, this auditor reads {ATTACK_SCHEMA_VERSION}."
            )
        try:
            return typing.cast(AttackResult, build(cls, record))
        except (KeyError, OverflowError, TypeError, ValueError) as error:
            raise InputError(f"{where}: not the result of an attack ({error}).") from error
