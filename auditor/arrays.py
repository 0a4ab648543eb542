"""Hostile arrays of images → pixels of the model's size."""

from __future__ import annotations

import math
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from auditor.decoding import UnusableImageError, fit
from auditor.errors import InputError
from auditor.usercode import describe

Array = npt.NDArray[Any]
MAX_ARRAY_BYTES = 4 * 2**30


def read_npz(path: Path) -> tuple[Array, Array | None]:
    """Arrays ``x`` and, if it is there, ``y``.

    The header of each is compared with the size of its entry before anything is allocated, and
    objects are never unpickled.

    Raises
    ------
    InputError
        If the file is no such archive, is damaged, or declares more than it holds.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            entries = {info.filename: info for info in archive.infolist()}
            if "x.npy" not in entries:
                found = ", ".join(sorted(entries)[:4]) or "none"
                raise InputError(f"{path}: no array x (found {found}). Save with np.savez(x=...).")
            x = _read(archive, entries["x.npy"], path)
            return x, _read(archive, entries["y.npy"], path) if "y.npy" in entries else None
    except InputError:
        raise
    except Exception as error:  # hostile archives raise many things
        raise InputError(f"{path}: cannot be read ({describe(error)}).") from error


def channels_first(x: Array, shape: tuple[int, int, int], where: str) -> Array:
    """View of (N, H, W), (N, H, W, C) or (N, C, H, W) as (N, C, H, W), C of the model or 1.

    Raises
    ------
    InputError
        If the channels do not fit ``shape`` (C, H, W) of the model, the layout is ambiguous, or
        the type is neither uint8 nor float.
    """
    if x.dtype != np.uint8 and not np.issubdtype(x.dtype, np.floating):
        raise InputError(f"{where}: images are {x.dtype}. Give uint8, or floats in [0, 1].")
    channels, height, width = shape
    if x.ndim == 3 and channels in (1, 3) and x.size:
        return x[:, None]
    if x.ndim == 4 and x.size:
        first, last = x.shape[1] == channels, x.shape[3] == channels
        if x.shape[1:] == shape or (first and not last):
            return x
        if x.shape[1:] == (height, width, channels) or (last and not first):
            return x.transpose(0, 3, 1, 2)
    raise InputError(
        f"{where}: images of shape {x.shape} for a model of {shape}. Give (N, {channels}, H, W)."
    )


def as_pixels(image: Array, shape: tuple[int, int, int], where: str) -> npt.NDArray[np.float32]:
    """One image (C, h, w), or (1, h, w), as float32 (C, H, W) in [0, 1]; resized if need be.

    Raises
    ------
    InputError
        If a value is outside [0, 1]: then the whole array is on another scale.
    UnusableImageError
        If a value is not finite.
    """
    if image.dtype == np.uint8:
        pixels = image.astype(np.float32) / np.float32(255)
    else:
        pixels = image.astype(np.float32)
        if not np.isfinite(pixels).all():
            raise UnusableImageError("values that are not finite")
        low, high = pixels.min(), pixels.max()
        if low < -1e-6 or high > 1 + 1e-6:  # room for the rounding of a resize
            raise InputError(f"{where}: values span [{low:.4g}, {high:.4g}]. Scale them to [0, 1].")
    _, height, width = shape
    if pixels.shape[1:] != (height, width):
        planes = [fit(Image.fromarray(plane), height, width) for plane in pixels]
        pixels = np.stack([np.asarray(plane) for plane in planes])
    return np.ascontiguousarray(np.broadcast_to(pixels.clip(0, 1), shape))


def _read(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, path: Path) -> Array:
    name = entry.filename.removesuffix(".npy")
    with archive.open(entry) as stream:
        old = np.lib.format.read_magic(stream) == (1, 0)
        header = np.lib.format.read_array_header_1_0 if old else np.lib.format.read_array_header_2_0
        shape, _, dtype = header(stream)
        content = entry.file_size - stream.tell()
    if dtype.hasobject:
        raise InputError(f"{path}: {name} holds Python objects. Save plain numbers.")
    size = math.prod(shape) * dtype.itemsize
    if size > MAX_ARRAY_BYTES:
        raise InputError(
            f"{path}: {name} of shape {shape} takes {size / 2**30:.1f} GiB, more than "
            f"{MAX_ARRAY_BYTES // 2**30}. Save fewer images."
        )
    if size != content:
        raise InputError(f"{path}: {name} declares shape {shape} but holds {content} bytes.")
    with archive.open(entry) as stream:
        array: Array = np.lib.format.read_array(stream, allow_pickle=False)
    return array
