"""The user's model as the auditor sees it: logits from images in pixel space."""

from __future__ import annotations

import copy
import dataclasses
import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from auditor.arguments import Size, class_names, input_shape_of, normalization
from auditor.capabilities import EAGER, Capabilities
from auditor.control import randomize
from auditor.errors import InputError
from auditor.hashing import state_sha256
from auditor.outputs import PLAIN, Output, find_scale, pick, remark
from auditor.preprocess import Preprocess, load_preprocess
from auditor.recalibration import recalibrate
from auditor.results import Check, ModelIdentity
from auditor.usercode import plain_errors

__all__ = ["Classifier", "Loading", "Size", "from_network", "wrap"]


@dataclasses.dataclass(frozen=True)
class Loading:
    """How another process can have the same model.

    It loads it, and if that is only what was ``copied``, gives the copy the weights of this one.
    """

    load: Callable[[], Classifier]
    copied: bool = False

    def __deepcopy__(self, memo: object) -> Self:
        """Shared by copies of a model: it has nothing that changes."""
        return self


class Classifier(nn.Module):
    """Logits from images in [0, 1]; normalization and resizing happen inside, differentiably.

    Made by :func:`auditor.loading.load_model` or :func:`from_network`. It always stays in eval
    mode and its parameters have no gradient: only images do.

    Attributes
    ----------
    network
        The user's module; takes normalized images of ``input_shape``.
    mean, std
        Normalization per channel, in pixel units; empty if ``preprocess`` takes its place.
    input_shape
        (C, H, W) that the network takes.
    labels
        Class names in the order of the logits, if known.
    name, format
        For people; ``format`` is ``python`` or that of the file, as in docs/formats.md.
    factory
        Makes the same architecture anew, with weights of its own; ``None`` if unknown.
    capabilities
        What the format can do beyond logits.
    output
        How logits are found in what the network returns.
    digest
        SHA-256 of the file, where that is the model; else ``None``, and the weights are hashed.
    remarks
        What the loader assumed, for the preflight to report.
    preprocess
        The user's own: its differentiable part runs here, the other one in ``load_images``.
    loading
        How it was loaded; ``None`` if it was made from a network in memory.
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
        capabilities: Capabilities = EAGER,
        output: Output = PLAIN,
        digest: str | None = None,
        preprocess: Preprocess | None = None,
    ) -> None:
        super().__init__()
        self.loading: Loading | None = None
        self.preprocess = preprocess
        self.network = network.requires_grad_(False)
        self.capabilities, self.output, self.digest = capabilities, output, digest
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
        return self.output.logits(self.scores(x))

    def scores(self, x: Tensor) -> Tensor:
        """What the network says of images, before :class:`auditor.outputs.Output` reads it.

        Raises
        ------
        InputError
            If the network returns several tensors and none was chosen.
        """
        return self.of_network(self.prepared(x))

    def prepared(self, x: Tensor) -> Tensor:
        """What the network takes: images of its size, normalized or made by ``preprocess``."""
        x = x.to(self._mean.dtype)
        size = self.input_shape[1:]
        if x.shape[-2:] != size:
            x = F.interpolate(x, size=size, mode="bilinear", antialias=True, align_corners=False)
        if self.preprocess is not None and self.preprocess.inside is not None:
            return self.preprocess.inside(x)
        return (x - self._mean) / self._std

    def of_network(self, x: Tensor) -> Tensor:
        """The scores of what :meth:`prepared` gives, in batches that the network takes."""
        fewest, most = self.capabilities.batches
        if fewest == 1 and (most is None or len(x) <= most):
            return pick(self.network(x), self.output.key, name=self.name)
        parts = []
        for part in torch.split(x, most or len(x)):
            padding = part[-1:].expand(max(0, fewest - len(part)), -1, -1, -1)
            returned = self.network(torch.cat([part, padding]))
            scores = pick(returned, self.output.key, name=self.name)
            parts.append(scores[: len(part)])
        return torch.cat(parts)

    def train(self, mode: bool = True) -> Self:
        """Stay in eval mode: an audited model never drops units or updates statistics."""
        return super().train(False)

    @property
    def dtype(self) -> torch.dtype:
        """Precision that the network computes in."""
        return self._mean.dtype

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
        """Hash of the model's file, else of the state dict: names, dtypes, shapes and bytes."""
        if self.digest is not None:
            return self.digest
        return state_sha256(self.network.state_dict())

    def identity(self, preflight: Sequence[Check] = ()) -> ModelIdentity:
        """Record that recognizes this model, with the outcome of its preflight."""
        return ModelIdentity(
            name=self.name,
            format=self.format,
            architecture=getattr(self.network, "architecture", type(self.network).__name__),
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

        Modules reset themselves. Parameters that no module resets, and all of a file from which no
        training can start, are drawn from a normal distribution around zero with the parameter's
        own root mean square, and counted in the copy's ``remarks``. Batch normalization then takes
        its statistics from ``calibration``, since with others the maps of a deep network vanish.

        Parameters
        ----------
        seed
            Same seed, same weights.
        calibration
            Images (n, C, H, W) in [0, 1]; n ≥ 2 if the network has batch normalization.

        Raises
        ------
        InputError
            If the format or the network cannot, or there are too few images.

        References
        ----------
        Adebayo et al. 2018, *Sanity Checks for Saliency Maps*, section 3.1 (all layers at once).
        """
        if not self.capabilities.reinitialization.able:
            raise InputError(f"{self.name}: {self.capabilities.reinitialization.reason}")
        with plain_errors(f"{self.name}: its network cannot be copied for the control"):
            control = self.copied()
        control.name, control.factory = f"{self.name} (re-initialized)", None
        can = self.capabilities
        drawn = randomize(control.network, seed=seed, layers=can.training.able)
        control.network.requires_grad_(False)
        total = len(list(control.network.parameters()))
        note = f"{drawn} of {total} parameter tensors have no reset of their own: drawn at random."
        remark = Check(name="re-initialization", status="note", message=note)
        control.remarks = (remark,) if drawn else ()
        recalibrate(control, control.network, calibration, fewest=can.batches[0], name=self.name)
        return control

    def copied(self) -> Classifier:
        """Copy whose weights are about to be replaced."""
        twin = copy.deepcopy(self)
        twin.__dict__.pop("classes", None)
        twin.digest = None
        if self.loading is not None:
            twin.loading = dataclasses.replace(self.loading, copied=True)
        return twin

    def with_label(self, label: int) -> Classifier:
        """The same model, asked of one of its independent labels only: no (0) or yes (1).

        Raises
        ------
        InputError
            If there is no such label, or the labels are not independent.
        """
        if self.output.scale != "sigmoid" or self.classes == 2:
            raise InputError(f"{self.name}: its labels are not independent of each other.")
        if not 0 <= label < self.classes:
            raise InputError(f"{self.name}: no label {label}. It has 0 to {self.classes - 1}.")
        asked = copy.copy(self)
        asked.__dict__.pop("classes", None)
        asked.output = dataclasses.replace(self.output, label=label)
        word = self.labels[label] if self.labels else f"label {label}"
        asked.labels = (f"not {word}", word)
        if self.loading is not None:
            again = functools.partial(_with_label, self.loading.load, label)
            asked.loading = dataclasses.replace(self.loading, load=again)
        return asked


def from_network(
    network: nn.Module,
    *,
    input_shape: Size | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    labels: Sequence[str] | None = None,
    name: str = "model",
    output: str | None = None,
    preprocess: object = None,
) -> Classifier:
    """Wrap a network that is already in memory; a deep copy, so that yours stays as it is.

    Parameters are those of :func:`auditor.loading.load_model`; device and dtype stay.

    Raises
    ------
    InputError
        If the network cannot be copied, or an argument does not fit it.
    """
    with plain_errors(f"{name}: the network cannot be copied"):
        network = copy.deepcopy(network)
    found = None if preprocess is None else load_preprocess(preprocess)
    if found is not None:
        input_shape, mean, std = found.merged(input_size=input_shape, mean=mean, std=std)
    return wrap(
        network,
        input_size=input_shape,
        mean=mean,
        std=std,
        labels=labels,
        name=name,
        output=output,
        preprocess=found,
    )


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
    output: str | None = None,
    capabilities: Capabilities = EAGER,
    digest: str | None = None,
    preprocess: Preprocess | None = None,
) -> Classifier:
    """Check a user's arguments against the network and build the classifier around it, in place.

    Parameters and errors are those of :func:`auditor.loading.load_model`.
    """
    if any(isinstance(p, nn.parameter.UninitializedParameter) for p in network.parameters()):
        raise InputError(f"{name}: has lazy layers without a size. Run it once in the factory.")
    shape = input_shape_of(network, input_size, name)
    row, spread, assumed = normalization(mean, std, shape[0])
    classifier = Classifier(
        network,
        mean=row,
        std=spread,
        input_shape=shape,
        labels=class_names(labels),
        name=name,
        format=format,
        factory=factory,
        remarks=(*remarks, *assumed, *(preprocess.remarks() if preprocess is not None else ())),
        capabilities=capabilities,
        output=Output(key=output),
        digest=digest,
        preprocess=preprocess,
    )
    if preprocess is not None and isinstance(preprocess.inside, nn.Module):
        preprocess.inside.to(classifier.device, classifier.dtype)
    _try_out(classifier)
    return classifier


def _with_label(load: Callable[[], Classifier], label: int) -> Classifier:
    return load().with_label(label)


def _try_out(classifier: Classifier) -> None:
    """Run the network on a black image, to find its fastest layout and what its output is.

    A network that rejects the image is left as it is: the preflight says so.
    """
    black = classifier._mean.new_zeros((1, *classifier.input_shape))
    scores = torch.no_grad()(classifier.scores)
    if classifier.capabilities.surrogate == "eager mode":
        # Channels-last convolutions are never slower here: gradients take 0.7 to 0.8 of the time on
        # EfficientNet-Lite0 and on a small CNN, 0.9 on ResNet-18 (two CPU cores). But a network
        # that calls x.view(B, -1) cannot take them.
        classifier.network.to(memory_format=torch.channels_last)
        if not _runs(scores, black):
            classifier.network.to(memory_format=torch.contiguous_format)
    if _runs(scores, black):
        if classifier.mean:
            scale = find_scale(scores, black)
        else:  # behind a user's function, since one like clamp would bound all that comes out
            scale = find_scale(torch.no_grad()(classifier.of_network), classifier.prepared(black))
        classifier.output = dataclasses.replace(classifier.output, scale=scale)
        message = remark(classifier.output, classifier.classes)
        if message:
            note = Check(name="output scale", status="note", message=message)
            classifier.remarks = (*classifier.remarks, note)


def _runs(scores: Callable[[Tensor], Tensor], x: Tensor) -> bool:
    try:
        scores(x)
    except InputError:  # ours: several outputs and none was chosen
        raise
    except Exception:  # whatever a user's forward raises
        return False
    return True
