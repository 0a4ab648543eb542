"""How many noise draws a map needs: a pilot on a few images, before the audit."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from auditor.attributions import Method
from auditor.attributions.noise import mix
from auditor.evaluation import Evaluator, Meter
from auditor.images import ImageSet
from auditor.probes.smoothing import map_error
from auditor.probes.subject import Subject, clean_maps
from auditor.settings import Settings
from auditor.target import explained_classes

AUTO = "auto"
"""What a user says instead of a number."""

ENOUGH = 0.1
"""Median map error at which draws suffice: a tenth of the map's norm."""

FEWEST, MOST = 8, 400
"""Draws with which a pilot begins, and beyond which it does not go."""

IMAGES = 8
"""Most images of a pilot."""

PILOT = 1001
"""Keeps the noise of the pilot apart from that of the maps that it is for."""


@dataclass(frozen=True, kw_only=True)
class Pilot:
    """What a pilot found.

    Attributes
    ----------
    samples
        Draws per map.
    reason
        Why so many, in a few words.
    gradients, forwards, seconds
        What finding out took.
    """

    samples: int
    reason: str
    gradients: int
    forwards: int
    seconds: float

    @property
    def words(self) -> str:
        """The value of the setting."""
        return f"{self.samples} ({AUTO}: {self.reason})"


def auto_samples(
    evaluator: Evaluator,
    images: ImageSet,
    settings: Settings,
    *,
    target: str | int,
    method: Method,
) -> Pilot:
    """Run a pilot on at most `IMAGES` of the images, spread evenly over them.

    ``settings`` gives the σ, the seed, and the draws that stay where none suffice.
    """
    count = len(images.names)
    few = min(IMAGES, count)
    rows = [index * count // few for index in range(few)]
    x = images.batch(rows)
    labels = None if images.labels is None else [images.labels[row] for row in rows]
    # A fresh meter: like the preflight, these few predictions belong to no probe.
    predicted = dataclasses.replace(evaluator, meter=Meter()).logits(x).argmax(dim=1)
    subject = Subject(
        x=x,
        target=explained_classes(target, predicted, labels),
        images=tuple(rows),
        k=settings.k,
        seed=mix(settings.seed, PILOT),
        method=method,
    )
    return pilot(evaluator, subject, sigmas=settings.sigmas, usual=settings.samples)


def pilot(evaluator: Evaluator, subject: Subject, *, sigmas: Sequence[float], usual: int) -> Pilot:
    """The most draws that any σ needs for a median map error of `ENOUGH`.

    At each σ the draws are doubled until they suffice. A σ at which `MOST` would not, given that an
    error falls like 1/√n, does not count: its maps are noise at any price that an audit can pay,
    and the self-overlap tells. Where that is so at every σ, the ``usual`` number stays.
    """
    meter, start = Meter(), time.perf_counter()
    evaluator = dataclasses.replace(evaluator, meter=meter, probe="pilot")
    smooth = [sigma for sigma in sigmas if sigma > 0]
    needed = {sigma: _needed(evaluator, subject, sigma) for sigma in smooth}
    reached = [(*found, sigma) for sigma, found in needed.items() if found is not None]
    lost = [sigma for sigma, found in needed.items() if found is None]
    limit = f"not within {ENOUGH:.0%} with {MOST} draws"
    if reached:
        samples, error, sigma = max(reached)
        reason = f"map error {_percent(error)} at σ = {sigma:g}"
        if lost:
            reason += f"; {limit} at σ = {', '.join(f'{sigma:g}' for sigma in lost)}"
    else:
        why = f"{limit} at any σ" if smooth else "nothing is smoothed"
        samples, reason = usual, f"{why}, so the effort's number"
    return Pilot(
        samples=samples,
        reason=reason,
        gradients=sum(meter.gradients.values()),
        forwards=sum(meter.forwards.values()),
        seconds=time.perf_counter() - start,
    )


def _needed(evaluator: Evaluator, subject: Subject, sigma: float) -> tuple[int, float] | None:
    """Draws that suffice at a σ and the median map error with them; ``None`` if none would."""
    samples = FEWEST
    while True:
        maps = clean_maps(evaluator, subject, sigma=sigma, samples=samples)
        errors = map_error(maps.shown, maps.fresh)
        error = torch.nanquantile(errors, 0.5).item()
        if error <= ENOUGH:
            return samples, error
        if not error * math.sqrt(samples / MOST) <= ENOUGH:  # or nan: all maps are zero
            return None
        samples = min(2 * samples, MOST)


def _percent(share: float) -> str:
    return f"{100 * share:.2g}%"
