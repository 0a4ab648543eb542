"""Hostile arrays of images → pixels of the model's size."""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image

from auditor.decoding import Prepare, UnusableImageError, fit
from auditor.errors import InputError

Array = npt.NDArray[Any]
Layout = Literal["hw", "chw", "hwc"]


def layout(
    shape: tuple[int, ...], dtype: np.dtype[Any], model: tuple[int, int, int], where: str
) -> Layout:
    """How each image of an array (N, H, W), (N, H, W, C) or (N, C, H, W) is laid out.

    Raises
    ------
    InputError
        If the channels do not fit the shape (C, H, W) of the model, the layout is ambiguous, there
        is no image, or the type is neither uint8, uint16 nor float.
    """
    if not (dtype.kind == "f" or (dtype.kind == "u" and dtype.itemsize <= 2)):
        raise InputError(f"{where}: images are {dtype}. Give uint8, uint16, or floats in [0, 1].")
    channels, height, width = model
    if len(shape) > 1 and math.prod(shape[1:]) > 3 * (Image.MAX_IMAGE_PIXELS or math.inf):
        raise InputError(f"{where}: images of {shape[1:]} are larger than is safe. Resize them.")
    filled = all(side > 0 for side in shape)
    if len(shape) == 3 and channels in (1, 3) and filled:
        return "hw"
    if len(shape) == 4 and filled:
        first, last = shape[1] == channels, shape[3] == channels
        if shape[1:] == model or (first and not last):
            return "chw"
        if shape[1:] == (height, width, channels) or (last and not first):
            return "hwc"
    raise InputError(
        f"{where}: images of shape {shape} for a model of {model}. Give (N, {channels}, H, W)."
    )


def arrange(image: Array, found: Layout) -> Array:
    """View of one image as (C, H, W); C is the model's or 1."""
    if found == "hw":
        return image[None]
    return image if found == "chw" else image.transpose(2, 0, 1)


def as_pixels(
    image: Array, shape: tuple[int, int, int], where: str, prepare: Prepare | None = None
) -> npt.NDArray[np.float32]:
    """One image (C, h, w), or (1, h, w), as float32 (C, H, W) in [0, 1].

    Resized if need be, or made by ``prepare`` of a picture as :func:`auditor.decoding.decode`
    would hand it over.

    Raises
    ------
    InputError
        If a value is outside [0, 1]: then the whole array is on another scale. With ``prepare``
        also if no picture can hold the values: several channels, but neither 3 nor of 8 bits.
    UnusableImageError
        If a value is not finite, or the image too elongated.
    """
    if image.dtype.kind == "u":
        pixels = image.astype(np.float32) / np.float32(np.iinfo(image.dtype).max)
    else:
        with np.errstate(over="ignore"):  # told as "not finite"
            pixels = image.astype(np.float32)
        if not np.isfinite(pixels).all():
            raise UnusableImageError("values that are not finite")
        low, high = pixels.min(), pixels.max()
        if low < -1e-6 or high > 1 + 1e-6:  # room for the rounding of a resize
            raise InputError(f"{where}: values span [{low:.4g}, {high:.4g}]. Scale them to [0, 1].")
    if prepare is not None:
        return prepare(_picture(image, pixels, shape[0], where), shape)
    _, height, width = shape
    if pixels.shape[1:] != (height, width):
        planes = [fit(Image.fromarray(plane), height, width) for plane in pixels]
        pixels = np.stack([np.asarray(plane) for plane in planes])
    return np.ascontiguousarray(np.broadcast_to(pixels.clip(0, 1), shape))


def _picture(
    image: Array, pixels: npt.NDArray[np.float32], channels: int, where: str
) -> Image.Image:
    if image.dtype == np.uint8 and len(image) in (1, 3):
        plane = image[0] if len(image) == 1 else np.ascontiguousarray(image.transpose(1, 2, 0))
        return Image.fromarray(plane).convert("L" if channels == 1 else "RGB")
    if len(image) == 1:
        return Image.fromarray(pixels[0])
    raise InputError(
        f"{where}: preprocessing needs pictures: gray, or RGB of 8 bits, not {image.dtype} with "
        f"{len(image)} channels. Save them so, or preprocess them before and pass --input-size."
    )
