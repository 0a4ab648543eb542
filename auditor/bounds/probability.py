"""The smoothed probability of a class and the length of its map, with limits from draws."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from auditor.attributions import Noise
from auditor.bounds.smoothing import cosine_limit, probability_drift
from auditor.evaluation import Evaluator

CLEAN = 7
"""Noise stream of the smoothed probability at the image itself."""
MOVED = 8
"""Noise stream of the same at a perturbed image."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ProbabilityMap:
    """What independent draws say of p_σ = E p(x + z) and of its map ∇p_σ.

    Attributes
    ----------
    low, high
        Limits (B,) of p_σ by Hoeffding, each at half of the error.
    mean
        Mean map (B, C, H, W), float64.
    error
        ‖mean − ∇p_σ‖₂ (B,) is not above this, by Chebyshev's inequality with the variance that the
        draws have.
    """

    low: Tensor
    high: Tensor
    mean: Tensor
    error: Tensor


def of_probability(evaluator: Evaluator) -> Evaluator:
    """The same model with probabilities in the place of logits, whose gradients are the maps."""
    model = evaluator.model
    return dataclasses.replace(evaluator, model=lambda x: model(x).softmax(dim=1))


def probability_map(
    evaluator: Evaluator,
    x: Tensor,
    target: Tensor,
    *,
    images: Sequence[int],
    sigma: float,
    draws: int,
    seed: int,
    stream: int = CLEAN,
    confidence: float = 0.95,
) -> ProbabilityMap:
    """Estimate p_σ and ∇p_σ from ``draws`` independent draws of N(0, σ²I).

    All limits of an image hold with probability ``confidence`` together.
    """
    soft = of_probability(evaluator)
    noise = Noise(seed=seed, stream=stream, sampler="iid")
    shape = tuple(x.shape[1:])
    total = torch.zeros(x.shape, dtype=torch.float64)
    squares = torch.zeros(len(x), dtype=torch.float64)
    p = torch.zeros(len(x), dtype=torch.float64)
    at_once = max(1, evaluator.batch // len(x))
    for first in range(0, draws, at_once):
        count = min(at_once, draws - first)
        z = noise.draw(images, shape, first=first, count=count)
        noisy = (x[:, None] + sigma * z).flatten(0, 1)
        classes = target.repeat_interleave(count)
        maps, values = soft.gradients(noisy, classes)
        total += maps.double().reshape(len(x), count, *shape).sum(dim=1)
        squares += maps.double().square().sum(dim=(1, 2, 3)).reshape(len(x), count).sum(dim=1)
        p += values.double().gather(1, classes[:, None])[:, 0].reshape(len(x), count).sum(dim=1)
    mean, share = total / draws, (1 - confidence) / 2
    spread = (squares - draws * mean.square().sum(dim=(1, 2, 3))).clamp_min(0) / (draws - 1)
    margin = math.sqrt(math.log(2 / share) / (2 * draws))
    return ProbabilityMap(
        low=(p / draws - margin).clamp(0, 1),
        high=(p / draws + margin).clamp(0, 1),
        mean=mean,
        error=(spread / (draws * share)).sqrt(),
    )


def certified_cosine(clean: ProbabilityMap, *, radius: float, sigma: float) -> Tensor:
    """Most that the cosine distance of ∇p_σ (B,) can be for ‖δ‖₂ ≤ ``radius``.

    ``nan`` where the certificate is vacuous: the drift may be as long as the map surely is.
    """
    drift = probability_drift(clean.low, clean.high, radius=radius, sigma=sigma)
    size = clean.mean.flatten(1).norm(dim=1) - clean.error
    return torch.where(size > 0, cosine_limit(drift, size.clamp_min(1e-300)), torch.nan)


def attacked_cosine(clean: ProbabilityMap, moved: ProbabilityMap) -> Tensor:
    """Least that the cosine distance (B,) between the two expected maps can be.

    The angle between the means, less what the error of each can turn it.
    """
    a, b = clean.mean.flatten(1), moved.mean.flatten(1)
    sizes = a.norm(dim=1), b.norm(dim=1)
    angle = torch.acos(((a * b).sum(dim=1) / (sizes[0] * sizes[1])).clamp(-1, 1))
    for found, size in zip((clean, moved), sizes, strict=True):
        angle = angle - torch.asin((found.error / size).clamp(0, 1))
        angle = torch.where(found.error < size, angle, 0.0)
    return 1 - torch.cos(angle.clamp_min(0))
