"""SENS_MAX: how far the map can move when the image moves a little, by random draws."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from auditor.attributions import Method
from auditor.evaluation import Evaluator
from auditor.perturbations import UniformNoise
from auditor.quality.scores import NO_DRAW, NOT_FINITE, Scores, faults, largest, portions, without

VANISHED = "the perturbed map is zero everywhere"
UNITS = {"sens_max": "ratio", "sens_max_unit": "ratio"}


@dataclass(frozen=True, kw_only=True)
class Sensitivity:
    """Largest change of the map over random images y with ‖y − x‖∞ ≤ radius; lower is better.

    ``sens_max`` is max ‖Φ(y) − Φ(x)‖₂ / ‖Φ(x)‖₂ (captum's), ``sens_max_unit`` the distance
    ‖Φ(y)/‖Φ(y)‖ − Φ(x)/‖Φ(x)‖‖₂ of the maps at unit norm (S4 B.1), at most 2. Both on raw maps.

    Attributes
    ----------
    seed
        Of the draws.
    radius
        In pixel units.
    draws
        For each image. A maximum over draws grows with their number.

    Notes
    -----
    **Choice**: S4's Table 4 prints up to 2.32 for the second, for its code divides a running
    maximum anew at every draw; that table is no target. Draws are put back into [0, 1], so that
    they are images and lie in the set that :class:`AttackedSensitivity` searches; captum's are not.
    A method that uses noise uses the same for Φ(x) and Φ(y), and the class stays that of x.

    References
    ----------
    Yeh et al. 2019, definition 3.1; S4 B.1.
    """

    seed: int
    radius: float = 0.1
    draws: int = 50

    def __call__(
        self,
        evaluator: Evaluator,
        method: Method,
        x: Tensor,
        target: Tensor,
        *,
        images: Sequence[int],
        maps: Tensor | None = None,
    ) -> Scores:
        """Sensitivity at ``x`` (B, C, H, W); ``maps`` are the clean ones, if known (draw 0)."""
        if maps is None:
            maps, _ = method(evaluator, x, target, images=images, draw=0)
        clean = maps.double().flatten(1)
        wrong = faults(maps)
        relative, unit, shown, finite = [], [], [], []
        noise = UniformNoise(seed=self.seed, radius=self.radius, clip=True)
        for first, count in portions(self.draws, images=len(x), batch=evaluator.batch):
            y = noise.draw(x, images, first=first, count=count).flatten(0, 1)
            repeated = [image for image in images for _ in range(count)]
            classes = target.repeat_interleave(count)
            moved, _ = method(evaluator, y, classes, images=repeated, draw=0)
            flat = moved.double().reshape(len(x), count, -1)
            size = clean.norm(dim=1)[:, None]
            length = flat.norm(dim=2)
            relative.append((flat - clean[:, None]).norm(dim=2) / size)
            gap = flat / length[..., None] - (clean / size)[:, None]
            unit.append(gap.norm(dim=2))
            finite.append(flat.isfinite().all(dim=2))
            shown.append(length > 0)
        ok, nonzero = torch.cat(finite, dim=1), torch.cat(shown, dim=1)
        values = {
            "sens_max": largest(torch.cat(relative, dim=1), ok),
            "sens_max_unit": largest(torch.cat(unit, dim=1), ok & nonzero),
        }
        values = {name: without(value, *wrong.values()) for name, value in values.items()}
        return Scores(
            values=values,
            units=UNITS,
            undefined=wrong | {NO_DRAW: ~(ok & nonzero).any(dim=1)},
            skipped={NOT_FINITE: (~ok).sum(dim=1), VANISHED: (ok & ~nonzero).sum(dim=1)},
        )
