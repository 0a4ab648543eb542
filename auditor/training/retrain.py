"""Learn a model's task anew: which members a setting asks for, and training them one by one."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from auditor.control import randomize
from auditor.ensembles import SETTINGS
from auditor.errors import InputError
from auditor.images import ImageSet
from auditor.models import Classifier
from auditor.store import write_atomically
from auditor.training.ensemble import Member, accuracy, check_distinct, train_member
from auditor.training.fit import Epoch, Training
from auditor.training.harden import labels_of, reader
from auditor.training.recipe import Natural, Recipe
from auditor.training.splits import check_splits, disjoint_splits
from auditor.training.trainable import Trainable
from auditor.usercode import plain_errors, user_object
from auditor.weights import load_weights, packed

HELD_OUT = 0.1
"""Share of the images that no member learns from: accuracy is measured on them."""
CHECKPOINTS = "checkpoints"
"""Folder of what was trained already, inside of the run folder."""


@dataclass(frozen=True, kw_only=True)
class Variant:
    """How one member is trained."""

    training: Training
    recipe: Recipe = Natural()  # noqa: RUF009  # frozen


@dataclass(frozen=True, kw_only=True)
class Group:
    """An ensemble that is to be trained.

    Attributes
    ----------
    setting
        One of :data:`auditor.ensembles.SETTINGS` but ``da``.
    seed
        Of the shuffle; with each member's place it decides on all else that is random.
    members
        To be trained.
    """

    setting: str
    seed: int
    members: tuple[Member, ...]

    @property
    def name(self) -> str:
        """For every table."""
        sizes = sorted({len(member.rows) for member in self.members})
        images = " and ".join(f"{size:,}" for size in sizes)
        words = f"{SETTINGS[self.setting]}; {len(self.members)} members"
        return f"{words} of {images} images, seed {self.seed}"


@dataclass(frozen=True, kw_only=True, eq=False)
class Task:
    """The user's task: the model, its labeled images, and those that are held out."""

    classifier: Classifier
    images: ImageSet
    labels: Tensor
    rows: int
    """How many images may be learned from; the others are held out."""

    @classmethod
    def of(cls, classifier: Classifier, images: ImageSet) -> Task:
        """Check the images' labels, and hold a tenth of them out.

        Raises
        ------
        InputError
            If the images have no usable labels, or the model cannot be trained.
        """
        labels = labels_of(classifier, images)
        Trainable(classifier)
        held_out = max(1, round(HELD_OUT * len(labels)))
        return cls(classifier=classifier, images=images, labels=labels, rows=len(labels) - held_out)

    @property
    def order(self) -> Tensor:
        """All images in one fixed random order; the held-out ones are the last."""
        return torch.randperm(len(self.labels), generator=torch.Generator().manual_seed(0))

    @property
    def held_out(self) -> Tensor:
        """Indices of the images that no member learns from."""
        return self.order[self.rows :]

    def group(
        self,
        setting: str,
        *,
        members: int,
        size: int | None,
        seed: int,
        variants: tuple[Variant, ...],
    ) -> Group:
        """Plan an ensemble.

        Parameters
        ----------
        members
            How many; with ``dr`` one for each variant.
        size
            Images of each; without it as many as there are.
        variants
            The first is what all members but those of ``dr`` are trained by.

        Raises
        ------
        InputError
            If there are too few images, members or variants, or a split misses a class.
        """
        disjoint = setting in ("dt", "finetune")
        if setting == "dr":
            if len(variants) < 2:
                raise InputError("--setting dr compares recipes: give --variant at least once.")
            members = len(variants)
        if members < 2:
            raise InputError(f"--members {members}: an ensemble has at least two. Give 2 or more.")
        parts = members if disjoint else 1
        size = size or self.rows // parts
        usable = self.order[: self.rows]
        chosen = disjoint_splits(self.rows, size=size, members=parts, seed=seed)
        splits = [usable[rows] for rows in chosen]
        check_splits(splits, self.labels, disjoint=disjoint)
        return Group(
            setting=setting,
            seed=seed,
            members=tuple(
                Member(
                    name=f"{setting}-{seed}-{place}",
                    rows=splits[place % parts],
                    # Recipes are compared from the same first weights.
                    seed=seed if setting == "dr" else seed + place,
                    training=variants[place if setting == "dr" else 0].training,
                    recipe=variants[place if setting == "dr" else 0].recipe,
                )
                for place in range(members)
            ),
        )


