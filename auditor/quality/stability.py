"""Relative stability: how much the map changes for each change of input, output, representation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from auditor.attributions import Method
from auditor.evaluation import Evaluator
from auditor.perturbations import UniformNoise
from auditor.quality.representation import last_linear
from auditor.quality.scores import (
    CHANGED,
    NO_DRAW,
    NOT_FINITE,
    Scores,
    faults,
    largest,
    portions,
    without,
)

NO_LOGARITHM = "the map never changes: zero has no logarithm"
NAMES = ("ris", "ros", "rrs")


@dataclass(frozen=True, kw_only=True)
class RelativeStability:
    """RIS, ROS and RRS together: each forward pass and each map is computed once for all three.

    Each is the maximum over perturbed images x′ of ‖(Φ − Φ′)/Φ‖₂ over, for RIS, ‖(x − x′)/x‖₂, for
    ROS, ‖z − z′‖₂ of the logits, and for RRS, ‖(h − h′)/h‖₂ of the input of the last linear layer.
    Quotients are taken elementwise, on raw maps, and zeros in their denominators are replaced by
    ``floor``, which is also the least that each maximum is divided by. RIS and RRS are ratios, ROS
    is 1/logit; lower is better. ``log10_…`` are their decimal logarithms, for a single zero pixel
    of the map can move RIS from 2 to 8,000.

    Attributes
    ----------
    seed
        Of the perturbations.
    radius
        Of the uniform noise in pixel units; not clipped, as in Quantus.
    draws
        For each image. A maximum over draws grows with their number.
    floor
        ε_min.

    Notes
    -----
    Perturbed images that change the prediction are skipped, counted and not explained; an image
    all of whose perturbed images do has no value. A method that uses noise uses the same for Φ and
    Φ′. **Choice** of math section 7: the representation is the input of the last linear layer.

    References
    ----------
    S2 (37), (38); Agarwal et al. 2022, *Rethinking Stability for Attribution-based Explanations*.
    """

    seed: int
    radius: float = 0.05
    draws: int = 50
    floor: float = 1e-6

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
        """Stability at ``x`` (B, C, H, W); ``maps`` are the clean ones, if known (draw 0)."""
        if maps is None:
            maps, _ = method(evaluator, x, target, images=images, draw=0)
        wrong = faults(maps)
        inside = last_linear(evaluator, x)
        logits, features = inside.watch(evaluator, x)
        noise = UniformNoise(seed=self.seed, radius=self.radius, clip=False)
        shape = (len(x), self.draws)
        found = {name: torch.full(shape, torch.nan, dtype=torch.float64) for name in NAMES}
        kept = torch.zeros(shape, dtype=torch.bool)
        for first, count in portions(self.draws, images=len(x), batch=evaluator.batch):
            y = noise.draw(x, images, first=first, count=count).flatten(0, 1)
            row = torch.arange(len(x)).repeat_interleave(count)
            draw = torch.arange(first, first + count).repeat(len(x))
            after, moved_features = inside.watch(evaluator, y)
            same = (after.argmax(dim=1) == logits.argmax(dim=1)[row]).nonzero()[:, 0]
            if not len(same):
                continue
            row, draw, y = row[same], draw[same], y[same]
            kept[row, draw] = True
            known = [images[index] for index in row.tolist()]
            moved, _ = method(evaluator, y, target[row], images=known, draw=0)
            change = self._relative(maps[row], moved)
            found["ris"][row, draw] = change / self._at_least(self._relative(x[row], y))
            gap = (logits[row].double() - after[same].double()).norm(dim=1)
            found["ros"][row, draw] = change / self._at_least(gap)
            if features is not None and moved_features is not None:
                gap = self._relative(features[row], moved_features[same])
                found["rrs"][row, draw] = change / self._at_least(gap)
        if features is None:
            del found["rrs"]
        return self._scores(found, kept, wrong, unavailable=inside.reason)

    def _relative(self, before: Tensor, after: Tensor) -> Tensor:
        """‖(a − b)/a‖₂ (B,) of two batches."""
        a, b = before.double().flatten(1), after.double().flatten(1)
        change: Tensor = ((a - b) / torch.where(a == 0, self.floor, a)).norm(dim=1)
        return change

    def _at_least(self, length: Tensor) -> Tensor:
        return length.clamp_min(self.floor)

    def _scores(
        self, found: dict[str, Tensor], kept: Tensor, wrong: dict[str, Tensor], *, unavailable: str
    ) -> Scores:
        finite = {name: values.isfinite() for name, values in found.items()}
        values = {
            name: without(largest(v, kept & finite[name]), *wrong.values())
            for name, v in found.items()
        }
        still = torch.stack([v == 0 for v in values.values()]).any(dim=0)
        values |= {f"log10_{name}": without(v.log10(), v == 0) for name, v in values.items()}
        broken = kept & ~torch.stack(list(finite.values())).all(dim=0)
        missing = [] if "rrs" in found else ["rrs", "log10_rrs"]
        return Scores(
            values=values,
            units={name: _unit(name) for name in values},
            undefined=wrong | {NO_DRAW: ~(kept & ~broken).any(dim=1), NO_LOGARITHM: still},
            skipped={CHANGED: (~kept).sum(dim=1), NOT_FINITE: broken.sum(dim=1)},
            unavailable=dict.fromkeys(missing, unavailable),
        )


def _unit(name: str) -> str:
    if name.startswith("log10"):
        return "log10"
    return "1/logit" if name == "ros" else "ratio"
