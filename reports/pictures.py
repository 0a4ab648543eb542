"""What the gallery of an audit holds, image by image and σ by σ."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from auditor.results import AuditResult

Array = npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True, eq=False)
class Shown:
    """One image under attack at one σ.

    ``image`` and ``perturbed`` (C, H, W) in [0, 1]; ``before`` and ``after`` (H, W) magnitudes.
    """

    image: Array
    perturbed: Array
    before: Array
    after: Array
    overlap: float
    epsilon: float


@dataclass(frozen=True, kw_only=True)
class Place:
    """An image of the gallery: its place in it, its index among all, whether it moved most."""

    place: int
    index: int
    worst: bool


def places(result: AuditResult) -> Iterator[Place]:
    """The images of the gallery, the worst first; none without pictures."""
    gallery = result.gallery
    for place, index in enumerate(gallery.get("index", ())):
        yield Place(place=place, index=int(index), worst=place < int(gallery["worst"]))


def shown(result: AuditResult, place: Place, sigma: float) -> Shown:
    """Pictures at the σ of the gallery that is nearest."""
    gallery = result.gallery
    at = int(np.abs(gallery["sigmas"] - sigma).argmin())
    return Shown(
        image=gallery["image"][place.place],
        perturbed=gallery["perturbed"][at][place.place],
        before=gallery["before"][at][place.place],
        after=gallery["after"][at][place.place],
        overlap=float(gallery["overlap"][at][place.place]),
        epsilon=float(gallery["epsilon"]),
    )


def class_name(result: AuditResult, index: int) -> str:
    """Name of the class predicted for an image; its number where it has no name."""
    images = result.images
    if index >= len(images.predicted):
        return "unknown"
    number_of_class = images.predicted[index]
    if 0 <= number_of_class < len(images.class_names):
        return images.class_names[number_of_class]
    return f"class {number_of_class}"
