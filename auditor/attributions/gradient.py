"""The plain gradient, its product with the image, and smoothing of any attribution method."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol, Self, runtime_checkable

import torch
from torch import Tensor

from auditor.attributions.noise import Noise, Spread, mix, spread
from auditor.evaluation import Evaluator

_OWN = 11
"""Keeps the noise of a smoothed method apart from that of what smooths it once more."""


@runtime_checkable
class Method(Protocol):
    """An attribution method: raw maps of images for given classes."""

    @property
    def name(self) -> str:
        """Name as in the tables of a report."""

    @property
    def identity(self) -> str:
        """What tells it from another method of the same name."""

    @property
    def price(self) -> int:
        """Gradients of the model that one map takes."""

    @property
    def random(self) -> bool:
        """Whether two maps of one image differ."""

    @property
    def is_gradient(self) -> bool:
        """Whether the map is the gradient of a score by the image: its Jacobian is symmetric."""

    @property
    def differentiable(self) -> bool:
        """Whether `pullback` is exact for a smooth model."""

    def seeded(self, noise: Noise) -> Method:
        """The same with random numbers from ``noise``, if it takes any."""

    def __call__(
        self, evaluator: Evaluator, x: Tensor, target: Tensor, *, images: Sequence[int], draw: int
    ) -> tuple[Tensor, Tensor]:
        """Raw maps (B, C, H, W) and logits (B, classes) at ``x``.

        ``images`` identifies each row's image and ``draw`` the attempt; both only choose noise.
        """

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
        """Gradients (B, C, H, W) of ⟨a(x), v⟩ by ``x``, a(x) the raw map, for the same noise."""


class Settled:
    """What all methods without random numbers have in common."""

    random: ClassVar[bool] = False

    def seeded(self, noise: Noise) -> Self:
        """Itself: no noise is involved."""
        return self


@dataclass(frozen=True, kw_only=True)
class SimpleGrad(Settled):
    """Gradient of the class logit in pixel space, ∇ₓ f_c(x). Source: S0 (4)."""

    name: ClassVar[str] = "simple_grad"
    identity: ClassVar[str] = ""
    price: ClassVar[int] = 1
    is_gradient: ClassVar[bool] = True
    differentiable: ClassVar[bool] = True

    def __call__(
        self, evaluator: Evaluator, x: Tensor, target: Tensor, *, images: Sequence[int], draw: int
    ) -> tuple[Tensor, Tensor]:
        """Gradients (B, C, H, W) and logits (B, classes); no noise is involved."""
        return evaluator.gradients(x, target)

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
        """Gradients (B, C, H, W) of ⟨a(x), v⟩ by ``x``, exactly; ``v`` is (B, C, H, W)."""
        return evaluator.pullbacks(x, target, v)


@dataclass(frozen=True, kw_only=True)
class GradXInput(Settled):
    """Pixel value times gradient, x ⊙ ∇ₓ f_c(x). Source: S3 C.1; Shrikumar 2016."""

    name: ClassVar[str] = "grad_x_input"
    identity: ClassVar[str] = ""
    price: ClassVar[int] = 1
    is_gradient: ClassVar[bool] = False
    differentiable: ClassVar[bool] = True

    def __call__(
        self, evaluator: Evaluator, x: Tensor, target: Tensor, *, images: Sequence[int], draw: int
    ) -> tuple[Tensor, Tensor]:
        """Maps (B, C, H, W) and logits (B, classes); no noise is involved."""
        gradients, logits = evaluator.gradients(x, target)
        return x * gradients, logits

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
        """Gradients (B, C, H, W) of ⟨a(x), v⟩ by ``x``: ∇f ⊙ v + H (x ⊙ v)."""
        gradients, _ = evaluator.gradients(x, target)
        return gradients * v + evaluator.pullbacks(x, target, x * v)


@dataclass(frozen=True, kw_only=True)
class Smoothed:
    """Mean of another method's maps under input noise, E_z a(x + z). Source: S0 (5); S3.

    Attributes
    ----------
    method
        Any attribution method.
    sigma
        Size of the noise in pixel space (the range of a pixel is 1), not negative: the standard
        deviation of Gaussian noise, the radius of uniform noise.
    samples
        Draws per map.
    noise
        Where the draws come from. Call number ``draw`` uses draws ``draw·samples`` … of it, and
        where its sampler stratifies, it stratifies over the ``samples`` draws of one map.
    shape
        ``gaussian``; ``box`` or ``ball`` for uniform noise, see :func:`auditor.attributions.noise.
        spread`.

    Notes
    -----
    Noise is not clipped. σ = 0 is the method itself, at the cost of one evaluation.
    """

    method: Method
    sigma: float
    samples: int
    noise: Noise
    shape: Spread = "gaussian"

    @property
    def name(self) -> str:
        """Over the plain gradient, the field's; else ``smoothed`` with the method's name."""
        if self.method.name == "guided_backprop":
            return "smooth_guided_backprop"
        if self.method.name != "simple_grad":
            return f"smoothed {self.method.name}"
        return "smooth_grad" if self.shape == "gaussian" else "uniform_grad"

    @property
    def identity(self) -> str:
        """The noise, and what the inner method has to tell."""
        own = f"{self.shape} {self.sigma:g} samples={self.samples}"
        return " ".join(filter(None, (own, self.method.identity)))

    @property
    def price(self) -> int:
        """Gradients of the model that one map takes."""
        return self.method.price * (self.samples if self.sigma else 1)

    @property
    def random(self) -> bool:
        """Whether maps depend on noise."""
        return self.sigma > 0 or self.method.random

    @property
    def is_gradient(self) -> bool:
        """Whether the map is the gradient of a score: the smoothed one, if the inner one is."""
        return self.method.is_gradient

    @property
    def differentiable(self) -> bool:
        """As the inner method."""
        return self.method.differentiable

    def seeded(self, noise: Noise) -> Smoothed:
        """The same with noise, inside and outside, from elsewhere.

        It is derived from ``noise``, so that whoever smooths with that what is smoothed already
        does not use the same draws twice.
        """
        own = dataclasses.replace(noise, seed=mix(noise.seed, _OWN))
        return dataclasses.replace(self, method=self.method.seeded(own), noise=own)

    def __call__(
        self, evaluator: Evaluator, x: Tensor, target: Tensor, *, images: Sequence[int], draw: int
    ) -> tuple[Tensor, Tensor]:
        """Smoothed maps (B, C, H, W) and the logits (B, classes) of the images without noise."""
        if self.sigma == 0:
            return self.method(evaluator, x, target, images=images, draw=draw)
        maps, _ = self.with_votes(evaluator, x, target, images=images, draw=draw)
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
        if self.sigma == 0:
            return self.method.pullback(evaluator, x, target, v, images=images, draw=draw)
        total = torch.zeros_like(x)
        noise = self._stratified
        for sample in range(self.samples):
            start = draw * self.samples + sample
            z = spread(noise.draw(images, tuple(x.shape[1:]), first=start, count=1), self.shape)
            z = z[:, 0]
            total += self.method.pullback(
                evaluator, x + self.sigma * z, target, v, images=images, draw=start
            )
        return total / self.samples

    def with_votes(
        self, evaluator: Evaluator, x: Tensor, target: Tensor, *, images: Sequence[int], draw: int
    ) -> tuple[Tensor, Tensor]:
        """Smoothed maps (B, C, H, W) and the share (B,) of noisy copies that keep the class.

        The sum over draws is accumulated in float64, a few draws at a time, so memory does not
        grow with ``samples`` and the result does not depend on how the draws are cut.
        """
        shape, noise = tuple(x.shape[1:]), self._stratified
        total = torch.zeros(x.shape, dtype=torch.float64)
        kept = torch.zeros(len(x), dtype=torch.float64)
        # A method with random numbers of its own needs other ones for each draw.
        at_once = 1 if self.method.random else max(1, evaluator.batch // max(1, len(x)))
        for first in range(0, self.samples, at_once):
            count = min(at_once, self.samples - first)
            start = draw * self.samples + first
            z = spread(noise.draw(images, shape, first=start, count=count), self.shape)
            noisy = (x[:, None] + self.sigma * z).flatten(0, 1)
            classes = target.repeat_interleave(count)
            repeated = [image for image in images for _ in range(count)]
            own = start if self.method.random else draw
            maps, logits = self.method(evaluator, noisy, classes, images=repeated, draw=own)
            total += maps.double().reshape(len(x), count, *shape).sum(dim=1)
            kept += (logits.argmax(dim=1) == classes).double().reshape(len(x), count).sum(dim=1)
        return (total / self.samples).to(x.dtype), kept / self.samples

    @property
    def _stratified(self) -> Noise:
        return dataclasses.replace(self.noise, samples=self.samples)
