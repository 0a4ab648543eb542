"""Which class is explained: the predicted one, the label, or one that the user names."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch
from torch import Tensor

from auditor.errors import InputError
from auditor.images import ImageSet
from auditor.models import Classifier

Target = str | int
"""``predicted``, ``label``, or the index of a class for all images."""


def check_target(target: Target, classifier: Classifier, images: ImageSet) -> None:
    """Refuse a class that the model does not have, and the label of images without labels."""
    if isinstance(target, int):
        if not 0 <= target < classifier.classes:
            raise InputError(
                f"--target {target}: {classifier.name} has classes 0 to {classifier.classes - 1}."
            )
    elif target not in ("predicted", "label"):
        raise InputError(f"--target {target}: not understood. Write predicted, label or an index.")
    elif target == "label" and images.labels is None:
        raise InputError(f"--target label: {images.source} has no labels. Use --target predicted.")


def ask(
    target: Target, members: Sequence[Classifier], images: ImageSet
) -> tuple[Target, list[Classifier], ImageSet]:
    """The same question, put to one label alone where labels are independent of each other.

    An image shows the label that is asked for or does not: its prediction is one of the two, and
    every image counts. All else is returned as it is.
    """
    first = members[0]
    if isinstance(target, str) or first.output.scale != "sigmoid" or first.classes == 2:
        return target, list(members), images
    asked = [member.with_label(target) for member in members]
    if images.labels is not None:
        present = tuple(int(given == target) for given in images.labels)
        names = asked[0].labels or ()
        images = dataclasses.replace(images, labels=present, class_names=names)
    return "predicted", asked, images


def explained_classes(target: Target, predicted: Tensor, labels: Sequence[int] | None) -> Tensor:
    """Explained class (n,) of each image; ``target`` may be an index in words."""
    if target == "label":
        return torch.tensor(labels)
    return predicted if target == "predicted" else torch.full_like(predicted, int(target))