def retrain(
    task: Task,
    groups: tuple[Group, ...],
    folder: Path,
    *,
    own: Fit | None = None,
    watch: Callable[[Member, Epoch], None],
    advance: Callable[[int], None],
) -> list[dict[str, Any]]:
    """Train all members, each only once, and write their weights to a folder.

    ``own`` is the user's function in place of our loop. Returns what
    :func:`auditor.ensembles.manifest` takes.

    Raises
    ------
    InputError
        If two members of an ensemble end with the same weights.
    IncompleteRunError
        If a training diverges.
    """
    read = reader(task.images)
    found = []
    for group in groups:
        networks, entries = [], []
        for member in group.members:
            model = _trained(task, group, member, folder, read, own, watch, advance)
            right = accuracy(model, read, task.labels, task.held_out)
            networks.append(model)
            entries.append(
                {
                    "weights": f"{member.name}.safetensors",
                    "images": len(member.rows),
                    "accuracy": right,
                    "seed": member.seed,
                    "recipe": f"{member.recipe!r}",
                    "training": dataclasses.asdict(member.training) if own is None else own.name,
                }
            )
        check_distinct(networks, [member.name for member in group.members])
        for member, model in zip(group.members, networks, strict=True):
            state = model.network.state_dict()
            write_atomically(folder / f"{member.name}.safetensors", packed(state))
        found.append({"name": group.name, "setting": group.setting, "members": entries})
    return found


def _trained(
    task: Task,
    group: Group,
    member: Member,
    folder: Path,
    read: Callable[[Tensor], Tensor],
    own: Fit | None,
    watch: Callable[[Member, Epoch], None],
    advance: Callable[[int], None],
) -> Trainable:
    if own is not None:
        own_model = own(task, member, read, cache=folder / CHECKPOINTS)
        advance(len(member.rows) * member.training.epochs)
        return own_model

    def build(seed: int) -> nn.Module:
        model = Trainable(task.classifier)
        if group.setting != "finetune":
            randomize(model.network, seed=seed, layers=True)
        return model

    model = train_member(
        member,
        build,
        read,
        task.labels,
        data=f"{task.images.manifest_sha256} {task.classifier.sha256()} "
        f"{'finetune' if group.setting == 'finetune' else 'anew'}",
        cache=folder / CHECKPOINTS,
        held_out=task.held_out,
        watch=lambda epoch: watch(member, epoch),
        advance=advance,
    )
    assert isinstance(model, Trainable)
    return model


class Fit:
    """The user's training, ``fit(split, seed) -> model``, called inside of the user's project.

    ``split`` is the pair of pixels (n, C, H, W) in [0, 1] and classes (n,) of a member's images;
    the returned network must have the audited one's architecture.

    Raises
    ------
    InputError
        If the file or the function cannot be used.
    """

    def __init__(self, spec: str) -> None:
        target, _, attribute = spec.rpartition(":")
        if not target:
            raise InputError(f"--train {spec}: not understood. Write path/file.py:function.")
        self._function, self._code, content = user_object(
            target, attribute, where=f"--train {spec}"
        )
        if not callable(self._function):
            raise InputError(f"--train {spec}: no function. Name fit(split, seed) -> model.")
        self.spec = spec
        self.name = f"{spec} {hashlib.sha256(content).hexdigest()}"

    def __call__(
        self, task: Task, member: Member, read: Callable[[Tensor], Tensor], *, cache: Path
    ) -> Trainable:
        """Train one member, unless the cache has it."""
        data = f"{task.images.manifest_sha256} {task.classifier.sha256()} {self.name}"
        file = cache / f"{member.digest(data)[:32]}.safetensors"
        model = Trainable(task.classifier)
        if not file.is_file():
            cache.mkdir(parents=True, exist_ok=True)
            split = read(member.rows), task.labels[member.rows]
            write_atomically(file, packed(self._weights(split, member.seed)))
        try:
            load_weights(model.network, file)
        except InputError as error:
            file.unlink()
            raise InputError(
                f"--train {self.spec}: the returned network is not of --model's architecture. Let "
                "both come from the same function."
            ) from error
        return model.eval()

    def _weights(self, split: tuple[Tensor, Tensor], seed: int) -> dict[str, Any]:
        where = f"--train {self.spec}"
        with plain_errors(f"{where}: calling it failed"), self._code.active():
            network = self._function(split, seed)
        if not isinstance(network, nn.Module):
            raise InputError(f"{where}: returned {type(network).__name__}. Return the network.")
        state = network.state_dict()
        if any(not value.isfinite().all() for value in state.values()):
            raise InputError(f"{where}: returned weights that are not finite. Train it with care.")
        return state
