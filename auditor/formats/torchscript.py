"""Networks saved by ``torch.jit.save``, scripted or traced."""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

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
from auditor.formats.vetting import vet_torchscript
from auditor.usercode import describe

FORMAT = "TorchScript"
_NO_LAYERS = Ability(False, f"Hooks do not run inside TorchScript. {FROM_CODE}")
_NO_TRAINING = Ability(False, f"A traced or frozen network has no train mode. {FROM_CODE}")


def load_torchscript(path: Path, *, trust_pickle: bool = False) -> Loaded:
    """Read a TorchScript file, in eval mode.

    Parameters
    ----------
    trust_pickle
        Load it even if its code could write files or use operators that are not torch's own.

    Raises
    ------
    InputError
        If the file is none, or its code could do more than compute.
    """
    content = read_bytes(path)
    if not trust_pickle:
        vet_torchscript(content, path)
    try:
        with warnings.catch_warnings():
            deprecated = r"`torch\.jit\.load` is deprecated"
            warnings.filterwarnings("ignore", message=deprecated, category=FutureWarning)
            network = torch.jit.load(  # type: ignore[no-untyped-call]
                io.BytesIO(content), map_location="cpu"
            )
    except (Exception, SystemExit) as error:  # damaged files raise many things
        raise InputError(
            f"{path}: cannot be loaded by torch {torch.__version__} ({describe(error)})."
        ) from error
    return Loaded(
        network=Graph(network.eval(), architecture=str(network.original_name)),
        format=FORMAT,
        name=path.name,
        digest=sha256([content]),
        capabilities=Capabilities(
            layers=_NO_LAYERS,
            training=_NO_TRAINING,
            reinitialization=random_weights(network, _constants(network)),
            surrogate="none",
            surrogate_reason="Function modes do not reach inside TorchScript.",
        ),
    )


def _constants(network: Any) -> list[Tensor]:
    """Tensors that are written into the graph, as freezing does with weights."""
    graph = network.inlined_graph  # its nodes live only as long as it does
    nodes = graph.findAllNodes("prim::Constant")
    tensors = (n for n in nodes if n.hasAttribute("value") and n.kindOf("value") == "t")
    return [node.t("value") for node in tensors]
