"""Split torchvision transforms at Normalize: before it pictures, after it the model."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from auditor.errors import InputError

PLAIN = "Compose Resize CenterCrop Pad Grayscale RGB Lambda Identity LinearTransformation Normalize"
CONVERSIONS = "ToTensor PILToTensor ToImage ToPILImage ToPureTensor ToDtype ConvertImageDtype"
STEADY = frozenset((PLAIN + " " + CONVERSIONS).split())
"""Transforms of torchvision that give the same result every time; a user's own are tried out."""

_LIBRARY = "torchvision.transforms"
_NOTHING = ("Identity", "ToPureTensor")


@dataclass(frozen=True, eq=False)
class Chain:
    """Steps one after the other."""

    steps: Sequence[Callable[[Any], Any]]

    def __call__(self, value: Any) -> Any:
        """What the last step makes of it."""
        for step in self.steps:
            value = step(value)
        return value


@dataclass(frozen=True, eq=False)
class Continued:
    """Normalize and what follows it, on images (B, C, H, W)."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    rest: Chain

    def __call__(self, x: Tensor) -> Tensor:
        """One by one, because a user wrote these steps for a single image."""
        mean, std = (torch.tensor(v, dtype=x.dtype, device=x.device) for v in (self.mean, self.std))
        x = (x - mean[:, None, None]) / std[:, None, None]
        return torch.stack([self.rest(image) for image in x])


@dataclass(frozen=True, kw_only=True, eq=False)
class Split:
    """What a transform amounts to: ``pixels`` for each picture, then Normalize.

    Attributes
    ----------
    pixels
        Everything before the first Normalize, picture → pixels; ``None`` if nothing is.
    mean, std
        Of that Normalize; 0 and 1 if there is none.
    inside
        Normalize and what follows it; ``None`` if nothing follows.
    """

    pixels: Chain | None
    mean: tuple[float, ...]
    std: tuple[float, ...]
    inside: Continued | None


def is_transform(value: object) -> bool:
    """Whether this is torchvision's: a transform, the preset of some weights, or a list of steps.

    Other libraries compose theirs by torchvision's ``Compose``, as timm does.
    """
    if isinstance(value, nn.Sequential):
        return all(map(is_transform, value))
    return isinstance(value, list) or bool(_names(value))


def is_normalize(value: object) -> bool:
    """Whether this is torchvision's Normalize."""
    return "Normalize" in _names(value)


def split(transform: object, where: str) -> Split:
    """Split a transform, the preset of some weights, or a list of transforms.

    Raises
    ------
    InputError
        If a step is random or none that can be called, or the preset is not for classification.
    """
    steps = _steps(transform, where)
    names = [_names(step) for step in steps]
    place = next((i for i, found in enumerate(names) if "Normalize" in found), len(steps))
    normalize = steps[place] if place < len(steps) else None
    mean, std = _numbers(getattr(normalize, "mean", 0)), _numbers(getattr(normalize, "std", 1))
    before, after = steps[:place], steps[place + 1 :]
    rest = [step for step in after if not set(_names(step)) & set(_NOTHING)]
    return Split(
        pixels=Chain(before) if before else None,
        mean=mean,
        std=std,
        inside=Continued(mean, std, Chain(rest)) if rest else None,
    )


def weights_transform(name: str) -> object:
    """The transforms of torchvision's weights, as ``ResNet50_Weights.IMAGENET1K_V2``.

    Nothing is downloaded.

    Raises
    ------
    InputError
        If there are no such weights.
    """
    from torchvision.models import get_weight  # a second to import

    try:
        return get_weight(name).transforms()
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"--preprocess torchvision:{name}: no such weights. Write for example "
            "torchvision:ResNet50_Weights.IMAGENET1K_V2."
        ) from error


def _steps(transform: Any, where: str) -> list[Any]:
    names = _names(transform)
    if isinstance(transform, list | tuple | nn.Sequential):
        return [step for part in transform for step in _steps(part, where)]
    if "Compose" in names:
        return _steps(list(transform.transforms), where)
    own = type(transform).__name__
    if names and own == "ImageClassification":
        from torchvision.transforms import Normalize  # imported by the user already

        # The same code without its last step: with mean 0 and std 1 it changes no number.
        pixels = copy.copy(transform)
        pixels.mean, pixels.std = [0.0], [1.0]
        return [pixels, Normalize(transform.mean, transform.std)]
    if any(_random(name) for name in (own, *names)):
        raise InputError(
            f"{where}: {own} is random. Give the transforms of validation, not of training."
        )
    if names and names[0] == own and own not in STEADY:
        raise InputError(
            f"{where}: {own} cannot be split. Return a pair (pixels, inside) that does the same."
        )
    if not callable(transform):
        raise InputError(f"{where}: {own} is no transform. Give transforms in the list.")
    return [transform]


def _names(step: object) -> list[str]:
    """Names of the classes of torchvision that it is an instance of."""
    return [t.__name__ for t in type(step).__mro__ if t.__module__.startswith(_LIBRARY)]


def _random(name: str) -> bool:
    others = ("ColorJitter", "AutoAugment", "TrivialAugmentWide", "AugMix", "ElasticTransform")
    blur = ("GaussianBlur", "GaussianNoise", "ScaleJitter", "CutMix", "MixUp", "JPEG")
    return name.startswith("Rand") or name in others + blur


def _numbers(values: Any) -> tuple[float, ...]:
    numbers = torch.as_tensor(values, dtype=torch.float64).flatten().tolist()
    return tuple(float(f"{number:.9g}") for number in numbers)
