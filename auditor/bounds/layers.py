"""Norms of a network's layers as operators, and whether it is the chain that theorems speak of."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn

from auditor.bounds.lanczos import dominant
from auditor.bounds.record import Assumption

LINEAR = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
NORMALIZATION = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
FIXED_AT_ZERO = (nn.ReLU, nn.LeakyReLU, nn.Tanh, nn.ReLU6, nn.Hardtanh, nn.ELU, nn.CELU)
"""1-Lipschitz activations with φ(0) = 0."""
SMOOTH_AT_ZERO = (nn.Tanh,)
"""Those of them whose derivative is 1-Lipschitz, too."""
_HARMLESS = (nn.Flatten, nn.Identity, nn.Dropout, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.Unflatten)
_STEPS = 60


@dataclass(frozen=True, kw_only=True)
class Layer:
    """A linear layer: its name, and its largest singular value ``norm`` in eval mode."""

    name: str
    norm: float


@dataclass(frozen=True, kw_only=True)
class Chain:
    """The layers of a network in the order of their calls, and what of S0's setting holds.

    ``assumptions`` are those of S0 3.1 on the network; ``smooth`` is true if its activations have
    Lipschitz derivatives, as Theorem 5, Proposition 7 and D.8 need.
    """

    layers: tuple[Layer, ...]
    assumptions: tuple[Assumption, ...]
    smooth: bool

    @property
    def norms(self) -> tuple[float, ...]:
        """Norms B₁ … B_k."""
        return tuple(layer.norm for layer in self.layers)


def operator_norm(operator: Callable[[Tensor], Tensor], shape: tuple[int, ...]) -> float:
    """Largest singular value of an affine operator, without its constant, on inputs of a shape.

    Power iteration's Krylov space, used whole (Lanczos on AᵀA): what a reshaped kernel gives
    instead is another number, off by up to the kernel's size. Found from below; the residual is
    added.

    Parameters
    ----------
    operator
        (1, …) → anything, affine, in float64.
    shape
        Of its input, with a first axis of one.
    """
    zero = torch.zeros(shape, dtype=torch.float64, requires_grad=True)
    with torch.enable_grad():
        output = operator(zero)
    constant = output.detach()

    def product(v: Tensor) -> Tensor:
        with torch.no_grad():
            pushed = operator(v) - constant
        return torch.autograd.grad(output, zero, pushed, retain_graph=True)[0]

    start = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = dominant(product, start, steps=_STEPS, tolerance=1e-8)
    return math.sqrt(float(found.eigenvalue.clamp_min(0) + found.residual))


def read_chain(network: nn.Module, x: Tensor) -> Chain:
    """Measure every layer at the size of ``x`` (1, C, H, W), the network's own input.

    Batch normalization in eval mode is a linear layer. Residual connections, branches, other
    normalizations and layers without a norm here are out of S0's scope, and said to be.
    """
    calls: list[tuple[str, nn.Module, tuple[int, ...]]] = []
    strange: list[str] = []
    activations: list[nn.Module] = []

    def watch(name: str) -> Callable[[nn.Module, tuple[Any, ...], Any], None]:
        def hook(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
            if isinstance(module, (*LINEAR, *NORMALIZATION)):
                calls.append((name, module, (1, *inputs[0].shape[1:])))
                if isinstance(module, NORMALIZATION) and module.running_var is None:
                    strange.append(f"{name} (without running statistics)")
            elif isinstance(module, nn.MaxPool2d):
                if module.stride != module.kernel_size or module.dilation not in (1, (1, 1)):
                    strange.append(f"{name} (overlapping windows)")
            elif isinstance(module, FIXED_AT_ZERO):
                activations.append(module)
            elif not isinstance(module, _HARMLESS):
                strange.append(f"{name} ({type(module).__name__})")

        return hook

    leaves = [(n, m) for n, m in network.named_modules() if n and not list(m.children())]
    handles = [module.register_forward_hook(watch(name)) for name, module in leaves]
    try:
        with torch.no_grad():
            network(x)
    finally:
        for handle in handles:
            handle.remove()
    names = [name for name, _, _ in calls]
    strange += sorted({f"{name} (used twice)" for name in names if names.count(name) > 1})
    biased = [name for name, module, _ in calls if _has_constant(module)]
    branch = _branches(network)
    smooth = bool(activations) and all(isinstance(a, SMOOTH_AT_ZERO) for a in activations)
    return Chain(
        layers=tuple(Layer(name=name, norm=_norm(module, size)) for name, module, size in calls),
        assumptions=(
            branch,
            _assume(
                "Every layer is linear, or 1-Lipschitz with φ(0) = 0 (S0 3.1)",
                f"Out of scope: {_few(strange)}." if strange else "",
            ),
            _assume(
                "Layers have no constant terms (S0 3.1)",
                f"Constant terms in {_few(biased)}." if biased else "",
            ),
        ),
        smooth=smooth,
    )


def _norm(module: nn.Module, shape: tuple[int, ...]) -> float:
    if isinstance(module, nn.Linear):
        return float(torch.linalg.matrix_norm(module.weight.detach().double(), 2))
    if isinstance(module, NORMALIZATION):
        if module.running_var is None:
            return 0.0
        weight = module.running_var.new_ones(()) if module.weight is None else module.weight
        scale = weight.detach().double() / (module.running_var.double() + module.eps).sqrt()
        return float(scale.abs().max())
    weights = {name: p.detach().double().cpu() for name, p in module.named_parameters()}

    def operator(v: Tensor) -> Tensor:
        found: Tensor = torch.func.functional_call(module, weights, (v,))
        return found

    return operator_norm(operator, shape)


def _has_constant(module: nn.Module) -> bool:
    if isinstance(module, NORMALIZATION):
        return True
    return isinstance(module.bias, Tensor) and bool(module.bias.any())


def _branches(network: nn.Module) -> Assumption:
    text = "The network is a chain of layers (S0 3.1)"
    try:
        graph = fx.symbolic_trace(network).graph
    except Exception as error:  # whatever a user's forward raises when it is given proxies
        reason = f"Its code cannot be traced ({type(error).__name__})."
        return Assumption(text=text, status="not checkable", reason=reason)
    for node in graph.nodes:
        inputs = [n for n in node.all_input_nodes if n.op != "get_attr"]
        if len(inputs) > 1:
            reason = f"Branches meet at {node.name}, as residual connections do."
            return Assumption(text=text, status="not met", reason=reason)
    return Assumption(text=text, status="met")


def _assume(text: str, fault: str) -> Assumption:
    return Assumption(text=text, status="not met" if fault else "met", reason=fault)


def _few(names: list[str]) -> str:
    shown = ", ".join(names[:3])
    return f"{shown} and {len(names) - 3} more" if len(names) > 3 else shown
