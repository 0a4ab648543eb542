"""The expected sparsified map: how often a pixel is among the strongest of a noisy copy's map."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from scipy.stats import beta
from torch import Tensor

from attacks.clean import top_set
from auditor.attributions import Method, Noise
from auditor.errors import InputError
from auditor.evaluation import Evaluator

CLEAN = 4
"""Noise stream of the certificate at the image itself."""
MOVED = 5
"""Noise stream of the same map at a perturbed image, independent of the first."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Votes:
    """Counts of independent draws in which a pixel was among the strongest.

    Attributes
    ----------
    counts
        (B, H·W), integer: the mean sparsified map is counts/draws.
    draws
        Independent noisy copies of each image.
    """

    counts: Tensor
    draws: int


@dataclass(frozen=True, kw_only=True, eq=False)
class Band:
    """Limits that hold for all pixels of an image at once.

    Attributes
    ----------
    low, high
        (B, H·W), float64, of the expected sparsified map, in [0, 1].
    """

    low: Tensor
    high: Tensor


@dataclass(frozen=True, kw_only=True)
class Sparsified:
    """Sparsified smoothing: E_z h(x + z), h marking the ``kept`` strongest pixels of a map.

    Levine, Singla, Feizi 2019 (arXiv 1905.12105) clip the magnitude over its γ-quantile to [0, 1]
    and zero all but the top τ; here γ = 1 − τ/d, so that h is 0 or 1 and its mean a probability,
    whose limits are exact. Draws are independent, never stratified.

    Attributes
    ----------
    method
        Any method; its class is fixed.
    sigma
        Of the noise, in pixel units, > 0.
    kept
        Pixels τ that each draw marks.

    Raises
    ------
    InputError
        If σ is not positive.
    """

    method: Method
    sigma: float
    kept: int
    seed: int

    def __post_init__(self) -> None:
        if not self.sigma > 0:
            raise InputError("A certificate needs noise: give a sigma above 0.")

    def votes(
        self,
        evaluator: Evaluator,
        x: Tensor,
        target: Tensor,
        *,
        images: Sequence[int],
        draws: int,
        stream: int = CLEAN,
    ) -> Votes:
        """Count over ``draws`` noisy copies of images (B, C, H, W) for the classes (B,)."""
        shape = tuple(x.shape[1:])
        noise = Noise(seed=self.seed, stream=stream, sampler="iid")
        method = self.method.seeded(noise)
        counts = torch.zeros((len(x), shape[1] * shape[2]), dtype=torch.long)
        at_once = 1 if method.random else max(1, evaluator.batch // len(x))
        for first in range(0, draws, at_once):
            count = min(at_once, draws - first)
            z = noise.draw(images, shape, first=first, count=count)
            noisy = (x[:, None] + self.sigma * z).flatten(0, 1)
            maps, _ = method(
                evaluator,
                noisy,
                target.repeat_interleave(count),
                images=[image for image in images for _ in range(count)],
                draw=first,
            )
            marked = top_set(maps, self.kept) & maps.abs().sum(dim=1).flatten(1).gt(0)
            counts += marked.reshape(len(x), count, -1).sum(dim=1)
        return Votes(counts=counts, draws=draws)


def band(votes: Votes, *, confidence: float) -> Band:
    """Limits of the expected map that all hold with probability ``confidence``.

    Clopper and Pearson's, at (1 − confidence)/(2d) for each side of each of the d pixels: tighter
    than Hoeffding's e = √(ln(2d/(1−confidence))/2n) everywhere, and much so near 0 and 1, which is
    where a certificate is won.
    """
    n, pixels = votes.draws, votes.counts.shape[1]
    alpha = (1 - confidence) / (2 * pixels)
    # One evaluation for each count that occurs.
    seen, place = torch.unique(votes.counts, return_inverse=True)
    k = seen.double()
    low = torch.from_numpy(beta.ppf(alpha, k.numpy(), (n - k + 1).numpy())).nan_to_num(0.0)
    high = torch.from_numpy(beta.ppf(1 - alpha, (k + 1).numpy(), (n - k).numpy())).nan_to_num(1.0)
    return Band(low=low.where(k > 0, 0.0)[place], high=high.where(k < n, 1.0)[place])
