"""Methods that follow the network from inside: one batch at a time, with a derivative if asked."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from auditor.attributions.gradient import Settled
from auditor.errors import InputError
from auditor.evaluation import Evaluator


class NotApplicableError(InputError):
    """The model, or the size of its images, cannot support a method; the message says why."""


class Traced(Settled, ABC):
    """A method that :meth:`trace` computes by autograd, for images on the model's device."""

    is_gradient: ClassVar[bool] = False
    differentiable: ClassVar[bool] = True
    price: ClassVar[int] = 1

    @abstractmethod
    def trace(self, model: Any, x: Tensor, target: Tensor, *, graph: bool) -> tuple[Tensor, Tensor]:
        """Raw maps (B, C, H, W) and logits (B, classes) at ``x``, which requires grad.

        ``graph`` asks for maps that can be differentiated by ``x``.

        Raises
        ------
        NotApplicableError
            If the model cannot support the method.
        """

    def __call__(
        self, evaluator: Evaluator, x: Tensor, target: Tensor, *, images: Sequence[int], draw: int
    ) -> tuple[Tensor, Tensor]:
        """Raw maps (B, C, H, W) and logits (B, classes); no noise is involved."""
        evaluator.meter.add(evaluator.probe, gradients=self.price * len(x))
        maps, logits = [], []
        for part, classes in self._batches(evaluator, x, target):
            leaf = part.to(evaluator.device, copy=True).requires_grad_()
            with torch.enable_grad(), evaluator.around():
                map_, output = self.trace(
                    evaluator.model, leaf, classes.to(evaluator.device), graph=False
                )
            maps.append(map_.detach().cpu())
            logits.append(output.detach().cpu())
        return torch.cat(maps), torch.cat(logits)

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
        """Gradients (B, C, H, W) of ⟨a(x), v⟩ by ``x``, by differentiating the trace.

        Booked as three times the map, as :meth:`Evaluator.pullbacks`.
        """
        evaluator.meter.add(evaluator.probe, gradients=3 * self.price * len(x))
        found = []
        weights = torch.split(v, self._at_once(evaluator))
        for (part, classes), weight in zip(
            self._batches(evaluator, x, target), weights, strict=True
        ):
            leaf = part.to(evaluator.device, copy=True).requires_grad_()
            with torch.enable_grad(), evaluator.around(), sdpa_kernel(SDPBackend.MATH):
                map_, _ = self.trace(
                    evaluator.model, leaf, classes.to(evaluator.device), graph=True
                )
                bent = torch.zeros_like(leaf)
                if map_.requires_grad:
                    product = (map_ * weight.to(evaluator.device)).sum()
                    (bent,) = torch.autograd.grad(product, leaf, materialize_grads=True)
            found.append(bent.detach().cpu())
        return torch.cat(found)

    def _at_once(self, evaluator: Evaluator) -> int:
        return max(1, evaluator.batch // self.price)

    def _batches(
        self, evaluator: Evaluator, x: Tensor, target: Tensor
    ) -> list[tuple[Tensor, Tensor]]:
        size = self._at_once(evaluator)
        return list(zip(torch.split(x, size), torch.split(target, size), strict=True))


def scores(logits: Tensor, target: Tensor) -> Tensor:
    """The sum of the target classes' logits: its gradient is each image's own."""
    return logits.gather(1, target[:, None]).sum()


def positive(values: Tensor) -> Tensor:
    """The values above zero, else 0. Not a ramp that a surrogate of the model would smooth."""
    return values * (values > 0)


class NotDifferentiable(ABC):
    """What methods that only look at perturbed images have in common: they are random, too."""

    random: ClassVar[bool] = True
    is_gradient: ClassVar[bool] = False
    differentiable: ClassVar[bool] = False

    @property
    @abstractmethod
    def name(self) -> str:
        """Name as in the tables of a report."""

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
        """Not available: attacks search at random.

        Raises
        ------
        InputError
            Always.
        """
        raise InputError(f"{self.name} has no derivative to follow.")
