"""The user's model as the auditor sees it: logits from images in pixel space."""

from __future__ import annotations

import copy
import functools
import hashlib
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from auditor.errors import InputError
from auditor.results import Check, ModelIdentity
from auditor.usercode import plain_errors

Size = int | Sequence[int]
CALIBRATION_BATCH = 16


class Classifier(nn.Module):
    """Logits from images in [0, 1]; normalization and resizing happen inside, differentiably.

    Made by :func:`auditor.loading.load_model` or :func:`from_network`. It always stays in eval
    mode and its parameters have no gradient: only images do.

    Attributes
    ----------
    network
        The user's module; takes normalized images of ``input_shape``.
    mean, std
        Normalization per channel, in pixel units of [0, 1].
    input_shape
        (C, H, W) that the network takes.
    labels
        Class names in the order of the logits, if known.
    name, format
        For people; ``format`` is ``factory``, ``torchvision`` or ``python``.
    factory
        Makes the same architecture anew, with weights of its own; ``None`` if unknown.
    remarks
        What the loader assumed, for the preflight to report.
    """

    _mean: Tensor
    _std: Tensor

    def __init__(
        self,
        network: nn.Module,
        *,
        mean: tuple[float, ...],
        std: tuple[float, ...],
        input_shape: tuple[int, int, int],
        labels: tuple[str, ...] | None = None,
        name: str = "model",
        format: str = "python",  # noqa: A002  # the name of the field in ModelIdentity
        factory: Callable[[], nn.Module] | None = None,
        remarks: tuple[Check, ...] = (),
    ) -> None:
        super().__init__()
        # Channels-last convolutions are never slower here: gradients take 0.7 to 0.8 of the time on
        # EfficientNet-Lite0 and on a small CNN, 0.9 on ResNet-18 (two CPU cores).
        self.network = network.requires_grad_(False).to(memory_format=torch.channels_last)
        self.mean, self.std, self.input_shape = mean, std, input_shape
        self.labels, self.name, self.format = labels, name, format
        self.factory, self.remarks = factory, remarks
        first = next((p for p in network.parameters() if p.is_floating_point()), torch.zeros(()))
        for key, values in (("_mean", mean), ("_std", std)):
            constant = torch.tensor(values, dtype=first.dtype, device=first.device)
            self.register_buffer(key, constant[:, None, None], persistent=False)
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, classes) of pixel-space images (B, C, H, W) in [0, 1].

        Images of another height or width than ``input_shape`` are resized here (bilinear with
        antialiasing), so that a twin is explained in the audited model's pixel space.
        """
        size = self.input_shape[1:]
        if x.shape[-2:] != size:
            x = F.interpolate(x, size=size, mode="bilinear", antialias=True, align_corners=False)
        logits: Tensor = self.network((x - self._mean) / self._std)
        return logits

    def train(self, mode: bool = True) -> Self:
        """Stay in eval mode: an audited model never drops units or updates statistics."""
        return super().train(False)

    @property
    def device(self) -> torch.device:
        """Where images must be."""
        return self._mean.device

    @functools.cached_property
    def classes(self) -> int:
        """Number of logits, found by one evaluation of a black image."""
        black = self._mean.new_zeros((1, *self.input_shape))
        with torch.no_grad():
            return int(self(black).shape[-1])

    def sha256(self) -> str:
        """Hash of the network's state dict: sorted names, dtypes, shapes and bytes."""
        digest = hashlib.sha256()
        for name, value in sorted(self.network.state_dict().items()):
            if isinstance(value, Tensor):
                digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
                flat = value.detach().cpu().contiguous().reshape(-1)
                digest.update(flat.view(torch.uint8).numpy().data)
            else:  # a module's own extra state
                digest.update(f"{name} {value!r}\n".encode())
        return digest.hexdigest()

    def identity(self, preflight: Sequence[Check] = ()) -> ModelIdentity:
        """Record that recognizes this model, with the outcome of its preflight."""
        return ModelIdentity(
            name=self.name,
            format=self.format,
            architecture=type(self.network).__name__,
            sha256=self.sha256(),
            parameters=sum(p.numel() for p in self.network.parameters()),
            classes=self.classes,
            input_shape=self.input_shape,
            mean=self.mean,
            std=self.std,
            preflight=tuple(preflight),
        )

    def reinitialized(self, *, seed: int, calibration: Tensor) -> Classifier:
        """Copy with random weights: the control that no explanation may resemble.

        Modules reset themselves. Parameters that no module resets are drawn from a normal
        distribution around zero with the parameter's own root mean square, and counted in the
        copy's ``remarks``. Batch normalization then takes its statistics from ``calibration``,
        since with reset statistics the maps of a deep network vanish. The global random state is
        left as it was.

        Parameters
        ----------
        seed
            Same seed, same weights.
        calibration
            Images (n, C, H, W) in [0, 1]; n ≥ 2 if the network has batch normalization.

        Raises
        ------
        InputError
            If the network cannot be copied, or there are too few images.

        References
        ----------
        Adebayo et al. 2018, *Sanity Checks for Saliency Maps*, section 3.1 (all layers at once).
        """
        with plain_errors(f"{self.name}: its network cannot be copied for the control"):
            control = copy.deepcopy(self)
        control.__dict__.pop("classes", None)
        control.name, control.factory = f"{self.name} (re-initialized)", None
        cuda = sorted({p.device.index or 0 for p in control.parameters() if p.is_cuda})
        with torch.random.fork_rng(devices=cuda), torch.no_grad():
            torch.manual_seed(seed)
            drawn = _reset(control.network)
        control.network.requires_grad_(False)
        total = len(list(control.network.parameters()))
        note = f"{drawn} of {total} parameter tensors have no reset of their own: drawn at random."
        remark = Check(name="re-initialization", status="note", message=note)
        control.remarks = (remark,) if drawn else ()
        _recalibrate(control, calibration)
        return control


