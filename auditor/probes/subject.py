"""The images of one task, and how their maps are explained under different noise."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import torch
from torch import Tensor

from attacks import L2, Clean, Explain, Fees, Linf, Problem, Twin, smooth
from auditor.attributions import FRESH, SEARCH, SELECT, SHOWN, Method, Noise, SimpleGrad, Smoothed
from auditor.attributions.noise import mix
from auditor.evaluation import Evaluator

LINF = Linf()


def fees(*, sigma: float, samples: int, select_samples: int) -> Fees:
    """What a map smoothed by σ costs an attack, in gradients; without smoothing it is one."""
    if sigma == 0:
        return Fees()
    return Fees(samples=samples, select_samples=select_samples, noisy=True)


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
    method: Method = SimpleGrad()

    def smoothed(self, *, sigma: float, samples: int, stream: int) -> Smoothed:
        """The method smoothed with ``samples`` draws of one noise stream."""
        noise = Noise(seed=self.seed, stream=stream, antithetic=stream in {SEARCH, SELECT})
        return Smoothed(method=self.method, sigma=sigma, samples=samples, noise=noise)

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
            smoothed = dataclasses.replace(evaluator, model=smooth(evaluator.model, beta=beta))
            method = self.smoothed(sigma=sigma, samples=samples, stream=SEARCH)

            def pullback(x: Tensor, v: Tensor, *, rows: Tensor, draw: int) -> Tensor:
                images = [self.images[row] for row in rows.tolist()]
                target = self.target[rows]
                return method.pullback(smoothed, x, target, v, images=images, draw=draw)

            return Twin(
                explain=self.explainer(smoothed, sigma=sigma, samples=samples, stream=SEARCH),
                pullback=pullback,
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
            select=explain(select_samples, SELECT) if sigma > 0 else None,
            twin=twin,
            fees=fees(sigma=sigma, samples=samples, select_samples=select_samples),
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
        plain, _ = subject.method(
            evaluator, subject.x, subject.target, images=subject.images, draw=0
        )
        return CleanMaps(shown=plain, fresh=plain, kept=torch.ones(len(subject.x)))
    (shown, first), (fresh, second) = explain(SHOWN), explain(FRESH)
    return CleanMaps(shown=shown, fresh=fresh, kept=(first + second) / 2)
