"""A block that smooths feature maps, and its insertion into a user's own network."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import safetensors
import torch
from torch import Tensor, nn

from auditor.errors import InputError
from auditor.training.filters import FILTERS, SIZE

NAME = "smoothing"
"""Name of the block inside of the layer that it follows."""


class SmoothingBlock(nn.Module):
    """Features plus a 1×1 convolution of the filtered features (S2 3.3, Figure 13; Xie 2019).

    Parameters
    ----------
    filter_name
        One of :data:`auditor.training.filters.FILTERS`.
    channels
        Of the feature map.
    side
        Height of the images in pixels, for the Gaussian filter's standard deviation.

    Notes
    -----
    **Choice**: the convolution begins as zero, so that the block begins as the identity and a
    network keeps what it has learned, as in Xie 2019; S2 says nothing of it. In its ablation the
    convolution begins as the identity matrix (``identity``) or at random (``random``).
    """

    def __init__(self, filter_name: str, *, channels: int, side: int) -> None:
        super().__init__()
        self.filter = FILTERS[filter_name](channels, side)
        self.mix = nn.Conv2d(channels, channels, 1)
        if filter_name == "identity":
            nn.init.dirac_(self.mix.weight)
        elif filter_name != "random":
            nn.init.zeros_(self.mix.weight)
        if filter_name != "random":
            assert self.mix.bias is not None
            nn.init.zeros_(self.mix.bias)

    def forward(self, features: Tensor) -> Tensor:
        """Smooth features (B, C, H, W)."""
        mixed: Tensor = self.mix(self.filter(features))
        return features + mixed


@dataclass(frozen=True, kw_only=True)
class Insertion:
    """Which block goes where: enough to build the network again, and kept with its weights.

    Attributes
    ----------
    filter
        One of :data:`auditor.training.filters.FILTERS`.
    after
        Dotted name of the layer that the block follows.
    channels, side
        As :class:`SmoothingBlock` takes them.
    """

    filter: str
    after: str
    channels: int
    side: int

    def apply(self, network: nn.Module) -> None:
        """Put the block into a network, in place; all other names of its state dict stay.

        Raises
        ------
        InputError
            If the network has no such layer, or has a block there already.
        """
        try:
            layer = network.get_submodule(self.after)
        except AttributeError as error:
            raise InputError(f"no layer {self.after!r} for the smoothing block.") from error
        if hasattr(layer, NAME):
            raise InputError(f"layer {self.after!r} has a smoothing block already.")
        block = SmoothingBlock(self.filter, channels=self.channels, side=self.side)
        like = next((p for p in network.parameters() if p.is_floating_point()), torch.zeros(()))
        layer.add_module(NAME, block.to(device=like.device, dtype=like.dtype))
        if not isinstance(layer, nn.Sequential):  # which runs what is added to it by itself
            layer.register_forward_hook(_smooth)

    def after_making(self, factory: Callable[[], nn.Module]) -> Callable[[], nn.Module]:
        """A factory whose networks have the block."""

        def make() -> nn.Module:
            network = factory()
            self.apply(network)
            return network

        return make

    def metadata(self) -> dict[str, str]:
        """Strings for the header of a file of weights."""
        return {NAME: json.dumps(asdict(self))}

    @classmethod
    def read(cls, metadata: dict[str, str] | None) -> Self | None:
        """What :meth:`metadata` wrote, from a file that anybody may have made; None if nothing.

        Raises
        ------
        InputError
            If it is not understood.
        """
        if not metadata or NAME not in metadata:
            return None
        try:
            values = json.loads(metadata[NAME])
            found = cls(**values)
            right = (
                found.filter in FILTERS
                and isinstance(found.after, str)
                and bool(found.after)
                and all(type(n) is int and 0 < n < 1 << 16 for n in (found.channels, found.side))
            )
        except (TypeError, ValueError, RecursionError):
            right = False
        if not right:
            raise InputError("its header describes a smoothing block that is not understood.")
        return found


def read_insertion(path: Path) -> Insertion | None:
    """The block that a file of weights describes; None if it is none of safetensors, or plain.

    Raises
    ------
    InputError
        If the description is not understood.
    """
    if path.suffix != ".safetensors" or not os.path.isfile(path):
        return None
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            found = Insertion.read(file.metadata())
            if found is None:
                return None
            weight = f"{found.after}.{NAME}.mix.weight"
            shape = file.get_slice(weight).get_shape() if weight in file.keys() else []  # noqa: SIM118
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    except (OSError, safetensors.SafetensorError):
        return None  # whoever reads the weights says what is wrong
    # Before a block of a size that only the header claims is made.
    if list(shape) != [found.channels, found.channels, 1, 1]:
        raise InputError(f"{path}: its header describes a smoothing block that it does not hold.")
    return found


def plan_insertion(
    network: nn.Module,
    x: Tensor,
    *,
    filter: str,  # noqa: A002
    after: str | int,
) -> Insertion:
    """Where a block would go, found by running the network on images.

    Parameters
    ----------
    network
        Takes ``x``; not changed.
    x
        What the network takes, shape (B, C, H, W).
    filter
        One of :data:`auditor.training.filters.FILTERS`.
    after
        Dotted name of a layer, or the number of a block as :func:`blocks_of` counts, from 1.

    Raises
    ------
    InputError
        If there is no such layer or block, or it gives no spatial feature map.
    """
    if isinstance(after, int):
        blocks = blocks_of(network, x)
        if not 1 <= after <= len(blocks):
            found = ", ".join(f"{i} ({name})" for i, name in enumerate(blocks, 1)) or "none"
            raise InputError(
                f"smoothing block after block {after}: the network has no such block. "
                f"Found: {found}. Choose one, or name a layer."
            )
        after = blocks[after - 1]
    elif after not in dict(network.named_modules()) or not after:
        known = [name for name, shape in _outputs(network, x).items() if _spatial(shape)]
        raise InputError(
            f"smoothing block after {after!r}: the network has no such layer. Layers with a "
            f"feature map: {', '.join(known[:8])}{' …' if len(known) > 8 else ''}."
        )
    shape = _outputs(network, x).get(after)
    if not _spatial(shape):
        raise InputError(
            f"smoothing block after {after!r}: it gives no spatial feature map of at least "
            f"{SIZE - 1}×{SIZE - 1}. Name a convolution or a block of them."
        )
    assert shape is not None
    return Insertion(filter=filter, after=after, channels=shape[1], side=x.shape[2])


def blocks_of(network: nn.Module, x: Tensor) -> list[str]:
    """Names of the blocks of a network in the order in which they run on images (B, C, H, W).

    Blocks are the parts that hold convolutions and have parts of their own (the stages of a
    residual network); where there are none, each pooling layer ends a block. Only what gives a
    spatial feature map counts.

    >>> flat = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten())
    >>> blocks_of(flat, torch.zeros(1, 1, 8, 8))
    ['2']
    """
    outputs = {name: shape for name, shape in _outputs(network, x).items() if _spatial(shape)}
    stages = [name for name in _stages(network) if name in outputs]
    if stages:
        return sorted(stages, key=list(outputs).index)
    return [n for n in outputs if isinstance(network.get_submodule(n), _POOLING)]


_POOLING = (nn.MaxPool2d, nn.AvgPool2d)


def _stages(network: nn.Module) -> list[str]:
    """The outermost parts, beside each other, that have parts and hold convolutions."""
    prefix = ""
    while True:
        found = [
            f"{prefix}{name}"
            for name, child in network.named_children()
            if list(child.children()) and any(isinstance(m, nn.Conv2d) for m in child.modules())
        ]
        if len(found) != 1:
            return found
        network = network.get_submodule(found[0].removeprefix(prefix))
        prefix = f"{found[0]}."


def _outputs(network: nn.Module, x: Tensor) -> dict[str, tuple[int, ...] | None]:
    """Shape of what each layer gave last, in the order in which they ended; None: no tensor."""
    found: dict[str, tuple[int, ...] | None] = {}
    handles = [
        module.register_forward_hook(_note(name, found))
        for name, module in network.named_modules()
        if name
    ]
    training = network.training
    try:
        with torch.no_grad():
            network.eval()(x)
    finally:
        network.train(training)
        for handle in handles:
            handle.remove()
    return found


def _note(name: str, found: dict[str, tuple[int, ...] | None]) -> Any:
    def note(layer: nn.Module, args: Any, output: Any) -> None:
        found[name] = tuple(output.shape) if isinstance(output, Tensor) else None

    return note


def _spatial(shape: tuple[int, ...] | None) -> bool:
    return shape is not None and len(shape) == 4 and min(shape[2:]) >= SIZE - 1


def _smooth(layer: nn.Module, args: Any, output: Tensor) -> Tensor:
    """Forward hook of a layer that holds a block."""
    smoothed: Tensor = layer.get_submodule(NAME)(output)
    return smoothed
