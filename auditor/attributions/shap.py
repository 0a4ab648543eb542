"""KernelSHAP: the share of each superpixel in the logit, from images that lack some of them."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from skimage.segmentation import slic
from torch import Tensor

from auditor.attributions.noise import Noise, mix
from auditor.attributions.path import BASELINES
from auditor.attributions.traced import NotApplicableError, NotDifferentiable
from auditor.evaluation import Evaluator

_COALITIONS = 13
"""Keeps the coalitions apart from other random numbers of an image."""

SMALL = 28 * 28
"""Up to this size every pixel stands for itself."""


@dataclass(frozen=True, kw_only=True)
class KernelShap(NotDifferentiable):
    """Shapley values of superpixels, by weighted least squares. Source: Lundberg, Lee 2017.

    Each pixel of a superpixel, and each of its channels, gets an equal part of its value, so that
    the map adds up to f(x) − f(x₀). Where there are no more coalitions than samples all of them are
    asked and the values are exact; else they come in pairs, one lacking what the other one keeps,
    their sizes drawn by the kernel. captum's needs scikit-learn and asks image by image.

    Attributes
    ----------
    samples
        Coalitions for each image.
    segments
        Superpixels wanted (SLIC, Achanta 2012), for images of more than 28×28 pixels.
    baseline
        What stands in for those that lack: one of :data:`auditor.attributions.path.BASELINES`.
    noise
        Where the coalitions come from.
    """

    samples: int = 2000
    segments: int = 100
    baseline: str = "black"
    noise: Noise

    @property
    def name(self) -> str:
        """As in the tables of a report."""
        return "kernel_shap"

    @property
    def identity(self) -> str:
        """Samples, superpixels and baseline."""
        return f"samples={self.samples} segments={self.segments} baseline={self.baseline}"

    @property
    def price(self) -> int:
        """Gradients of the model that one map takes; a forward pass is a third."""
        return -(-self.samples // 3)

    def seeded(self, noise: Noise) -> KernelShap:
        """The same with coalitions from elsewhere."""
        return dataclasses.replace(self, noise=noise)

    def __call__(
        self, evaluator: Evaluator, x: Tensor, target: Tensor, *, images: Sequence[int], draw: int
    ) -> tuple[Tensor, Tensor]:
        """Maps (B, C, H, W) and logits (B, classes)."""
        logits, start = evaluator.logits(x), BASELINES[self.baseline](x)
        before = evaluator.logits(start)
        maps = []
        for row, image in enumerate(images):
            cells = superpixels(x[row], self.segments)
            count = int(cells.max()) + 1
            if count < 2:
                raise NotApplicableError(
                    f"{self.name}: images of {x.shape[2]}×{x.shape[3]} pixels have no superpixels "
                    "to tell apart."
                )
            generator = torch.Generator().manual_seed(
                mix(self.noise.seed, self.noise.stream, image, draw, _COALITIONS)
            )
            present, weights = coalitions(count, self.samples, generator)
            label = int(target[row])
            here, empty = logits[row, label].double(), before[row, label].double()
            said = []
            for some in torch.split(present, evaluator.batch):
                kept = some[:, cells][:, None].to(x.dtype)
                mixed = kept * x[row] + (1 - kept) * start[row]
                said.append(evaluator.logits(mixed)[:, label].double() - empty)
            values = shapley(present.double(), torch.cat(said), weights, total=here - empty)
            size = torch.bincount(cells.flatten(), minlength=count) * x.shape[1]
            maps.append((values / size)[cells].expand_as(x[row]))
        return torch.stack(maps).to(x.dtype), logits


def superpixels(image: Tensor, segments: int) -> Tensor:
    """Superpixel (H, W) of each pixel of an image (C, H, W), numbered from 0."""
    height, width = image.shape[1:]
    if height * width <= SMALL:
        return torch.arange(height * width).reshape(height, width)
    pixels = image.double().movedim(0, 2).numpy()
    # Compact and of a smoothed image, else noise falls into a single superpixel.
    found = torch.from_numpy(
        slic(pixels, segments, compactness=30, sigma=1, start_label=0, channel_axis=2)
    )
    numbered: Tensor = torch.unique(found, return_inverse=True)[1]
    return numbered


def coalitions(count: int, samples: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Which of ``count`` ≥ 2 players are present, (n, count) bool, and the weight of each (n,)."""
    sizes = torch.arange(1, count, dtype=torch.float64)
    kernel = (count - 1) / (sizes * (count - sizes))
    if count < 32 and 2**count - 2 <= samples:
        every = torch.tensor(list(itertools.product((False, True), repeat=count))[1:-1])
        size = every.sum(dim=1)
        # Shapley kernel: that of a size, shared among the coalitions of the size.
        many = torch.exp(
            torch.lgamma(torch.tensor(count + 1.0, dtype=torch.float64))
            - torch.lgamma(size + 1.0)
            - torch.lgamma(count - size + 1.0)
        )
        return every, kernel[size - 1] / many
    half = -(-samples // 2)
    size = 1 + torch.multinomial(kernel, half, replacement=True, generator=generator)
    ranks = torch.rand((half, count), generator=generator).argsort(dim=1).argsort(dim=1)
    first = ranks < size[:, None]
    both = torch.stack([first, ~first], dim=1).flatten(0, 1)[:samples]
    return both, torch.ones(len(both), dtype=torch.float64)


def shapley(present: Tensor, gained: Tensor, weights: Tensor, *, total: Tensor) -> Tensor:
    """Values (M,) that sum to ``total`` and explain what coalitions (n, M) gained (n,) best."""
    gram = torch.einsum("n,ni,nj->ij", weights, present, present) / weights.sum()
    # With fewer samples than players the least norm decides; else this is below rounding.
    gram.diagonal().add_(1e-10)
    right = torch.einsum("n,ni,n->i", weights, present, gained) / weights.sum()
    solved = torch.linalg.solve(gram, torch.stack([right, torch.ones_like(right)], dim=1))
    free, ones = solved.unbind(dim=1)
    values: Tensor = free + ones * (total - free.sum()) / ones.sum()
    return values
