"""The smooth stand-in for an exported program, by rewriting its graph."""

from __future__ import annotations

from collections import Counter
from typing import Any

from torch import Tensor, fx
from torch.export import ExportedProgram

from attacks.surrogate import LIMIT, Kind, Replaced, examine, operation, ramp, smooth_call


def smooth_graph(
    program: ExportedProgram | fx.GraphModule, *, beta: float, kind: Kind = "softplus"
) -> fx.GraphModule:
    """A copy of the program in which every ramp is smooth; weights are shared, not copied.

    Parameters
    ----------
    program
        An exported program or its ``.module()``; left as it is.
    beta, kind
        As for `attacks.surrogate.Surrogate`.

    Raises
    ------
    ValueError
        ``beta`` is not positive, or ``kind`` is unknown.
    """
    return _Rewriter(_module(program), beta=beta, kind=kind).transform()


def report_graph(program: ExportedProgram | fx.GraphModule, x: Tensor) -> Replaced:
    """What is replaced and what is missed in the program, as `attacks.surrogate.report`.

    ``x`` (B, C, H, W) must have a batch size that the program was exported for. Counts are of
    nodes of the graph.
    """
    module = _module(program)
    rewriter = _Rewriter(module, beta=LIMIT, kind="softplus")
    missed, deviation = examine(module, rewriter.transform(), x)
    return Replaced(counts=dict(rewriter.counts), missed=missed, deviation=deviation)


def _module(program: ExportedProgram | fx.GraphModule) -> fx.GraphModule:
    if isinstance(program, fx.GraphModule):
        return program
    module = program.module()
    assert isinstance(module, fx.GraphModule)  # torch's annotation says only Module
    return module


class _Rewriter(fx.Transformer):
    """Copies a graph node by node, tracing the smooth twin where a node is a ramp."""

    def __init__(self, module: fx.GraphModule, *, beta: float, kind: Kind) -> None:
        super().__init__(module)
        self.ramp = ramp(beta, kind)
        self.counts: Counter[str] = Counter()
        self.floating = True

    def run_node(self, n: fx.Node) -> Any:
        value = n.meta.get("val")
        self.floating = not isinstance(value, Tensor) or value.is_floating_point()
        return super().run_node(n)

    def call_function(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        twin = smooth_call(target, args, kwargs, self.ramp) if self.floating else None
        if twin is None:
            return super().call_function(target, args, kwargs)
        self.counts[operation(target)] += 1
        return twin
