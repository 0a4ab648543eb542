"""Train the members of an ensemble, each once: a second audit finds them where the first left."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from auditor.errors import InputError
from auditor.hashing import state_sha256
from auditor.training.fit import Epoch, Training
from auditor.training.pgd import evaluating
from auditor.training.recipe import Natural, Recipe

S0_CIFAR = Training(
    epochs=100,
    batch=128,
    optimizer="sgd",
    learning_rate=0.1,
    momentum=0.9,
    weight_decay=1e-3,
    schedule="cosine",
)
"""S0's settings for CIFAR-10 (C.1). **Choice**: batches of 128; S0 tells none."""
S0_IMAGENET = dataclasses.replace(S0_CIFAR, epochs=80, batch=256, schedule="step")
"""S0's settings for ImageNet (C.1), with rate and batch of PyTorch's script, as S0 took them. Its
random crops are not among them: images are learned from as they are."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Member:
    """One network of an ensemble, not yet trained.

    Attributes
    ----------
    name
        For people, and for its file.
    rows
        Indices of the images that it learns from.
    seed
        Of its first weights, of the order of its images and all else that is random.
    training, recipe
        How it is trained.
    """

    name: str
    rows: Tensor
    seed: int
    training: Training
    recipe: Recipe = Natural()  # noqa: RUF009  # frozen

    def digest(self, data: str) -> str:
        """Hash of recipe, data and seed; ``data`` recognizes the images and the architecture."""
        rows = hashlib.sha256(self.rows.numpy().tobytes()).hexdigest()
        recipe = f"{self.recipe.name} {self.recipe!r} {self.training!r}"
        return hashlib.sha256(f"{data} {rows} {self.seed} {recipe}".encode()).hexdigest()


def train_member(
    member: Member,
    build: Callable[[int], nn.Module],
    read: Callable[[Tensor], Tensor],
    y: Tensor,
    *,
    data: str,
    cache: Path,
    held_out: Tensor,
    watch: Callable[[Epoch], None] = lambda epoch: None,
    advance: Callable[[int], None] = lambda images: None,
) -> nn.Module:
    """The trained network of a member, in eval mode; from the cache if it was trained before.

    Parameters
    ----------
    build
        Makes the network from the member's seed, which decides on its first weights: images
        (B, C, H, W) in [0, 1] → logits.
    read
        Pixels of some images, by index.
    y
        Class of every image (n,).
    data
        What recognizes images and architecture, such as a hash.
    cache
        Folder of checkpoints, one for each member; made if it is not there.
    held_out
        Indices of the images on which ``accuracy`` is measured after each epoch.
    watch, advance
        As :meth:`auditor.training.fit.Training.run` takes them.

    Raises
    ------
    IncompleteRunError
        If the loss is not finite any more.
    """
    cache.mkdir(parents=True, exist_ok=True)
    model = build(member.seed).train()

    def measure(network: nn.Module) -> dict[str, float | None]:
        return {"accuracy": accuracy(network, read, y, held_out)}

    member.training.run(
        model,
        lambda rows: read(member.rows[rows]),
        y[member.rows],
        recipe=member.recipe,
        seed=member.seed,
        data=data,
        checkpoint=cache / f"{member.digest(data)[:32]}.safetensors",
        measure=measure,
        watch=watch,
        advance=advance,
    )
    return model.eval()


def seeded(build: Callable[[], nn.Module], seed: int) -> nn.Module:
    """A network whose first weights are a function of the seed; torch's own state stays."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build()


def accuracy(
    model: nn.Module,
    read: Callable[[Tensor], Tensor],
    y: Tensor,
    rows: Tensor,
    *,
    batch: int = 256,
) -> float:
    """Share of some images that the network puts into their class."""
    device = next(model.parameters()).device
    with evaluating(model), torch.no_grad():
        right = [
            int((model(read(part).to(device)).argmax(dim=1).cpu() == y[part]).sum())
            for part in torch.split(rows, batch)
        ]
    return sum(right) / len(rows)


def check_distinct(networks: Sequence[nn.Module], names: Sequence[str]) -> None:
    """Refuse fewer than two members, and two with the same weights.

    Raises
    ------
    InputError
        Names the members.
    """
    if len(networks) < 2:
        raise InputError(f"{len(networks)} members: an ensemble has at least two.")
    seen: dict[str, str] = {}
    for network, name in zip(networks, names, strict=True):
        first = seen.setdefault(state_sha256(network.state_dict()), name)
        if first != name:
            raise InputError(
                f"{first} and {name} have the same weights: retraining changed nothing. Let the "
                "training depend on its split and its seed."
            )
