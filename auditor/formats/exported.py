"""Networks saved by :func:`torch.export.save` as ``.pt2``, of a fixed or a free batch size."""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram

from auditor.capabilities import Ability, Capabilities
from auditor.errors import InputError
from auditor.formats.loaded import (
    FROM_CODE,
    Graph,
    Loaded,
    random_weights,
    read_bytes,
    sha256,
)
from auditor.formats.vetting import vet_exported
from auditor.usercode import describe

FORMAT = "torch.export"
_NO_LAYERS = Ability(False, f"An exported graph has no layers to hook. {FROM_CODE}")
_NO_TRAINING = Ability(False, f"An exported graph has no train mode. {FROM_CODE}")
# The second one's message for damaged weights is malformed, and would raise on its own account.
_LOADERS = ("torch.export", "torch._export.serde.serialize")


def load_exported(path: Path, *, trust_pickle: bool = False) -> Loaded:
    """Read a ``.pt2`` file; its graph tells the input size and the batch sizes.

    Parameters
    ----------
    trust_pickle
        Load it even if that could run code.

    Raises
    ------
    InputError
        If the file is none, could run code, or is not a classifier of one image tensor.
    """
    content = read_bytes(path)
    if not trust_pickle:
        vet_exported(content, path)
    try:
        with _quiet():
            program = torch.export.load(io.BytesIO(content))
            network = program.module()
    except (Exception, SystemExit) as error:  # damaged files raise many things
        raise InputError(
            f"{path}: cannot be loaded by torch {torch.__version__} ({describe(error)}). Export it "
            "again with this version."
        ) from error
    shape, batches = _input(program, path)
    return Loaded(
        network=Graph(network, architecture="ExportedProgram"),
        format=FORMAT,
        name=path.name,
        input_size=shape,
        digest=sha256([content]),
        capabilities=Capabilities(
            layers=_NO_LAYERS,
            training=_NO_TRAINING,
            reinitialization=random_weights(network, _constants(program, network)),
            surrogate="graph",
            batches=batches,
        ),
    )


def _constants(program: ExportedProgram, network: nn.Module) -> list[Tensor]:
    """Tensors that are written into the graph; buffers outside of the state dict are no such."""
    named = {name for name, _ in network.named_buffers()}
    found = (value for name, value in program.constants.items() if name not in named)
    return [value for value in found if isinstance(value, Tensor)]


def _input(
    program: ExportedProgram, path: Path
) -> tuple[tuple[int, int, int] | None, tuple[int, int | None]]:
    """(C, H, W), ``None`` where one of them is free, and the range of batch sizes."""
    names = set(program.graph_signature.user_inputs)
    values = [n.meta.get("val") for n in program.graph.nodes if n.name in names]
    if len(values) != 1 or not isinstance(values[0], Tensor) or values[0].ndim != 4:
        found = ", ".join(_shape(value) for value in values) or "nothing"
        raise InputError(f"{path}: takes {found}. Export a network of one tensor (B, C, H, W).")
    sizes: tuple[Any, ...] = tuple(values[0].shape)  # a free size is a torch.SymInt, no int
    batch, *rest = sizes
    shape = (rest[0], rest[1], rest[2]) if all(isinstance(n, int) for n in rest) else None
    if isinstance(batch, int):
        return shape, (batch, batch)
    limits = program.range_constraints[batch.node.expr]
    high = str(limits.upper)  # "int_oo" where there is no limit
    return shape, (max(1, int(limits.lower)), int(high) if high.isdigit() else None)


def _shape(value: object) -> str:
    return "×".join(map(str, value.shape)) if isinstance(value, Tensor) else type(value).__name__


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Leave the loader's own report of what it could not read out: ours follows."""
    loggers = [logging.getLogger(name) for name in _LOADERS]
    before = [logger.disabled for logger in loggers]
    for logger in loggers:
        logger.disabled = True
    try:
        yield
    finally:
        for logger, disabled in zip(loggers, before, strict=True):
            logger.disabled = disabled
