"""ONNX files, converted to a PyTorch network by onnx2torch (extra ``onnx``)."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, fx, nn

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
from auditor.formats.needed import needed
from auditor.usercode import describe

FORMAT = "ONNX"
OPSETS = (17, 16, 15)
_SETTINGS = ("OnnxResize", "OnnxPad", "OnnxClip", "OnnxPow", "OnnxRange", "OnnxBatchNorm")
_NO_TRAINING = Ability(False, f"An ONNX file holds the network in eval mode only. {FROM_CODE}")

# Images in a batch are summed in another order: 1e-6 of the largest score. Mixed up they differ
# by as much as images do.
_BATCH_TOLERANCE = 1e-4


def load_onnx(path: Path) -> Loaded:
    """Read an ONNX file; its graph tells the input size, and whether the batch size is free.

    Nothing in the file is code: nodes are looked up among the operators that onnx2torch knows, and
    get names of our own, because node names become Python code there.

    Raises
    ------
    InputError
        If the extra is missing, the file is none or cannot be converted, or it is not a classifier
        of one image tensor (B, C, H, W).
    """
    onnx = needed("onnx", extra="onnx")
    digest = sha256([read_bytes(path)])
    try:
        proto = onnx.load(path)  # weights in files of their own must lie beside it
        for index, node in enumerate(proto.graph.node):
            node.name = f"{node.op_type}_{index}" if node.op_type.isidentifier() else str(index)
        network = _convert(proto).eval()  # it comes in train mode
        _restore_parameters(network)
    except (Exception, SystemExit) as error:  # damaged files and unknown operators raise anything
        raise InputError(f"{path}: cannot be converted from ONNX ({describe(error)}).") from error
    batch, shape = _input(proto, path)
    names = [value.name for value in proto.graph.output]
    network = _Named(network, names) if len(names) > 1 else Graph(network, architecture=FORMAT)
    fixed = batch is not None and not _takes_other_batches(network, batch, shape)
    return Loaded(
        network=network,
        format=FORMAT,
        name=path.name,
        input_size=shape,
        digest=digest,
        capabilities=Capabilities(
            training=_NO_TRAINING,
            reinitialization=_reinitialization(network),
            batches=(batch, batch) if fixed and batch is not None else (1, None),
        ),
    )


def _convert(proto: Any) -> nn.Module:
    """Convert the file as it is, or rewritten for an older opset that onnx2torch knows in full."""
    onnx2torch = needed("onnx2torch", extra="onnx")
    versions = needed("onnx.version_converter", extra="onnx")
    convert: Callable[[Any], nn.Module] = onnx2torch.convert
    try:
        return convert(proto)
    except NotImplementedError:
        for opset in OPSETS:
            with contextlib.suppress(RuntimeError, NotImplementedError):  # the first error is told
                return convert(versions.convert_version(proto, opset))
        raise


class _Named(Graph):
    """Several outputs under the names that they have in the file."""

    def __init__(self, graph: nn.Module, names: list[str]) -> None:
        super().__init__(graph, architecture=FORMAT)
        self.names = names

    def forward(self, x: object) -> object:
        values: Any = self.graph(x)
        if len(values) != len(self.names):  # two outputs of one node come as one value
            return values
        return dict(zip(self.names, values, strict=True))


def _input(proto: Any, path: Path) -> tuple[int | None, tuple[int, int, int] | None]:
    """Batch size, ``None`` if it is free, and (C, H, W), ``None`` if one of them is free."""
    weights = {tensor.name for tensor in proto.graph.initializer}
    inputs = [value for value in proto.graph.input if value.name not in weights]
    if len(inputs) != 1 or len(inputs[0].type.tensor_type.shape.dim) != 4:
        found = ", ".join(value.name for value in inputs) or "nothing"
        raise InputError(
            f"{path}: its inputs are {found}. Export a network of one tensor (B, C, H, W)."
        )
    sizes = [dim.dim_value or None for dim in inputs[0].type.tensor_type.shape.dim]
    batch, channels, height, width = sizes
    if width in (1, 3) and channels not in (1, 3, None):
        raise InputError(
            f"{path}: takes channels last (B, {channels}, {height}, {width}). Export it with "
            "channels first: (B, C, H, W)."
        )
    if channels and height and width:
        return batch, (channels, height, width)
    return batch, None


def _takes_other_batches(
    network: nn.Module, batch: int, shape: tuple[int, int, int] | None
) -> bool:
    """Whether a graph that was saved for one batch size gives the same with another."""
    if shape is None:
        return False
    generator = torch.Generator().manual_seed(0)
    x = torch.rand((batch + 1, *shape), generator=generator)

    def run(part: Tensor) -> list[Tensor]:
        returned = network(part)
        values = returned.values() if isinstance(returned, dict) else returned
        return [values] if isinstance(values, Tensor) else list(values)

    with torch.no_grad():
        try:
            together = run(x)
        except Exception:  # whatever a fixed shape leads to
            return False
        alone = zip(run(x[:batch]), run(x[1:]), strict=True)
    return all(
        whole.shape == (len(x), *first.shape[1:])
        and torch.cat([whole[:batch], whole[1:]]).allclose(
            torch.cat([first, last]), rtol=_BATCH_TOLERANCE, atol=_BATCH_TOLERANCE
        )
        for whole, (first, last) in zip(together, alone, strict=True)
    )


def _restore_parameters(network: nn.Module) -> None:
    """Make parameters of the weights that lie outside of layers, as attention often has them.

    In the converted network they are buffers, like the settings of operators.
    """
    assert isinstance(network, fx.GraphModule)
    holder = getattr(network, "initializers", nn.Module())
    for node in network.graph.find_nodes(op="get_attr"):
        owner, _, name = str(node.target).rpartition(".")
        value = getattr(holder, name, None) if owner == "initializers" else None
        if not isinstance(value, Tensor) or not value.is_floating_point() or value.numel() == 1:
            continue
        if value.isfinite().all() and not any(_is_setting(network, node, u) for u in node.users):
            delattr(holder, name)
            holder.register_parameter(name, nn.Parameter(value, requires_grad=False))


def _reinitialization(network: nn.Module) -> Ability:
    if any(type(module).__name__ == "OnnxBatchNorm" for module in network.modules()):
        # Its statistics are computed, or shared with something else.
        reason = "Its batch normalization is no layer, whose statistics could be taken anew."
        return Ability(False, f"{reason} {FROM_CODE}")
    return random_weights(network)


def _is_setting(network: fx.GraphModule, node: fx.Node, user: fx.Node) -> bool:
    """Whether a tensor tells an operator what to do: scales, limits, a mean, a deviation."""
    if user.op != "call_module":
        return False
    operator = network.get_submodule(str(user.target))
    if type(operator).__name__ == "OnnxCopyIdentity":
        return any(_is_setting(network, user, further) for further in user.users)
    function = getattr(operator, "math_op_function", None)
    normalizes = getattr(function, "__name__", "") in ("sub", "_onnx_div")
    if normalizes and user.args[0] is not node:
        return True
    return type(operator).__name__.startswith(_SETTINGS)
