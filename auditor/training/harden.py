"""Train a network by a recipe, and tell before from after: accuracy, robustness, sparse maps."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from auditor.attributions import SimpleGrad
from auditor.attributions.noise import mix
from auditor.errors import InputError
from auditor.evaluation import Evaluator
from auditor.images import MAX_PIXEL_BYTES, ImageSet
from auditor.models import Classifier
from auditor.quality import sparseness
from auditor.store import write_atomically
from auditor.training.fit import Epoch, Training
from auditor.training.pgd import Pgd, evaluating
from auditor.training.recipe import Recipe
from auditor.training.registry import Asked
from auditor.training.smoothing import Insertion, plan_insertion
from auditor.training.trainable import Trainable
from auditor.weights import packed

SPLIT, ATTACK = 32, 33
"""Streams of random numbers: which images are held out, and the start of the measuring attack."""
HELD_OUT = 0.2
"""Share of the images that is held out."""
MEASURED = 200
"""Held-out images that are measured after each epoch, at most."""
CHECKPOINT = "checkpoint.safetensors"
WEIGHTS = "model.safetensors"


@dataclass(frozen=True, kw_only=True, eq=False)
class Prepared:
    """All that training needs, checked.

    Attributes
    ----------
    model
        Images in pixel space → logits, in train mode; a copy of the user's network.
    insertion
        The smoothing block inside of it, or ``None``.
    images, labels
        All images, and the class of each, (n,).
    fitted, held_out
        Indices of the images that are trained on, and of those that are measured.
    """

    model: Trainable
    insertion: Insertion | None
    images: ImageSet
    labels: Tensor
    fitted: Tensor
    held_out: Tensor

    def weights(self) -> bytes:
        """The network's weights as safetensors; the header tells of the block, if there is one."""
        header = self.insertion.metadata() if self.insertion is not None else None
        return packed(self.model.network.state_dict(), header=header)


def prepare(classifier: Classifier, images: ImageSet, *, asked: Asked, seed: int) -> Prepared:
    """Copy the network, put the block in, and hold a fifth of the images out.

    Parameters
    ----------
    asked
        Recipe and smoothing block.
    seed
        Of the split.

    Raises
    ------
    InputError
        If the model cannot be trained, the images have no usable labels, or the block no place.
    """
    y = labels_of(classifier, images)
    fitted, held_out = _split(len(y), seed)
    model = Trainable(classifier)
    insertion = None
    if asked.filter:
        sample = classifier.prepared(images.batch(held_out[:2].tolist()).to(classifier.device))
        insertion = plan_insertion(model.network, sample, filter=asked.filter, after=asked.after)
        insertion.apply(model.network)
    return Prepared(
        model=model,
        insertion=insertion,
        images=images,
        labels=y,
        fitted=fitted,
        held_out=held_out[:MEASURED],
    )


def harden(
    prepared: Prepared,
    *,
    recipe: Recipe,
    training: Training,
    attack: Pgd,
    seed: int,
    folder: Path,
    watch: Callable[[Epoch], None] = lambda epoch: None,
    advance: Callable[[int], None] = lambda images: None,
) -> tuple[Epoch, ...]:
    """Train the prepared network in place, from the weights that it has.

    After each epoch the held-out images are measured, see :func:`measurements`. The checkpoint,
    and at the end the weights, are written to ``folder``.

    Parameters
    ----------
    recipe
        The loss.
    training
        Epochs and steps.
    attack
        The attack that measures.
    seed
        Of the order of the images and all random numbers.
    folder
        Exists; training goes on from a checkpoint that lies there.
    watch, advance
        As :meth:`auditor.training.fit.Training.run` takes them.

    Returns
    -------
    tuple
        Every epoch; number 0 is before training, with the block if there is one.

    Raises
    ------
    InputError
        If the checkpoint belongs to another training.
    IncompleteRunError
        If the training diverges.
    """
    read = reader(prepared.images)
    x, y = read(prepared.held_out), prepared.labels[prepared.held_out]

    def measure(network: nn.Module) -> dict[str, float | None]:
        return measurements(network, x, y, attack=attack, seed=seed)

    history = training.run(
        prepared.model,
        lambda rows: read(prepared.fitted[rows]),
        prepared.labels[prepared.fitted],
        recipe=recipe,
        seed=seed,
        data=f"{prepared.images.manifest_sha256} {prepared.insertion} {attack}",
        checkpoint=folder / CHECKPOINT,
        measure=measure,
        watch=watch,
        advance=advance,
    )
    write_atomically(folder / WEIGHTS, prepared.weights())
    return history


def measurements(
    model: nn.Module, x: Tensor, y: Tensor, *, attack: Pgd, seed: int, batch: int = 64
) -> dict[str, float | None]:
    """Means over images: accuracy, accuracy under attack, and the Gini index of the gradient's map.

    Ratios in [0, 1]; the Gini index is that of the predicted class's logit, and None where no
    image has a map. Images whose map vanishes are counted as ``without_map``.
    """
    device = next(model.parameters()).device
    generator = torch.Generator().manual_seed(mix(seed, ATTACK))
    right, survived, indices = [], [], []
    evaluator = Evaluator(model=model, batch=batch, device=str(device))
    for near, classes in zip(torch.split(x, batch), torch.split(y, batch), strict=True):
        moved, wanted = near.to(device), classes.to(device)
        survived.append(attack.survivors(model, moved, wanted, generator=generator))
        with evaluating(model):
            predicted = evaluator.logits(near).argmax(dim=1)
            maps, _ = SimpleGrad()(evaluator, near, predicted, images=range(len(near)), draw=0)
        right.append(predicted == classes)
        indices.append(sparseness(maps).values["gini"])
    gini = torch.cat(indices)
    seen = gini[gini.isfinite()]
    return {
        "benign_accuracy": torch.cat(right).double().mean().item(),
        "pgd_accuracy": torch.cat(survived).double().mean().item(),
        "gini": seen.mean().item() if len(seen) else None,
        "without_map": float(len(gini) - len(seen)),
    }


def labels_of(classifier: Classifier, images: ImageSet) -> Tensor:
    """Class of every image (n,), at least ten of them.

    Raises
    ------
    InputError
        If there are no labels, too few images, or classes that the model does not have.
    """
    if images.labels is None:
        raise InputError(
            f"{images.source}: has no labels, and training needs them. Use class folders, or a "
            "labels.csv."
        )
    y = torch.tensor(images.labels)
    if len(y) < 10:
        raise InputError(f"{images.source}: {len(y)} images are too few to train. Give 10 or more.")
    if int(y.max()) >= classifier.classes:
        raise InputError(
            f"{images.source}: has label {int(y.max())}, but {classifier.name} tells "
            f"{classifier.classes} classes, 0 to {classifier.classes - 1}, apart."
        )
    return y


def _split(count: int, seed: int) -> tuple[Tensor, Tensor]:
    order = torch.randperm(count, generator=torch.Generator().manual_seed(mix(seed, SPLIT)))
    held_out = math.ceil(HELD_OUT * count)
    return order[held_out:], order[:held_out]


def reader(images: ImageSet) -> Callable[[Tensor], Tensor]:
    """Pixels by index: from memory where all of them fit, else read when they are needed."""
    if len(images.names) * math.prod(images.shape) * 4 <= MAX_PIXEL_BYTES:
        return images.pixels.__getitem__

    def read(rows: Tensor) -> Tensor:
        wanted: Sequence[int] = rows.tolist()
        return images.batch(wanted)

    return read
