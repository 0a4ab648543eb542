"""SSIM under noise: whether the map looks the same when the image is a little noisy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from auditor.attributions import Method
from auditor.evaluation import Evaluator
from auditor.metrics.drift import SSIM_WINDOW, ssim
from auditor.perturbations import GaussianNoise
from auditor.quality.scores import CHANGED, NO_DRAW, NOT_FINITE, Scores, faults, mean, portions
from auditor.quality.scores import without as undefined_where

STDS = (0.02, 0.05, 0.1, 0.2)


@dataclass(frozen=True, kw_only=True)
class NoiseSsim:
    """Mean structural similarity of the maps of an image and of noisy copies that keep its class.

    A ratio in [−1, 1] for each standard deviation, ``ssim_noise_STD``; higher is better. On the
    visual view, by scikit-image; see :func:`auditor.metrics.drift.ssim`. Noisy copies that change
    the prediction are skipped, counted and not explained.

    Attributes
    ----------
    seed
        Of the noise; each standard deviation scales the same draws.
    stds
        In pixel units; noise is not clipped.
    draws
        Noisy copies of each image (S2 takes one).

    References
    ----------
    S2 I.4 and Figures 4 to 6; Adebayo et al. 2018.
    """

    seed: int
    stds: tuple[float, ...] = STDS
    draws: int = 5

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
        """Similarity at ``x`` (B, C, H, W); ``maps`` are the clean ones, if known (draw 0)."""
        names = [f"ssim_noise_{std:g}" for std in self.stds]
        if min(x.shape[2:]) < SSIM_WINDOW:
            reason = f"maps are smaller than the window of SSIM, {SSIM_WINDOW} pixels."
            return Scores(values={}, units={}, unavailable=dict.fromkeys(names, reason))
        if maps is None:
            maps, _ = method(evaluator, x, target, images=images, draw=0)
        wrong = faults(maps)
        predicted = evaluator.logits(x).argmax(dim=1)
        values, skipped = {}, {}
        empty, broken = torch.zeros(len(x), dtype=torch.bool), torch.zeros(len(x), dtype=torch.long)
        for name, std in zip(names, self.stds, strict=True):
            found = torch.full((len(x), self.draws), torch.nan, dtype=torch.float64)
            kept = torch.zeros(found.shape, dtype=torch.bool)
            noise = GaussianNoise(seed=self.seed, std=std)
            for first, count in portions(self.draws, images=len(x), batch=evaluator.batch):
                y = noise.draw(x, images, first=first, count=count).flatten(0, 1)
                row = torch.arange(len(x)).repeat_interleave(count)
                draw = torch.arange(first, first + count).repeat(len(x))
                same = (evaluator.logits(y).argmax(dim=1) == predicted[row]).nonzero()[:, 0]
                if not len(same):
                    continue
                row, draw, y = row[same], draw[same], y[same]
                kept[row, draw] = True
                known = [images[index] for index in row.tolist()]
                moved, _ = method(evaluator, y, target[row], images=known, draw=0)
                found[row, draw] = ssim(maps[row], moved)
            counted = kept & found.isfinite()
            values[name] = undefined_where(mean(found, counted), *wrong.values())
            skipped[f"{CHANGED}, std {std:g}"] = (~kept).sum(dim=1)
            broken += (kept & ~counted).sum(dim=1)
            empty |= ~counted.any(dim=1)
        return Scores(
            values=values,
            units=dict.fromkeys(values, "ratio"),
            undefined=wrong | {NO_DRAW: empty},
            skipped=skipped | {NOT_FINITE: broken},
        )
