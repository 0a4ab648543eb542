"""How sharply a map turns at an image: dominant eigenvalues of two input Hessians."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from auditor.bounds.lanczos import Dominant, Product, dominant, random_start
from auditor.bounds.products import logit_hessian, loss_gauss_newton
from auditor.evaluation import Evaluator


@dataclass(frozen=True, kw_only=True)
class Lanczos:
    """Dominant curvature of images, batch by batch.

    Attributes
    ----------
    steps
        Most products for an image. 15 can err by 2 %; the residual tells.
    tolerance
        Relative size of the residual that ends the search.
    """

    steps: int = 30
    tolerance: float = 1e-4

    def of_logit(
        self, evaluator: Evaluator, x: Tensor, target: Tensor, generators: list[torch.Generator]
    ) -> Dominant:
        """Of ∇²f_c, for a smooth network or the surrogate of another one.

        The map of a logit moves by about |λ|·‖δ‖ along the eigenvector, to first order and for a
        small δ; across the kinks of a ReLU network not even that holds (S3 Thm 3).

        Parameters
        ----------
        x, target
            Images (B, C, H, W) in pixel space and the explained class (B,) of each.
        generators
            Of the random start of each image.
        """
        target = target.to(evaluator.device)

        def make(rows: slice) -> Product:
            return logit_hessian(evaluator, x[rows], target[rows])

        return self._each(evaluator, x, generators, make)

    def of_loss(
        self, evaluator: Evaluator, x: Tensor, generators: list[torch.Generator]
    ) -> Dominant:
        """Of the cross-entropy loss, W(diag p − ppᵀ)Wᵀ, for any number of classes.

        Exact to its residual, where :func:`auditor.bounds.hessian.loss_hessian_eigenvalue` leaves
        classes out. It says nothing of the map of a logit.
        """
        return self._each(evaluator, x, generators, lambda r: loss_gauss_newton(evaluator, x[r]))

    def _each(
        self,
        evaluator: Evaluator,
        x: Tensor,
        generators: Sequence[torch.Generator],
        make: Callable[[slice], Product],
    ) -> Dominant:
        parts = []
        for first in range(0, len(x), evaluator.batch):
            rows = slice(first, first + evaluator.batch)
            start = random_start(x[rows], list(generators[rows]))
            parts.append(dominant(make(rows), start, steps=self.steps, tolerance=self.tolerance))
        return Dominant(
            eigenvalue=torch.cat([part.eigenvalue for part in parts]),
            residual=torch.cat([part.residual for part in parts]),
            vector=torch.cat([part.vector for part in parts]),
            products=max(part.products for part in parts),
        )
