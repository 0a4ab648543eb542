"""The images of one task, and how their maps are explained under different noise."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from attacks import L2, Clean, Explain, Fees, Linf, Problem, Twin
from auditor.attributions import FRESH, SEARCH, SELECT, SHOWN, Method, Noise, SimpleGrad, Smoothed
from auditor.attributions.noise import Sampler, mix
from auditor.attributions.path import made_of_gradients
from auditor.evaluation import Evaluator
from auditor.probes.surrogates import has_surrogate, smooth_evaluator

LINF = Linf()
SIMPLE_GRAD = SimpleGrad()


def fees(*, sigma: float, samples: int, select_samples: int, method: Method = SIMPLE_GRAD) -> Fees:
    """What a map of a method smoothed by σ costs an attack, in gradients."""
    if sigma == 0:
        samples = select_samples = 1
    return Fees(
        samples=samples * method.price,
        select_samples=select_samples * method.price,
        noisy=sigma > 0 or method.random,
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class Subject:
    """Images with the class that is explained, and what identifies their noise.

    Attributes
    ----------
    x
        (B, C, H, W) in pixel space [0, 1].
    target
        Explained class (B,): the model's own prediction for the clean image.
    images
        Index of each image in the audit; with ``seed`` it determines all noise.
    k
        Number of top pixels.
    """

    x: Tensor
    target: Tensor
    images: tuple[int, ...]
    k: int
    seed: int
    method: Method = SIMPLE_GRAD

    def smoothed(self, *, sigma: float, samples: int, stream: int) -> Smoothed:
        """The method smoothed with ``samples`` draws of one noise stream."""
        sampler: Sampler = "antithetic" if stream in {SEARCH, SELECT} else "lhs"
        noise = Noise(seed=self.seed, stream=stream, sampler=sampler)
        return Smoothed(method=self.method.seeded(noise), sigma=sigma, samples=samples, noise=noise)

    def explainer(
        self, evaluator: Evaluator, *, sigma: float, samples: int, stream: int
    ) -> Explain:
        """What an attack is given: maps and logits of perturbed images."""
        method = self.smoothed(sigma=sigma, samples=samples, stream=stream)

        def explain(x: Tensor, *, rows: Tensor, draw: int) -> tuple[Tensor, Tensor]:
            images = [self.images[row] for row in rows.tolist()]
            return method(evaluator, x, self.target[rows], images=images, draw=draw)

        return explain

    def problem(
        self,
        evaluator: Evaluator,
        *,
        clean: Clean,
        sigma: float = 0.0,
        samples: int = 1,
        select_samples: int = 1,
        ball: Linf | L2 = LINF,
    ) -> Problem:
        """What an attack on the map smoothed by σ is up against, ε still to be set.

        Parameters
        ----------
        clean
            Maps that are to move.
        samples, select_samples
            Draws per map in a search, and in the choice among candidates, which no search saw.
        """

        def explain(samples: int, stream: int) -> Explain:
            return self.explainer(evaluator, sigma=sigma, samples=samples, stream=stream)

        def margin(x: Tensor, *, rows: Tensor) -> Tensor:
            return evaluator.margin_gradients(x, self.target[rows])

        def generators(rows: Tensor, restart: int) -> list[torch.Generator]:
            seeds = [mix(self.seed, self.images[row], 1, restart) for row in rows.tolist()]
            return [torch.Generator().manual_seed(seed) for seed in seeds]

        def twin(beta: float) -> Twin:
            smoothed = smooth_evaluator(evaluator, beta)
            method = self.smoothed(sigma=sigma, samples=samples, stream=SEARCH)

            def pullback(x: Tensor, v: Tensor, *, rows: Tensor, draw: int) -> Tensor:
                images = [self.images[row] for row in rows.tolist()]
                target = self.target[rows]
                return method.pullback(smoothed, x, target, v, images=images, draw=draw)

            return Twin(
                explain=self.explainer(smoothed, sigma=sigma, samples=samples, stream=SEARCH),
                pullback=pullback,
            )

        def pullback(x: Tensor, v: Tensor, *, rows: Tensor, draw: int, length: Tensor) -> Tensor:
            images = [self.images[row] for row in rows.tolist()]
            method = self.smoothed(sigma=sigma, samples=samples, stream=SEARCH)
            by_differences = evaluator.differencing(length)
            target = self.target[rows]
            return method.pullback(by_differences, x, target, v, images=images, draw=draw)

        price = fees(
            sigma=sigma, samples=samples, select_samples=select_samples, method=self.method
        )
        return Problem(
            x=self.x,
            target=self.target,
            clean=clean,
            epsilon=torch.zeros(len(self.x)),
            rows=torch.arange(len(self.x)),
            generators=generators,
            explain=explain(samples, SEARCH),
            predict=evaluator.logits,
            margin=margin,
            select=explain(select_samples, SELECT) if price.noisy else None,
            twin=twin if has_surrogate(evaluator.model) else None,
            pullback=pullback if made_of_gradients(self.method) else None,
            fees=price,
            sigma=sigma,
            ball=ball,
        )

    def generators(self, *purpose: int) -> list[torch.Generator]:
        """One generator per image for a purpose, independent of the batch."""
        return [
            torch.Generator().manual_seed(mix(self.seed, image, *purpose)) for image in self.images
        ]


@dataclass(frozen=True, kw_only=True, eq=False)
class CleanMaps:
    """Maps of the clean images at one σ.

    Attributes
    ----------
    shown, fresh
        Two maps (B, C, H, W) from independent noise; the same map when σ = 0.
    kept
        Share (B,) of all noisy copies that keep the explained class.
    """

    shown: Tensor
    fresh: Tensor
    kept: Tensor


def clean_maps(evaluator: Evaluator, subject: Subject, *, sigma: float, samples: int) -> CleanMaps:
    """Explain the clean images twice, with independent noise."""

    def explain(stream: int) -> tuple[Tensor, Tensor]:
        method = subject.smoothed(sigma=sigma, samples=samples, stream=stream)
        return method.with_votes(
            evaluator, subject.x, subject.target, images=subject.images, draw=0
        )

    if sigma == 0:
        shown = shown_map(evaluator, subject, sigma=0, samples=1)
        fresh = shown
        if subject.method.random:
            fresh = shown_map(evaluator, subject, sigma=0, samples=1, stream=FRESH)
        return CleanMaps(shown=shown, fresh=fresh, kept=torch.ones(len(subject.x)))
    (shown, first), (fresh, second) = explain(SHOWN), explain(FRESH)
    return CleanMaps(shown=shown, fresh=fresh, kept=(first + second) / 2)


def shown_map(
    evaluator: Evaluator, subject: Subject, *, sigma: float, samples: int, stream: int = SHOWN
) -> Tensor:
    """The map (B, C, H, W) that a user is shown, under the same noise for every model."""
    method = subject.smoothed(sigma=sigma, samples=samples, stream=stream)
    maps, _ = method(evaluator, subject.x, subject.target, images=subject.images, draw=0)
    return maps
