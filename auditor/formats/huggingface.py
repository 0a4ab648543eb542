"""Local folders of Hugging Face image classifiers (extra ``hf``); the network is never asked."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from auditor.errors import InputError
from auditor.formats.loaded import Loaded
from auditor.formats.needed import needed
from auditor.results import Check
from auditor.usercode import describe

FORMAT = "Hugging Face"

# Processors compute in float32 and some keep eight bits until the end.
_AFFINE_TOLERANCE = 1e-3


def load_huggingface(folder: Path, *, trust_pickle: bool = False) -> Loaded:
    """Read a folder that ``save_pretrained`` made, with the processor's normalization and size.

    Mean, std and size are measured on the processor itself: what it makes of images of one color.

    Parameters
    ----------
    trust_pickle
        Read weights that are not safetensors. Code in the folder is never run.

    Raises
    ------
    InputError
        If the extra is missing, or the folder holds no image classifier.
    """
    transformers = needed("transformers", extra="hf")
    if not (trust_pickle or any(folder.glob("*.safetensors"))):
        raise InputError(
            f"{folder}: no .safetensors file, and other weights are pickles. Save with "
            "safe_serialization=True, or pass --trust-pickle if you made the folder."
        )
    options = {"local_files_only": True, "trust_remote_code": False}
    try:
        with _offline():
            network, info = transformers.AutoModelForImageClassification.from_pretrained(
                folder,
                **options,
                use_safetensors=None if trust_pickle else True,
                output_loading_info=True,
            )
    except (Exception, SystemExit) as error:  # hostile folders raise anything
        raise InputError(f"{folder}: no image classifier ({describe(error)}).") from error
    missing = sorted(info["missing_keys"])
    if missing:
        raise InputError(
            f"{folder}: weights are missing, first {missing[0]!r}: it would be drawn at random. "
            "Save the fine-tuned model with its classifier."
        )
    size, mean, std = None, None, None
    if (folder / "preprocessor_config.json").is_file():
        try:
            with _offline():
                processor = transformers.AutoImageProcessor.from_pretrained(folder, **options)
            size, mean, std = _measure(processor)
        except InputError as error:
            raise InputError(f"{folder}: {error}") from error
        except (Exception, SystemExit) as error:  # hostile folders raise anything
            raise InputError(f"{folder}: its processor fails ({describe(error)}).") from error
    labels = network.config.id2label
    return Loaded(
        network=network,
        format=FORMAT,
        name=folder.resolve().name,
        input_size=size,
        mean=mean,
        std=std,
        labels=[str(labels[index]) for index in sorted(labels)],
        remarks=_remarks(size, mean, std),
    )


def _measure(processor: Any) -> tuple[tuple[int, int, int], tuple[float, ...], tuple[float, ...]]:
    """(C, H, W), mean and std that a processor amounts to, from images of one color.

    Resizing and cropping leave a single color alone, so that what comes out is (v − mean)/std.
    """
    made = []
    for value in (0, 51, 255):
        image = np.full((300, 400, 3), value, dtype=np.uint8)
        pixels = processor(images=image, return_tensors="np")["pixel_values"][0]
        made.append(np.asarray(pixels, dtype=np.float64))
    low, middle, high = (pixels.mean(axis=(1, 2)) for pixels in made)
    spread = max(float(np.ptp(pixels, axis=(1, 2)).max()) for pixels in made)
    bent = float(np.abs(middle - (low + (high - low) * 51 / 255)).max())
    steps = high - low
    if not (steps > 0).all() or max(spread, bent) > _AFFINE_TOLERANCE * float(steps.max()):
        raise InputError(
            "its processor does more than resize, crop and normalize. Give the network by "
            "--model package.module:factory instead."
        )
    channels, height, width = made[0].shape
    std = 1 / steps
    mean = -low * std
    # Seven digits are what float32 has: they give back 0.485 as it was written.
    return (channels, height, width), _rounded(mean), _rounded(std)


def _rounded(values: npt.NDArray[np.float64]) -> tuple[float, ...]:
    return tuple(float(f"{value:.6g}") for value in values)


def _remarks(
    size: tuple[int, ...] | None, mean: tuple[float, ...] | None, std: tuple[float, ...] | None
) -> tuple[Check, ...]:
    if size is None or mean is None or std is None:
        return ()
    message = (
        f"Measured on the folder's processor: size {'×'.join(map(str, size))}, mean "
        f"{', '.join(f'{v:g}' for v in mean)}, std {', '.join(f'{v:g}' for v in std)}."
    )
    return (Check(name="preprocessing", status="note", message=message),)


@contextlib.contextmanager
def _offline() -> Iterator[None]:
    """Forbid every request, also those that a config could ask for, and progress bars."""
    constants = needed("huggingface_hub.constants", extra="hf")
    logging = needed("transformers.utils.logging", extra="hf")
    before, bars = constants.HF_HUB_OFFLINE, logging.is_progress_bar_enabled()
    constants.HF_HUB_OFFLINE = True
    logging.disable_progress_bar()
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before
        if bars:
            logging.enable_progress_bar()
