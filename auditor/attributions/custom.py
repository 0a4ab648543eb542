"""The user's own explanation as an attribution method."""

from __future__ import annotations

import contextlib
import dataclasses
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from auditor.attributions.noise import SHOWN, Noise, mix
from auditor.counting import counting
from auditor.errors import InputError
from auditor.evaluation import Evaluator
from auditor.usercode import plain_errors

Function = Callable[[nn.Module, Tensor, Tensor], Any]
"""``fn(model, x, target) -> map``; see :class:`Custom`."""

_UNSEEDED = Noise(seed=0, stream=SHOWN)

_SEEDS = 7
"""Keeps the seeds of the user's random numbers apart from those of our noise."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Custom:
    """A function of the user's: ``fn(model, x, target)`` returns a map for each image.

    The model takes images (B, C, H, W) in pixel space [0, 1] and returns logits; ``x`` is a batch
    of such images that does not require grad, ``target`` (B,) holds the classes to explain. The
    map is a tensor or array (B, C, H, W), (B, 1, H, W) or (B, H, W), signed or not. One that has no
    channels is shared equally among them, so that its magnitude is its absolute value.

    Attributes
    ----------
    function
        The explanation.
    name
        For tables.
    identity
        What tells it from another of the same name: a hash of its file, or its settings.
    price
        Gradients of the model that one map takes.
    random
        Whether two calls differ. Torch's, numpy's and Python's global generators are then seeded
        for each image and draw, and the explanation is called for one image at a time, so that no
        map depends on the batch.
    differentiable
        Whether the map has a derivative by the image that agrees with differences of it.
    noise
        Where seeds come from, if ``random``.
    source
        ``FILE.py:NAME`` that the function was loaded from.
    """

    function: Function
    name: str
    identity: str = ""
    price: int = 1
    random: bool = False
    differentiable: bool = False
    noise: Noise = _UNSEEDED
    source: str | None = None

    @property
    def is_gradient(self) -> bool:
        """Whether the map is the gradient of a score by the image: unknown, so no."""
        return False

    def seeded(self, noise: Noise) -> Custom:
        """The same with random numbers of its own."""
        return dataclasses.replace(self, noise=noise)

    def __call__(
        self, evaluator: Evaluator, x: Tensor, target: Tensor, *, images: Sequence[int], draw: int
    ) -> tuple[Tensor, Tensor]:
        """Raw maps (B, C, H, W) and logits (B, classes).

        Raises
        ------
        InputError
            If the function fails or returns something else than maps.
        """
        maps, logits = [], []
        size = 1 if self.random else evaluator.batch
        pieces = zip(torch.split(x, size), torch.split(target, size), strict=True)
        for number, (part, classes) in enumerate(pieces):
            with self._generators(images[number], draw):
                found, said = self._explain(evaluator, part, classes)
            maps.append(found)
            logits.append(said)
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
        """Gradients (B, C, H, W) of ⟨a(x), v⟩ by ``x``, by differentiating the user's function.

        Zero where the map does not depend on the image by autograd.
        """
        found = []
        size = 1 if self.random else evaluator.batch
        pieces = (torch.split(tensor, size) for tensor in (x, target, v))
        for number, (part, classes, weight) in enumerate(zip(*pieces, strict=True)):
            leaf = part.to(evaluator.device, copy=True).requires_grad_()
            with (
                self._generators(images[number], draw),
                self._counted(evaluator),
                torch.enable_grad(),
                evaluator.around(),
                sdpa_kernel(SDPBackend.MATH),
            ):
                map_ = self.call(evaluator, leaf, classes.to(evaluator.device))
                bent = torch.zeros_like(leaf)
                if map_.requires_grad:
                    product = (map_ * weight.to(evaluator.device)).sum()
                    (bent,) = torch.autograd.grad(product, leaf, materialize_grads=True)
            found.append(bent.detach().cpu())
        return torch.cat(found)

    def _explain(self, evaluator: Evaluator, x: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        x = x.to(evaluator.device)
        with (
            self._counted(evaluator),
            torch.enable_grad(),
            evaluator.around(),
            _overheard(evaluator.model, x) as heard,
        ):
            found = self.call(evaluator, x.clone(), target.to(evaluator.device))
        logits = heard[0] if heard else evaluator.logits(x)
        return found.detach().cpu(), logits.detach().cpu()

    def call(self, evaluator: Evaluator, x: Tensor, target: Tensor) -> Tensor:
        """The maps (B, C, H, W) of images on the evaluator's device, with their graph if any.

        Raises
        ------
        InputError
            If the function fails or returns something else than maps.
        """
        with plain_errors(f"--explain {self.name}: calling it failed"):
            returned = self.function(evaluator.model, x, target)  # type: ignore[arg-type]
        return as_maps(returned, x, name=self.name)

    @contextlib.contextmanager
    def _counted(self, evaluator: Evaluator) -> Iterator[None]:
        """Book what the user's function asks of the model."""
        if not isinstance(evaluator.model, nn.Module):
            yield
            return
        with counting(evaluator.model) as count:
            yield
        evaluator.meter.add(
            evaluator.probe, gradients=count.gradients, forwards=count.only_forwards
        )

    @contextlib.contextmanager
    def _generators(self, image: int, draw: int) -> Iterator[None]:
        """Seed the global generators for one image and draw, and put them back afterwards."""
        if not self.random:
            yield
            return
        seed = mix(self.noise.seed, self.noise.stream, image, draw, _SEEDS) % 2**32
        numpy, python = np.random.get_state(), random.getstate()
        try:
            with torch.random.fork_rng():
                torch.manual_seed(seed)
                np.random.seed(seed)
                random.seed(seed)
                yield
        finally:
            np.random.set_state(numpy)
            random.setstate(python)


def as_maps(returned: Any, x: Tensor, *, name: str) -> Tensor:
    """What an explanation returned for images ``x`` (B, C, H, W), as raw maps (B, C, H, W).

    Raises
    ------
    InputError
        If it is not one map for each image, of the image's height and width.
    """
    if isinstance(returned, np.ndarray):
        returned = torch.from_numpy(np.ascontiguousarray(returned))
    batch, channels, height, width = x.shape
    whole = (batch, channels, height, width)
    fitting = {whole, (batch, 1, height, width), (batch, height, width)}
    if not isinstance(returned, torch.Tensor) or tuple(returned.shape) not in fitting:
        found = getattr(returned, "shape", None)
        what = type(returned).__name__ if found is None else f"shape {tuple(found)}"
        raise InputError(
            f"--explain {name}: returned {what} for images {tuple(x.shape)}. Return a map "
            f"{whole} or {(batch, height, width)}."
        )
    maps = returned.to(x)
    if maps.ndim == 3:
        maps = maps[:, None]
    return maps if maps.shape[1] == channels else (maps / channels).expand(whole)


@contextlib.contextmanager
def _overheard(model: Any, x: Tensor) -> Iterator[list[Tensor]]:
    """The logits of the first call of the model on just these images, if there is one."""
    heard: list[Tensor] = []
    if not isinstance(model, nn.Module):
        yield heard
        return

    def listen(_: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        same = inputs and isinstance(inputs[0], torch.Tensor) and inputs[0].shape == x.shape
        if not heard and same and torch.equal(inputs[0], x):
            heard.append(output.detach())

    handle = model.register_forward_hook(listen)
    try:
        yield heard
    finally:
        handle.remove()
