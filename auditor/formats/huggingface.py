"""Local folders of Hugging Face image classifiers (extra ``hf``); the network is never asked."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from auditor.errors import InputError
from auditor.formats.loaded import Loaded, sha256
from auditor.formats.needed import needed
from auditor.preprocess import Preprocess
from auditor.results import Check
from auditor.usercode import describe

FORMAT = "Hugging Face"
CONFIG = "preprocessor_config.json"

# Processors compute in float32 and some keep eight bits until the end.
_AFFINE_TOLERANCE = 1e-3


def load_huggingface(folder: Path, *, trust_pickle: bool = False) -> Loaded:
    """Read a folder that ``save_pretrained`` made, with its processor.

    Mean and std are measured on the processor itself: what it makes of images of one color. What it
    makes of a picture less these is the part done on reading, whatever its settings are called.

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
    processor, size = None, None
    if (folder / CONFIG).is_file():
        try:
            with _offline():
                found = transformers.AutoImageProcessor.from_pretrained(folder, **options)
            content = (folder / CONFIG).read_bytes()
            processor, channels = _measure(found, sha256([content]))
            size = None if processor.size is None else (channels, *processor.size)
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
        mean=None if processor is None else processor.mean,
        std=None if processor is None else processor.std,
        labels=[str(labels[index]) for index in sorted(labels)],
        remarks=() if processor is None else (_remark(processor),),
        preprocess=processor,
    )


@dataclass(frozen=True, eq=False)
class _Undone:
    """What a processor makes of a picture, without its normalization: v of low + steps·v."""

    processor: Any
    low: npt.NDArray[np.float64]
    steps: npt.NDArray[np.float64]

    def __call__(self, picture: Image.Image) -> Tensor:
        """Pixels (C, H, W); of a picture in mode F with 8 bits, since no processor takes more."""
        if picture.mode == "F":
            picture = Image.fromarray(np.uint8(np.rint(np.asarray(picture) * 255)))
        rgb = np.array(picture.convert("RGB"))  # a copy: processors warn of read-only pixels
        made = self.processor(images=rgb, return_tensors="np", input_data_format="channels_last")
        values = np.asarray(made["pixel_values"][0], dtype=np.float64)
        return torch.from_numpy(((values - self.low) / self.steps).astype(np.float32))


def _measure(processor: Any, digest: str) -> tuple[Preprocess, int]:
    """A processor in two parts, and its number of channels, from images of one color.

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

    # Seven digits are what float32 has: they give back 0.485 as it was written.
    std = 1 / steps
    found = Preprocess(
        name=type(processor).__name__,
        sha256=digest,
        pixels=_Undone(processor, low[:, None, None], steps[:, None, None]),
        mean=_rounded(-low * std),
        std=_rounded(std),
        given=False,
    )
    return found.measured(), len(steps)


def _rounded(values: npt.NDArray[np.float64]) -> tuple[float, ...]:
    return tuple(float(f"{value:.6g}") + 0.0 for value in values)  # never −0


def _remark(processor: Preprocess) -> Check:
    size = "any" if processor.size is None else "×".join(map(str, processor.size))
    mean, std = (", ".join(f"{v:g}" for v in row or ()) for row in (processor.mean, processor.std))
    message = f"Measured on the folder's {processor.name}: size {size}, mean {mean}, std {std}."
    return Check(name="preprocessing", status="note", message=message)


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
