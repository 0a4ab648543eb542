"""What a format's reader hands over: a network, and all that its file tells of it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from auditor.arguments import Size
from auditor.capabilities import EAGER, Ability, Capabilities
from auditor.errors import InputError
from auditor.preprocess import Preprocess
from auditor.results import Check

FROM_CODE = "Audit the network from its code (--model package.module:factory)."


@dataclass(frozen=True, kw_only=True, eq=False)
class Loaded:
    """A network with what its file or library knows, which the user may override.

    Attributes
    ----------
    input_size, mean, std, labels
        As in :func:`auditor.loading.load_model`; ``None`` if the format does not tell.
    usual_size
        A size that the network was made for, although it takes others.
    factory
        Makes the architecture anew.
    digest
        SHA-256 of the files, where they are the model.
    preprocess
        What the files say is done to a picture.
    """

    network: nn.Module
    format: str
    name: str
    capabilities: Capabilities = EAGER
    input_size: Size | None = None
    usual_size: Size | None = None
    mean: Sequence[float] | None = None
    std: Sequence[float] | None = None
    labels: Sequence[str] | None = None
    factory: Callable[[], nn.Module] | None = None
    digest: str | None = None
    remarks: tuple[Check, ...] = ()
    preprocess: Preprocess | None = None


class Graph(nn.Module):
    """A network that cannot be switched between train and eval mode."""

    def __init__(self, graph: nn.Module, *, architecture: str) -> None:
        super().__init__()
        self.graph, self.architecture = graph, architecture

    def forward(self, x: object) -> object:
        """Whatever the graph returns."""
        return self.graph(x)

    def train(self, mode: bool = True) -> Graph:
        """Do nothing: the graph keeps the mode that it was saved in."""
        return self


def random_weights(network: nn.Module, constants: Iterable[Tensor] = ()) -> Ability:
    """Able if the greater part of a file's numbers are parameters, which can be drawn again.

    Parameters
    ----------
    constants
        Tensors of the graph that are neither parameters nor buffers of the network.
    """
    drawn = sum(p.numel() for p in network.parameters() if p.is_floating_point())
    kept = sum(tensor.numel() for tensor in (*network.buffers(), *constants))
    if drawn > kept:
        return Ability()
    return Ability(
        False,
        f"{kept:,} of {drawn + kept:,} numbers in this file are constants, not parameters, and "
        f"would stay learned. {FROM_CODE}",
    )


def read_bytes(path: Path) -> bytes:
    """The file's content, read once, so that what was checked is what is loaded.

    Raises
    ------
    InputError
        If there is no such file or it cannot be read.
    """
    if not os.path.isfile(path):
        raise InputError(f"{path}: no such file. Give the path of the saved model.")
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}).") from error


def sha256(contents: Iterable[bytes]) -> str:
    """One hash over all contents and their lengths, in their order."""
    digest = hashlib.sha256()
    for content in contents:
        digest.update(len(content).to_bytes(8, "big"))
        digest.update(content)
    return digest.hexdigest()
