"""Integrated gradients, plain and smoothed: gradients along the way from a baseline."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar, Protocol

import numpy as np
import torch
from torch import Tensor

from auditor.attributions.gradient import GradXInput, Method, Settled, Smoothed
from auditor.attributions.noise import Noise, mix
from auditor.evaluation import Evaluator

_ALPHA = 12
"""Keeps the places on the way apart from other random numbers of an image."""


def _black(x: Tensor) -> Tensor:
    return torch.zeros_like(x)


def _mean(x: Tensor) -> Tensor:
    return x.mean(dim=(2, 3), keepdim=True).expand_as(x)


def _blurred(x: Tensor) -> Tensor:
    """Gaussian blur by a twentieth of the shorter side, at the edge by what lies inside."""
    std = min(x.shape[2:]) / 20

    def weights(size: int) -> Tensor:
        place = torch.arange(size, dtype=x.dtype, device=x.device)
        found = torch.exp(-((place[:, None] - place) ** 2) / (2 * std**2))
        return found / found.sum(dim=1, keepdim=True)

    return weights(x.shape[2]) @ x @ weights(x.shape[3]).T


BASELINES: Mapping[str, Callable[[Tensor], Tensor]] = MappingProxyType(
    {"black": _black, "mean": _mean, "blurred": _blurred}
)
"""Where the way starts, from images (B, C, H, W): black, the image's mean color, or the image
blurred. All are linear in the image."""


def _gauss_legendre(points: int) -> tuple[list[float], list[float]]:
    places, weights = np.polynomial.legendre.leggauss(points)
    return ((places + 1) / 2).tolist(), (weights / 2).tolist()


def _equal(points: int, first: float) -> tuple[list[float], list[float]]:
    return [(i + first) / points for i in range(points)], [1 / points] * points


def _trapezoid(points: int) -> tuple[list[float], list[float]]:
    if points == 1:
        return [0.5], [1.0]
    gaps = points - 1
    weights = [1 / gaps] * points
    weights[0] = weights[-1] = 0.5 / gaps
    return [i / gaps for i in range(points)], weights


RULES: Mapping[str, Callable[[int], tuple[list[float], list[float]]]] = MappingProxyType(
    {
        "gauss-legendre": _gauss_legendre,
        "midpoint": lambda points: _equal(points, 0.5),
        "trapezoid": _trapezoid,
        "left": lambda points: _equal(points, 0.0),
        "right": lambda points: _equal(points, 1.0),
    }
)
"""Quadrature rules: from the number of points to places α in [0, 1] and weights that sum to 1."""


@dataclass(frozen=True)
class Leg:
    """Points of the way for a few gradients at once.

    Attributes
    ----------
    end
        Where the way ends (B, n, C, H, W): the image, with or without noise.
    places
        How far along each gradient is taken (B, n), 0 at the baseline.
    weights
        Of each gradient (n,).
    """

    end: Tensor
    places: Tensor
    weights: Tensor


class _Way(Protocol):
    @property
    def baseline(self) -> str:
        """One of :data:`BASELINES`."""

    def legs(
        self, evaluator: Evaluator, x: Tensor, *, images: Sequence[int], draw: int
    ) -> Iterator[Leg]:
        """The points of the way, as many at once as fit a batch."""


def _integral(
    way: _Way,
    evaluator: Evaluator,
    x: Tensor,
    target: Tensor,
    *,
    images: Sequence[int],
    draw: int,
) -> Tensor:
    """Σ w (y − y₀) ⊙ ∇f(y₀ + α(y − y₀)) over the points of a way, (B, C, H, W)."""
    total = torch.zeros(x.shape, dtype=torch.float64)
    for leg in way.legs(evaluator, x, images=images, draw=draw):
        whole, point = _points(way, leg)
        classes = target.repeat_interleave(leg.places.shape[1])
        gradients, _ = evaluator.gradients(point, classes)
        total += _weighted(whole * gradients, leg)
    return total.to(x.dtype)


def _pullback(
    way: _Way,
    evaluator: Evaluator,
    x: Tensor,
    target: Tensor,
    v: Tensor,
    *,
    images: Sequence[int],
    draw: int,
) -> Tensor:
    """Gradients (B, C, H, W) of ⟨a(x), v⟩ by ``x``, a the integral along the way.

    With d = y − y₀ and h = H(d ⊙ v) at a point, y gets g ⊙ v + αh and y₀ gets −g ⊙ v + (1 − α)h;
    y₀ is a linear function of the image, so its part goes through that function's transpose.
    """
    by_end = torch.zeros(x.shape, dtype=torch.float64)
    by_start = torch.zeros(x.shape, dtype=torch.float64)
    for leg in way.legs(evaluator, x, images=images, draw=draw):
        whole, point = _points(way, leg)
        count = leg.places.shape[1]
        classes, weight = target.repeat_interleave(count), v.repeat_interleave(count, dim=0)
        gradients, _ = evaluator.gradients(point, classes)
        bent = evaluator.pullbacks(point, classes, whole * weight)
        share = leg.places.reshape(-1, 1, 1, 1).to(x.dtype)
        by_end += _weighted(gradients * weight + share * bent, leg)
        by_start += _weighted((1 - share) * bent - gradients * weight, leg)
    leaf = torch.zeros_like(x).requires_grad_()
    with torch.enable_grad():
        start = BASELINES[way.baseline](leaf)
    if not start.requires_grad:
        return by_end.to(x.dtype)
    (through,) = torch.autograd.grad(start, leaf, by_start.to(x.dtype))
    return by_end.to(x.dtype) + through


def _points(way: _Way, leg: Leg) -> tuple[Tensor, Tensor]:
    """The whole way y − y₀ and the points on it, both (B·n, C, H, W)."""
    end = leg.end.flatten(0, 1)
    start = BASELINES[way.baseline](end)
    whole = end - start
    return whole, start + leg.places.reshape(-1, 1, 1, 1).to(end.dtype) * whole


def _weighted(values: Tensor, leg: Leg) -> Tensor:
    each = values.double().reshape(leg.end.shape)
    return torch.einsum("bnchw,n->bchw", each, leg.weights.double())


@dataclass(frozen=True, kw_only=True)
class IntegratedGradients(Settled):
    """(x − x₀) ⊙ ∫₀¹ ∇f_c(x₀ + α(x − x₀)) dα. Source: S0 (6); Sundararajan 2017.

    Attributes
    ----------
    points
        Gradients along the way, at least 1.
    baseline
        Where it starts, x₀: one of :data:`BASELINES`.
    rule
        How the integral is taken: one of :data:`RULES`.
    """

    points: int = 20
    baseline: str = "black"
    rule: str = "gauss-legendre"

    name: ClassVar[str] = "integrated_gradients"
    is_gradient: ClassVar[bool] = False
    differentiable: ClassVar[bool] = True

    @property
    def identity(self) -> str:
        """Points, rule and baseline."""
        return f"points={self.points} rule={self.rule} baseline={self.baseline}"

    @property
    def price(self) -> int:
        """Gradients of the model that one map takes."""
        return self.points

    def __call__(
        self, evaluator: Evaluator, x: Tensor, target: Tensor, *, images: Sequence[int], draw: int
    ) -> tuple[Tensor, Tensor]:
        """Maps (B, C, H, W) and logits (B, classes); no noise is involved."""
        maps = _integral(self, evaluator, x, target, images=images, draw=draw)
        return maps, evaluator.logits(x)

    def pullback(
        self,
        evaluator: Evaluator,
        x: Tensor,
        target: Tensor,
        v: Tensor,
        *,
        images: Sequence[int],
        draw: int,
    ) -> Tensor:
        """Gradients (B, C, H, W) of ⟨a(x), v⟩ by ``x``."""
        return _pullback(self, evaluator, x, target, v, images=images, draw=draw)

    def legs(
        self, evaluator: Evaluator, x: Tensor, *, images: Sequence[int], draw: int
    ) -> Iterator[Leg]:
        """See :class:`_Way`."""
        places, weights = (torch.tensor(found) for found in RULES[self.rule](self.points))
        at_once = max(1, evaluator.batch // max(1, len(x)))
        pieces = torch.split(places, at_once), torch.split(weights, at_once)
        for some, their in zip(*pieces, strict=True):
            end = x[:, None].expand(-1, len(some), *x.shape[1:])
            yield Leg(end=end, places=some.expand(len(x), -1), weights=their)


@dataclass(frozen=True, kw_only=True)
class SmoothIntegratedGradients:
    """Integrated gradients of noisy images, E_z IG(x + z). Source: S0 (5), (6).

    One joint draw (z, α) for each gradient, instead of all points of the way for each z. The α of
    successive draws are u, u + φ, u + 2φ, … modulo 1, φ the golden ratio and u uniform for each
    image: they cover [0, 1] evenly.

    Attributes
    ----------
    sigma
        Standard deviation of the noise in pixel space.
    samples
        Gradients for each map.
    baseline
        One of :data:`BASELINES`, of the noisy image.
    noise
        Where the draws come from.
    """

    sigma: float = 0.1
    samples: int = 100
    baseline: str = "black"
    noise: Noise

    name: ClassVar[str] = "smooth_integrated_gradients"
    random: ClassVar[bool] = True
    is_gradient: ClassVar[bool] = False
    differentiable: ClassVar[bool] = True

    @property
    def identity(self) -> str:
        """Noise and baseline."""
        return f"sigma={self.sigma:g} samples={self.samples} baseline={self.baseline}"

    @property
    def price(self) -> int:
        """Gradients of the model that one map takes."""
        return self.samples

    def seeded(self, noise: Noise) -> SmoothIntegratedGradients:
        """The same with noise from elsewhere."""
        own = dataclasses.replace(noise, seed=mix(noise.seed, _ALPHA))
        return dataclasses.replace(self, noise=own)

    def __call__(
        self, evaluator: Evaluator, x: Tensor, target: Tensor, *, images: Sequence[int], draw: int
    ) -> tuple[Tensor, Tensor]:
        """Maps (B, C, H, W) and the logits (B, classes) of the images without noise."""
        maps = _integral(self, evaluator, x, target, images=images, draw=draw)
        return maps, evaluator.logits(x)

    def pullback(
        self,
        evaluator: Evaluator,
        x: Tensor,
        target: Tensor,
        v: Tensor,
        *,
        images: Sequence[int],
        draw: int,
    ) -> Tensor:
        """Gradients (B, C, H, W) of ⟨a(x), v⟩ by ``x`` for the same noise as the map has."""
        return _pullback(self, evaluator, x, target, v, images=images, draw=draw)

    def legs(
        self, evaluator: Evaluator, x: Tensor, *, images: Sequence[int], draw: int
    ) -> Iterator[Leg]:
        """See :class:`_Way`."""
        noise = dataclasses.replace(self.noise, samples=self.samples)
        golden, first_place = (math.sqrt(5) - 1) / 2, self._first_places(images)
        at_once = max(1, evaluator.batch // max(1, len(x)))
        for first in range(0, self.samples, at_once):
            count = min(at_once, self.samples - first)
            start = draw * self.samples + first
            z = noise.draw(images, tuple(x.shape[1:]), first=start, count=count)
            steps = torch.arange(start, start + count, dtype=torch.float64)
            places = (first_place[:, None] + golden * steps).remainder(1)
            weights = torch.full((count,), 1 / self.samples)
            yield Leg(end=x[:, None] + self.sigma * z, places=places, weights=weights)

    def _first_places(self, images: Sequence[int]) -> Tensor:
        generator = torch.Generator()
        found = []
        for image in images:
            generator.manual_seed(mix(self.noise.seed, self.noise.stream, image, _ALPHA))
            found.append(torch.rand((), generator=generator, dtype=torch.float64))
        return torch.stack(found)


def made_of_gradients(method: Method) -> bool:
    """Whether a map that is no gradient itself is computed from gradients of the model alone.

    Its pullback then asks for nothing but gradients and Hessian-vector products, and differences
    of gradients can stand for the second.
    """
    if isinstance(method, Smoothed):
        return made_of_gradients(method.method)
    return isinstance(method, GradXInput | IntegratedGradients | SmoothIntegratedGradients)
