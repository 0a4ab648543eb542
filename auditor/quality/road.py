"""ROAD: whether the class's probability falls when the pixels that the map shows are imputed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from auditor.attributions.noise import Noise, mix
from auditor.evaluation import Evaluator
from auditor.metrics.views import magnitude
from auditor.quality.multigrid import fill
from auditor.quality.scores import NOT_FINITE, Scores, faults, without

NOISE_STREAM, RANDOM_STREAM = 20, 21
CHUNK = 1 << 20
"""Values (of all channels) of the images that are imputed at once."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Curve:
    """What the model says while ever more pixels are imputed.

    Attributes
    ----------
    probability
        Of the explained class, (B, steps + 1) float64; first that of the untouched image.
    kept
        Whether the class is still predicted, (B, steps + 1).
    """

    probability: Tensor
    kept: Tensor

    @property
    def aopc(self) -> Tensor:
        """Area over the curve (B,): Σₖ (p₀ − pₖ) / (L + 1), L steps (S2 4.1); at most L/(L + 1)."""
        steps = self.probability.shape[1]
        return (self.probability[:, :1] - self.probability).sum(dim=1) / steps


@dataclass(frozen=True, kw_only=True)
class Road:
    """Remove and debias: pixels are imputed from their neighbors, most or least relevant first.

    ``road_morf`` is the AOPC with the most relevant pixels first, higher is better; ``road_lerf``
    that with the least relevant ones first, lower is better; ``road_random`` that of a random map,
    the baseline of both. Ratios, on the magnitude. ``details`` holds the curves.

    Attributes
    ----------
    seed
        Of the imputation's noise, the same for all three orders, and of the random map.
    noise
        Standard deviation of what is added to imputed pixels, in pixel units (Rong et al.).
    step, last
        Percent of the pixels that are imputed more at every step, and at the last one.

    Notes
    -----
    **Choice** of math section 7: 5% steps to 95%. S2 and Rong et al. plot the accuracy over a
    data set: that is the mean of ``details["road_morf_kept"]`` over correctly classified images.

    References
    ----------
    Rong et al. 2022, *A Consistent and Efficient Evaluation Strategy for Attribution Methods*;
    S2 4.1 and I.3.
    """

    seed: int
    noise: float = 0.01
    step: int = 5
    last: int = 95

    @property
    def percents(self) -> tuple[int, ...]:
        """Percent of imputed pixels at each step."""
        return tuple(range(self.step, self.last + 1, self.step))

    def __call__(
        self,
        evaluator: Evaluator,
        maps: Tensor,
        x: Tensor,
        target: Tensor,
        *,
        images: Sequence[int],
        random: Curve | None = None,
    ) -> Scores:
        """Curves of raw maps (B, C, H, W) of images ``x``; ``random``: see :meth:`baseline`."""
        wrong = faults(maps)
        order = magnitude(maps).flatten(1).argsort(dim=1, descending=True, stable=True)
        curves = {
            "road_morf": self.curve(evaluator, order, x, target, images=images),
            "road_lerf": self.curve(evaluator, order.flip(1), x, target, images=images),
            "road_random": random or self.baseline(evaluator, x, target, images=images),
        }
        lost = ~torch.stack([c.aopc for c in curves.values()]).isfinite().all(dim=0)
        wrong[NOT_FINITE] = wrong[NOT_FINITE] | lost
        values = {name: without(curve.aopc, *wrong.values()) for name, curve in curves.items()}
        details = {f"{name}_curve": curve.probability for name, curve in curves.items()}
        details |= {f"{name}_kept": curve.kept for name, curve in curves.items()}
        return Scores(
            values=values,
            units=dict.fromkeys(values, "ratio"),
            undefined=wrong,
            details=details,
        )

    def baseline(
        self, evaluator: Evaluator, x: Tensor, target: Tensor, *, images: Sequence[int]
    ) -> Curve:
        """The curve of a random map of each image: the same for all methods that are compared."""
        orders = []
        for image in images:
            generator = torch.Generator().manual_seed(mix(self.seed, RANDOM_STREAM, image))
            orders.append(torch.randperm(x.shape[2] * x.shape[3], generator=generator))
        return self.curve(evaluator, torch.stack(orders), x, target, images=images)

    def curve(
        self,
        evaluator: Evaluator,
        order: Tensor,
        x: Tensor,
        target: Tensor,
        *,
        images: Sequence[int],
    ) -> Curve:
        """What the model says while pixels are imputed in an order (B, H·W) of flat indices."""
        steps = len(self.percents)
        probability = torch.empty((len(x), steps + 1), dtype=torch.float64)
        kept = torch.empty((len(x), steps + 1), dtype=torch.bool)
        probability[:, 0], kept[:, 0] = _judge(evaluator, x, target)
        at_once = max(1, CHUNK // x[0].numel())
        for rows in torch.split(torch.arange(len(x)), max(1, at_once // steps)):
            known = [images[row] for row in rows.tolist()]
            imputed = self.impute(x[rows], order[rows], images=known)
            classes = target[rows].repeat_interleave(steps)
            found = _judge(evaluator, imputed.flatten(0, 1), classes)
            probability[rows, 1:], kept[rows, 1:] = (part.reshape(-1, steps) for part in found)
        return Curve(probability=probability, kept=kept)

    def impute(self, x: Tensor, order: Tensor, *, images: Sequence[int]) -> Tensor:
        """Images (B, steps, C, H, W) whose first pixels of the order (B, H·W) are imputed.

        Noise is added to imputed pixels only, and nothing is clipped.
        """
        size = x.shape[2] * x.shape[3]
        place = torch.empty_like(order)
        place.scatter_(1, order, torch.arange(size).expand_as(order))
        counts = torch.tensor([percent * size // 100 for percent in self.percents])
        missing = (place[:, None] < counts[:, None]).reshape(-1, 1, *x.shape[2:])
        whole = x.repeat_interleave(len(counts), dim=0)
        at_once = max(1, CHUNK // x[0].numel())
        pieces = zip(torch.split(whole, at_once), torch.split(missing, at_once), strict=True)
        filled = torch.cat([fill(part, holes) for part, holes in pieces])
        if self.noise:
            noise = Noise(seed=self.seed, stream=NOISE_STREAM)
            z = noise.draw(images, tuple(x.shape[1:]), first=0, count=len(counts))
            filled += self.noise * z.flatten(0, 1).to(x.dtype) * missing
        return filled.reshape(len(x), len(counts), *x.shape[1:])


def _judge(evaluator: Evaluator, x: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Probability (B,) of the target class, and whether (B,) it is predicted."""
    logits = evaluator.logits(x)
    probability = logits.double().softmax(dim=1).gather(1, target[:, None])[:, 0]
    return probability, logits.argmax(dim=1) == target
