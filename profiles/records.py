"""What a profile declares: frozen records without behavior beyond looking up a size of attack."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

LARGE_INPUT = 128 * 128
"""Number of pixels (H·W) from which a profile's ``epsilon_large`` replaces its ``epsilon``."""

FEWEST = 30
"""Images that must count in each half before anything is decided (math section 8)."""

INDIFFERENCE = 0.02
"""Difference of an objective that does not matter, unless the profile says otherwise."""


def _size(epsilon: float, epsilon_large: float | None, height: int, width: int) -> float:
    return epsilon_large if epsilon_large and height * width >= LARGE_INPUT else epsilon


class ProfileError(ValueError):
    """A profile is unknown or wrong; the message (one or two lines) says where and what to do."""


@dataclass(frozen=True, kw_only=True)
class Quantity:
    """A measured quantity, named as in the records of measurements.

    Attributes
    ----------
    probe
        ``attack``, ``smoothing``, ``twin`` or ``quality``.
    metric
        Name of the metric, e.g. ``topk_intersection``.
    attack
        ``topk`` for the probe ``attack``, else ``None``.
    epsilon, epsilon_large
        Size of the attack in 1/255 units, in (0, 255]; ``epsilon_large`` is used from 128×128
        pixels on. ``None`` where nothing is attacked.
    """

    probe: str
    metric: str
    attack: str | None = None
    epsilon: float | None = None
    epsilon_large: float | None = None

    def epsilon_at(self, height: int, width: int) -> float | None:
        """Size of the attack (1/255) for images of this height and width; ``None`` without one."""
        if self.epsilon is None:
            return None
        return _size(self.epsilon, self.epsilon_large, height, width)


@dataclass(frozen=True, kw_only=True)
class Objective(Quantity):
    """What is best among the σ that meet every criterion.

    ``direction`` is ``minimize`` or ``maximize``; ``because`` says why this quantity decides;
    two σ whose objectives differ by at most ``indifference`` are equally good.
    """

    direction: str
    because: str
    indifference: float = INDIFFERENCE


@dataclass(frozen=True, kw_only=True)
class Criterion(Quantity):
    """A limit that the mean over images must clear.

    Attributes
    ----------
    name, title
        Short name, unique in the profile, and the words of the report.
    comparison, bound
        ``>=`` or ``<=`` and the limit, in the metric's own unit.
    compared_to
        ``unsmoothed``: the limit holds for the difference to σ = 0, paired by image.
    because
        Where the limit comes from: a paper, a theorem, or "a judgment: …".
    method
        Attribution method that is held to it; ``None``: all.
    confidence
        Level of the interval, if not the profile's.
    images
        Images that must count in each half.
    basis
        ``paper``, ``regulation``, ``standard``, ``judgment`` or ``own words``.
    """

    name: str
    title: str
    comparison: str
    bound: float
    because: str
    compared_to: str | None = None
    method: str | None = None
    confidence: float | None = None
    images: int = FEWEST
    basis: str = "own words"


@dataclass(frozen=True, kw_only=True)
class Measure:
    """What to measure, where the profile says so: σ in pixel units, draws, gradients."""

    sigmas: tuple[float, ...] | None = None
    samples: int | None = None
    budget: int | None = None


@dataclass(frozen=True, kw_only=True)
class Gates:
    """Thresholds a σ must meet before any criterion is looked at (ratios in [0, 1]).

    Attributes
    ----------
    map_present
        Least share of images whose smoothed map has not vanished.
    self_overlap
        Least mean top-k overlap of two smoothed maps made with different noise.
    label_kept
        Least mean share of noise draws that keep the explained class.
    reinitialized_margin
        Without a twin, the overlap with the map of a re-initialized network may exceed chance by
        at most this much. With a twin it must stay below the overlap with the twin.
    because
        Where these thresholds come from.
    """

    map_present: float
    self_overlap: float
    label_kept: float
    reinitialized_margin: float
    because: str


@dataclass(frozen=True, kw_only=True)
class Threat:
    """Size of the attack a profile reckons with (1/255 units), and why."""

    epsilon: float
    epsilon_large: float | None = None
    because: str


@dataclass(frozen=True, kw_only=True)
class Profile:
    """How the measurements become a decision; ``text`` is the file as it was declared."""

    name: str
    title: str
    summary: str
    confidence: float
    threat: Threat
    objective: Objective
    criteria: tuple[Criterion, ...]
    gates: Gates
    text: str
    measure: Measure = Measure()

    @property
    def sha256(self) -> str:
        """Hash of the declared text, as hexadecimal digits."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    def metrics(self, probe: str) -> tuple[str, ...]:
        """Metrics of a probe that the objective or a criterion looks at, each once."""
        quantities: tuple[Quantity, ...] = (self.objective, *self.criteria)
        return tuple(dict.fromkeys(q.metric for q in quantities if q.probe == probe))

    def front_epsilon(self, height: int, width: int) -> float:
        """Size of the attack (1/255) at which σ are compared on the Pareto front."""
        return _size(self.threat.epsilon, self.threat.epsilon_large, height, width)

    def attack_epsilons(self, height: int, width: int) -> tuple[float, ...]:
        """Sizes (1/255, ascending) at which the map at every σ must be attacked for a decision."""
        quantities: tuple[Quantity, ...] = (self.objective, *self.criteria)
        sizes = {quantity.epsilon_at(height, width) for quantity in quantities}
        return tuple(sorted({self.front_epsilon(height, width), *filter(None, sizes)}))
