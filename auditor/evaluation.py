"""Evaluate a classifier in batches and count what it costs."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel


@dataclass
class Meter:
    """Model evaluations so far, by probe: gradients (forward and backward) and forward passes.

    ``watch`` is told the cost of each call in gradients, a forward pass counting a third.
    """

    gradients: dict[str, int] = field(default_factory=dict)
    forwards: dict[str, int] = field(default_factory=dict)
    watch: Callable[[float], None] | None = None

    def add(self, probe: str, *, gradients: int = 0, forwards: int = 0) -> None:
        """Book evaluations of single images under ``probe``."""
        self.gradients[probe] = self.gradients.get(probe, 0) + gradients
        self.forwards[probe] = self.forwards.get(probe, 0) + forwards
        if self.watch is not None:
            self.watch(gradients + forwards / 3)


@dataclass(frozen=True, kw_only=True)
class Evaluator:
    """Logits and score gradients of a model, at most ``batch`` images at a time.

    Attributes
    ----------
    model
        Maps pixel-space images (B, C, H, W) in [0, 1] to logits (B, classes).
    batch
        Largest number of images in one call of the model.
    probe
        Where the evaluations are booked in ``meter``.
    around
        Context in which the model runs, e.g. one that smooths its ramps.
    """

    model: Callable[[Tensor], Tensor]
    batch: int
    device: str = "cpu"
    probe: str = "audit"
    meter: Meter = field(default_factory=Meter, repr=False)
    around: Callable[[], AbstractContextManager[object]] = field(default=nullcontext, repr=False)

    def logits(self, x: Tensor) -> Tensor:
        """Logits (B, classes) of images (B, C, H, W)."""
        self.meter.add(self.probe, forwards=len(x))
        with torch.no_grad(), self.around():
            parts = [self.model(part.to(self.device)).cpu() for part in torch.split(x, self.batch)]
        return torch.cat(parts)

    def gradients(self, x: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Gradients of the target class's logit, (B, C, H, W), and all logits (B, classes).

        ``target`` holds one class index per image, shape (B,). Source: S0 (4).
        """
        self.meter.add(self.probe, gradients=len(x))
        maps, logits = [], []
        for part, classes in self._batches(x, target):
            leaf = part.to(self.device, copy=True).requires_grad_()
            with torch.enable_grad(), self.around():
                output = self.model(leaf)
                score = output.gather(1, classes.to(self.device)[:, None]).sum()
            maps.append(torch.autograd.grad(score, leaf)[0].cpu())
            logits.append(output.detach().cpu())
        return torch.cat(maps), torch.cat(logits)

    def margin_gradients(self, x: Tensor, target: Tensor) -> Tensor:
        """Gradients (B, C, H, W) of the target's logit minus the largest other logit."""
        self.meter.add(self.probe, gradients=len(x))
        found = []
        for part, classes in self._batches(x, target):
            leaf = part.to(self.device, copy=True).requires_grad_()
            index = classes.to(self.device)[:, None]
            with torch.enable_grad(), self.around():
                output = self.model(leaf)
                rivals = output.scatter(1, index, -torch.inf).amax(dim=1)
                margin = (output.gather(1, index)[:, 0] - rivals).sum()
            found.append(torch.autograd.grad(margin, leaf)[0].cpu())
        return torch.cat(found)

    def pullbacks(self, x: Tensor, target: Tensor, v: Tensor) -> Tensor:
        """Gradients (B, C, H, W) of ⟨∇f_c(x), v⟩ by x: Hessian-vector products, exact.

        Double backward: it is zero for a network whose only kinks are ramps. ``v`` has the shape
        of ``x``. Booked as three gradients for each image; measured at 2 to 9.
        """
        self.meter.add(self.probe, gradients=3 * len(x))
        found = []
        for (part, classes), weight in zip(
            self._batches(x, target), torch.split(v, self.batch), strict=True
        ):
            leaf = part.to(self.device, copy=True).requires_grad_()
            with torch.enable_grad(), self.around(), sdpa_kernel(SDPBackend.MATH):
                output = self.model(leaf)
                score = output.gather(1, classes.to(self.device)[:, None]).sum()
                (map_,) = torch.autograd.grad(score, leaf, create_graph=True)
                if map_.requires_grad:
                    product = (map_ * weight.to(self.device)).sum()
                    (bent,) = torch.autograd.grad(product, leaf, materialize_grads=True)
                else:
                    bent = torch.zeros_like(leaf)
            found.append(bent.detach().cpu())
        return torch.cat(found)

    def differencing(self, length: Tensor) -> Evaluator:
        """The same with second derivatives by central differences, ``length`` (B,) to each side.

        ``length`` belongs to the images in turn; where there are several points for each image,
        they follow each other.
        """
        settings = {f.name: getattr(self, f.name) for f in dataclasses.fields(Evaluator)}
        return _Differencing(**settings, length=length)

    def _batches(self, x: Tensor, target: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        pieces = torch.split(x, self.batch), torch.split(target, self.batch)
        return zip(*pieces, strict=True)


@dataclass(frozen=True, kw_only=True)
class _Differencing(Evaluator):
    """Hessian-vector products (g(x + hu) − g(x − hu))/2h, u the direction and h its length."""

    length: Tensor

    def pullbacks(self, x: Tensor, target: Tensor, v: Tensor) -> Tensor:
        """See :meth:`Evaluator.pullbacks`; zero where ``v`` is. Booked as the two gradients."""
        size = v.flatten(1).norm(dim=1)
        h = self.length.to(v.dtype).repeat_interleave(len(x) // len(self.length))
        scale = h / torch.where(size > 0, size, 1.0)
        step = scale.reshape(-1, 1, 1, 1) * v
        ahead, behind = (self.gradients(x + s * step, target)[0] for s in (1, -1))
        return (ahead - behind) / (2 * scale).reshape(-1, 1, 1, 1)
