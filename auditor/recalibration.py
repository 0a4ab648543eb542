"""Statistics of batch normalization that fit new weights, in code and in saved graphs.

Where they do not fit, the maps of a deep network vanish or overflow.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn

from auditor.errors import InputError
from auditor.formats.loaded import Graph

CALIBRATION_BATCH = 16

Layer = nn.modules.batchnorm._BatchNorm
_OPERATORS = (
    *("batch_norm", "native_batch_norm", "_native_batch_norm_legit", "cudnn_batch_norm"),
    *("_native_batch_norm_legit_no_training", "miopen_batch_norm"),
)
# Places among the arguments: the first five are the same for all operators above.
_INPUT, _MEAN, _VAR, _TRAINING, _MOMENTUM = 0, 3, 4, 5, 6


def recalibrate(
    model: Callable[[Tensor], Tensor],
    network: nn.Module,
    images: Tensor,
    *,
    fewest: int,
    name: str,
) -> None:
    """Take batch normalization's running statistics from images, in place.

    Parameters
    ----------
    model
        Calls the network with what it takes.
    network
        Whose layers, or nodes if it is a saved graph, are to fit.
    images
        What ``model`` takes, (n, C, H, W). A saved graph sees 16 of them.
    fewest
        Images that a saved graph takes in one call.

    Raises
    ------
    InputError
        If there is batch normalization and fewer than two images.
    """
    saved: Any = network.graph if isinstance(network, Graph) else None
    if not _normalizes(network, saved):
        return
    if len(images) < 2:
        raise InputError(f"{name}: batch normalization needs at least 2 images.")
    with torch.no_grad():
        if saved is None:
            recalibrate_layers(model, list(network.modules()), images)
            return
        count = math.ceil(CALIBRATION_BATCH / fewest) * fewest
        pieces = _calls(model, network, images[torch.arange(count) % len(images)])
        if isinstance(saved, fx.GraphModule):
            _nodes(saved, pieces)
        else:
            _script(saved, torch.cat(pieces))


def _normalizes(network: nn.Module, saved: Any) -> bool:
    if isinstance(saved, fx.GraphModule):
        return any(_statistics(saved, node) for node in saved.graph.nodes)
    if saved is not None:
        return bool(saved.inlined_graph.findAllNodes("aten::batch_norm"))
    return any(isinstance(m, Layer) and m.track_running_stats for m in network.modules())


def _calls(model: Callable[[Tensor], Tensor], network: nn.Module, images: Tensor) -> list[Tensor]:
    """What the model calls its network with: normalized, and cut into the batches it takes."""
    seen: list[Tensor] = []
    handle = network.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    try:
        model(images)
    finally:
        handle.remove()
    return seen


def recalibrate_layers(
    model: Callable[[Tensor], Tensor], modules: Sequence[nn.Module], images: Tensor
) -> int:
    """The same for those of some layers in code that normalize by batches.

    They take the mean over batches in train mode. Returns how many images were passed forward.
    """
    norms = [m for m in modules if isinstance(m, Layer) and m.track_running_stats]
    if not norms:
        return 0
    if len(images) < 2:
        raise InputError("Batch normalization needs at least 2 images.")
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the mean over all batches, not a moving average
        norm.train()
    with torch.no_grad():
        for batch in images.tensor_split(math.ceil(len(images) / CALIBRATION_BATCH)):
            model(batch)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
        norm.eval()
    return len(images)


def _statistics(module: fx.GraphModule, node: fx.Node) -> tuple[str, str] | None:
    """Names of the running mean and variance of a node that normalizes by them."""
    if node.op == "call_module" and isinstance(node.target, str):
        layer = module.get_submodule(node.target)
        if isinstance(layer, Layer) and layer.track_running_stats:
            return f"{node.target}.running_mean", f"{node.target}.running_var"
    overloads = getattr(node.target, "overloadpacket", None)
    if getattr(overloads, "__name__", None) in _OPERATORS:
        held = [getattr(node.args[place], "target", None) for place in (_MEAN, _VAR)]
        known = {name for name, _ in module.named_buffers()}
        if known.issuperset(held):
            return str(held[0]), str(held[1])
    return None


def _nodes(module: fx.GraphModule, pieces: list[Tensor]) -> None:
    """Of an exported or converted graph, which knows no train mode.

    All pieces pass a node before any goes on, so that each normalization sees what comes out of
    those before it with their new statistics, even where the graph takes one image at a time.
    """
    runs = [fx.Interpreter(module) for _ in pieces]
    for node in module.graph.nodes:
        if node.op == "output":
            return
        names = _statistics(module, node)
        if names is not None:
            found = torch.cat([run.env[node.args[_INPUT]] for run in runs])
            dims = [0, *range(2, found.ndim)]
            for name, value in zip(names, (found.mean(dims), found.var(dims)), strict=True):
                module.get_buffer(name).copy_(value)
        for run, piece in zip(runs, pieces, strict=True):
            run.env[node] = piece if node.op == "placeholder" else run.run_node(node)
            for finished in run.user_to_last_uses.get(node, []):
                del run.env[finished]


def _script(module: Any, x: Tensor) -> None:
    """Of TorchScript: run a copy of its graph that normalizes by the batch and keeps what it saw.

    The module's own graph, in which a traced network has eval mode written, stays as it is.
    """
    graph = module.inlined_graph.copy()
    for node in graph.findAllNodes("aten::batch_norm"):
        graph.setInsertPoint(node)
        for place, value in ((_TRAINING, True), (_MOMENTUM, 1.0)):
            node.replaceInput(place, graph.insertConstant(value))
    torch._C._create_function_from_graph("calibrate", graph)(module, x)
