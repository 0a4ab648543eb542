"""The training loop: seeded epochs, a checkpoint after each, the same weights after a stop."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import safetensors
import torch
from torch import Tensor, nn

from auditor.attributions.noise import mix
from auditor.errors import IncompleteRunError, InputError
from auditor.hashing import state_sha256
from auditor.store import write_atomically
from auditor.training.recipe import Recipe
from auditor.weights import packed

STEP_EPOCHS = 30
"""After so many epochs ``"step"`` lowers the rate (S0 C.1, as in PyTorch's own script)."""
ORDER, DROPOUT = 30, 31
"""Streams of random numbers: the order of images and the recipe's own; what the network draws."""


@dataclass(frozen=True, kw_only=True)
class Epoch:
    """What is known after an epoch; number 0 is before the first.

    Attributes
    ----------
    number
        Epochs done.
    loss
        Mean of the recipe's loss over the epoch's batches; ``None`` before the first.
    measured
        What ``measure`` of :meth:`Training.run` returned.
    """

    number: int
    loss: float | None = None
    measured: Mapping[str, float | None] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Training:
    """How long and by which steps a network is trained; what it learns is the recipe's matter.

    Attributes
    ----------
    epochs, batch
        Passes over the images, and images in a step. Batches differ by one image at most.
    optimizer
        ``"adam"``, or ``"sgd"`` with ``momentum``.
    learning_rate, momentum, weight_decay
        Of the optimizer.
    schedule
        ``"constant"``; ``"cosine"`` from the learning rate down to zero; or ``"step"``: a tenth of
        it after every 30 epochs.

    Raises
    ------
    InputError
        If a setting is out of range.
    """

    epochs: int = 4
    batch: int = 64
    optimizer: Literal["adam", "sgd"] = "adam"
    learning_rate: float = 1e-3
    momentum: float = 0.9
    weight_decay: float = 0.0
    schedule: Literal["constant", "cosine", "step"] = "constant"

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.batch < 2:
            raise InputError("training takes at least one epoch and batches of at least 2 images.")
        if not 0 < self.learning_rate < math.inf:
            raise InputError(f"learning rate {self.learning_rate:g}: give a positive number.")
        if not (0 <= self.momentum < 1 and 0 <= self.weight_decay < math.inf):
            raise InputError("momentum lies in [0, 1), and weight decay is not negative.")

    def run(
        self,
        model: nn.Module,
        read: Callable[[Tensor], Tensor],
        y: Tensor,
        *,
        recipe: Recipe,
        seed: int,
        data: str = "",
        checkpoint: Path | None = None,
        measure: Callable[[nn.Module], Mapping[str, float | None]] = lambda model: {},
        watch: Callable[[Epoch], None] = lambda epoch: None,
        advance: Callable[[int], None] = lambda images: None,
    ) -> tuple[Epoch, ...]:
        """Train a network in place, from its present weights or from a checkpoint.

        Training goes on from the checkpoint where there is one, and ends with the same weights as
        if it had never stopped.

        Parameters
        ----------
        model
            Images (B, C, H, W) in [0, 1] → logits; in train mode.
        read
            Pixels (B, C, H, W) of some images, by index (B,).
        y
            Class of every image, (n,).
        seed
            Of the order of the images, and of all random numbers.
        data
            What recognizes the images, such as a hash.
        checkpoint
            Where weights and the optimizer's state are kept after every epoch.
        measure
            Called before the first epoch and after every one; its answer is kept in the history.
        watch
            Told of every epoch, also of those that the checkpoint holds.
        advance
            Told how many images were passed.

        Raises
        ------
        InputError
            If the checkpoint belongs to another training, or cannot be read.
        IncompleteRunError
            If the loss or a weight is not finite any more; the last good checkpoint is kept.
        """
        weights = [p for p in model.parameters() if p.requires_grad]
        optimizer = self._optimizer(weights)
        key = self._key(model, y, recipe, seed, data)
        history = _restore(checkpoint, key, model, optimizer) if checkpoint else []
        if not history:
            history = [Epoch(number=0, measured=measure(model))]
            _save(checkpoint, key, model, optimizer, history)
        for epoch in history:
            watch(epoch)
        advance(history[-1].number * len(y))
        for number in range(history[-1].number + 1, self.epochs + 1):
            loss = self._epoch(model, read, y, recipe, optimizer, seed, number, advance)
            if not all(p.isfinite().all() for p in weights):
                raise _diverged(f"A weight is not finite after epoch {number}.")
            history.append(Epoch(number=number, loss=loss, measured=measure(model)))
            _save(checkpoint, key, model, optimizer, history)
            watch(history[-1])
        return tuple(history)

    def _epoch(
        self,
        model: nn.Module,
        read: Callable[[Tensor], Tensor],
        y: Tensor,
        recipe: Recipe,
        optimizer: torch.optim.Optimizer,
        seed: int,
        number: int,
        advance: Callable[[int], None],
    ) -> float:
        """Train for one epoch; returns the mean loss."""
        device = next(model.parameters()).device
        generator = torch.Generator().manual_seed(mix(seed, ORDER, number))
        steps = math.ceil(len(y) / self.batch)
        parts = torch.randperm(len(y), generator=generator).tensor_split(steps)
        total = 0.0
        with torch.random.fork_rng():
            torch.manual_seed(mix(seed, DROPOUT, number))
            for step, rows in enumerate(parts):
                for group in optimizer.param_groups:
                    group["lr"] = self._rate((number - 1) * steps + step, steps * self.epochs)
                optimizer.zero_grad()
                x, classes = read(rows).to(device), y[rows].to(device)
                loss = recipe.loss(model, x, classes, generator)
                value = loss.item()
                if not math.isfinite(value):
                    raise _diverged(f"The loss is {value} in epoch {number}.")
                torch.autograd.backward(loss)
                optimizer.step()
                total += value * len(rows)
                advance(len(rows))
        return total / len(y)

    def _rate(self, step: int, steps: int) -> float:
        if self.schedule == "constant":
            return self.learning_rate
        if self.schedule == "step":
            epoch = step * self.epochs // steps
            return self.learning_rate * 0.1 ** (epoch // STEP_EPOCHS)
        return self.learning_rate * (1 + math.cos(math.pi * step / steps)) / 2

    def _optimizer(self, weights: list[nn.Parameter]) -> torch.optim.Optimizer:
        if self.optimizer == "adam":
            return torch.optim.Adam(weights, lr=self.learning_rate, weight_decay=self.weight_decay)
        return torch.optim.SGD(
            weights,
            lr=self.learning_rate,
            momentum=self.momentum,
            weight_decay=self.weight_decay,
        )

    def _key(self, model: nn.Module, y: Tensor, recipe: Recipe, seed: int, data: str) -> str:
        """Hash of all that the trained weights depend on."""
        start = state_sha256(model.state_dict() | {"labels": y})
        whole = f"{self!r} {recipe.name} {recipe!r} {seed} {data} {start}"
        return hashlib.sha256(whole.encode()).hexdigest()


def _diverged(what: str) -> IncompleteRunError:
    return IncompleteRunError(
        f"{what} The checkpoint of the epoch before is kept.\n"
        "Lower the learning rate or the recipe's strength, in a new run."
    )


def _save(
    path: Path | None,
    key: str,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    history: list[Epoch],
) -> None:
    if path is None:
        return
    tensors = {f"model.{name}": value for name, value in model.state_dict().items()}
    for index, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{name}": value for name, value in state.items()}
    header = {"key": key, "history": json.dumps([asdict(epoch) for epoch in history])}
    write_atomically(path, packed(tensors, header=header))


def _restore(
    path: Path, key: str, model: nn.Module, optimizer: torch.optim.Optimizer
) -> list[Epoch]:
    """Put model and optimizer where the checkpoint has them; no history if there is none."""
    if not path.is_file():
        return []
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, safetensors.SafetensorError) as error:
        raise InputError(f"{path}: cannot be read ({error}). Start a new run.") from error
    if header.get("key") != key:
        raise InputError(
            f"{path}: is the checkpoint of another training (recipe, settings, data, seed or "
            "first weights differ). Name another place."
        )
    parts: dict[str, dict[str, Any]] = {"model": {}, "optimizer": {}}
    for name, value in tensors.items():
        kind, _, rest = name.partition(".")
        parts[kind][rest] = value
    model.load_state_dict(parts["model"], strict=False)
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in parts["optimizer"].items():
        index, _, rest = name.partition(".")
        state.setdefault(int(index), {})[rest] = value
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
    return [Epoch(**entry) for entry in json.loads(header["history"])]