def from_network(
    network: nn.Module,
    *,
    input_shape: Size,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    labels: Sequence[str] | None = None,
    name: str = "model",
) -> Classifier:
    """Wrap a network that is already in memory; a deep copy, so that yours stays as it is.

    Parameters are those of :func:`auditor.loading.load_model`; device and dtype are the
    network's own.

    Raises
    ------
    InputError
        If the network cannot be copied, or an argument does not fit it.
    """
    with plain_errors(f"{name}: the network cannot be copied"):
        network = copy.deepcopy(network)
    return wrap(network, input_size=input_shape, mean=mean, std=std, labels=labels, name=name)


def wrap(
    network: nn.Module,
    *,
    input_size: Size | None,
    mean: Sequence[float] | None,
    std: Sequence[float] | None,
    labels: str | Path | Sequence[str] | None,
    name: str,
    format: str = "python",  # noqa: A002  # the name of the field in ModelIdentity
    factory: Callable[[], nn.Module] | None = None,
    remarks: tuple[Check, ...] = (),
) -> Classifier:
    """Check a user's arguments against the network and build the classifier around it, in place.

    Parameters and errors are those of :func:`auditor.loading.load_model`.
    """
    if any(isinstance(p, nn.parameter.UninitializedParameter) for p in network.parameters()):
        raise InputError(f"{name}: has lazy layers without a size. Run it once in the factory.")
    shape = _input_shape(network, input_size, name)
    if mean is None or std is None:
        assumed = " and ".join(
            text for text, value in (("mean 0", mean), ("std 1", std)) if value is None
        )
        message = f"Not given, so {assumed} is assumed: pass --mean and --std as in training."
        remarks = (*remarks, Check(name="normalization", status="note", message=message))
    return Classifier(
        network,
        mean=_per_channel("mean", mean if mean is not None else (0.0,), shape[0]),
        std=_per_channel("std", std if std is not None else (1.0,), shape[0]),
        input_shape=shape,
        labels=_labels(labels),
        name=name,
        format=format,
        factory=factory,
        remarks=remarks,
    )


def _input_shape(network: nn.Module, size: Size | None, name: str) -> tuple[int, int, int]:
    numbers = tuple(size or ()) if isinstance(size, Sequence | None) else (size,)
    if not numbers:
        raise InputError(f"{name}: unknown input size. Pass --input-size, for example 224.")
    if len(numbers) > 3 or not all(isinstance(n, int) and n >= 1 for n in numbers):
        raise InputError(f"{name}: input size {size!r} is not S, (H, W) or (C, H, W) in pixels.")
    if len(numbers) == 3:
        return numbers[0], numbers[1], numbers[2]
    height, width = numbers[0], numbers[-1]
    layers = (nn.Conv2d, nn.Linear)
    first = next((module for module in network.modules() if isinstance(module, layers)), None)
    if isinstance(first, nn.Conv2d):
        return first.in_channels, height, width
    if isinstance(first, nn.Linear) and first.in_features in (height * width, 3 * height * width):
        return first.in_features // (height * width), height, width
    raise InputError(
        f"{name}: the first layer does not tell the channels. Pass --input-size "
        f"3x{height}x{width} (or 1x{height}x{width})."
    )


def _per_channel(what: str, values: Sequence[float], channels: int) -> tuple[float, ...]:
    numbers = tuple(float(v) for v in values)
    if len(numbers) == 1:
        numbers *= channels
    if len(numbers) != channels:
        raise InputError(f"--{what} has {len(numbers)} numbers. Give 1 or {channels} (channels).")
    if not all(map(math.isfinite, numbers)) or (what == "std" and min(numbers) <= 0):
        rule = "positive" if what == "std" else "finite"
        raise InputError(f"--{what} {numbers} must be {rule}, in units of pixels in [0, 1].")
    return numbers


def _labels(labels: str | Path | Sequence[str] | None) -> tuple[str, ...] | None:
    if labels is None:
        return None
    if isinstance(labels, str | Path):
        with plain_errors(f"--labels {labels}: cannot be read as UTF-8 text"):
            labels = Path(labels).read_text(encoding="utf-8-sig").splitlines()
    names = tuple(str(label).strip() for label in labels)
    if not names or not all(names):
        raise InputError("--labels: empty, or has an empty line. Give one class name on each line.")
    return names


def _reset(network: nn.Module) -> int:
    """Re-initialize in place; returns how many parameter tensors had to be drawn."""
    done: set[int] = set()
    for module in network.modules():
        reset = getattr(module, "reset_parameters", None)
        if callable(reset):
            reset()
            done |= {id(p) for p in module.parameters(recurse=False)}
    left = [p for p in network.parameters() if id(p) not in done]
    for parameter in left:
        size = parameter.square().mean().sqrt()
        parameter.normal_().mul_(size)
    return len(left)


def _recalibrate(classifier: Classifier, images: Tensor) -> None:
    """Take batch normalization's running statistics from ``images``, in place."""
    kind = nn.modules.batchnorm._BatchNorm
    norms = [m for m in classifier.modules() if isinstance(m, kind) and m.track_running_stats]
    if not norms:
        return
    if len(images) < 2:
        raise InputError(f"{classifier.name}: batch normalization needs at least 2 images.")
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the mean over all batches, not a moving average
        norm.train()
    with torch.no_grad():
        for batch in images.tensor_split(math.ceil(len(images) / CALIBRATION_BATCH)):
            classifier(batch)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
        norm.eval()
