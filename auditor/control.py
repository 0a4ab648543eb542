"""Random weights in place of learned ones: the control that no explanation may resemble."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn


def randomize(network: nn.Module, *, seed: int, layers: bool) -> int:
    """Put random weights into a network, in place; the global random state is left as it was.

    Parameters
    ----------
    seed
        Same seed, same weights.
    layers
        Let layers reset themselves as before a training, and draw only what is left. Without it
        every parameter is drawn: files from which no training can start have batch normalization
        folded into other layers, whose usual initialization then makes maps vanish (measured on
        EfficientNet-Lite0 in ONNX: norm 1e-11 instead of 1e3).

    Returns
    -------
    int
        How many tensors were drawn: from a normal distribution around zero with the tensor's own
        root mean square.
    """
    return randomize_modules(list(network.modules()), seed=seed, layers=layers)


def randomize_modules(modules: Sequence[nn.Module], *, seed: int, layers: bool = True) -> int:
    """The same for these modules' own parameters, without those of modules inside them."""
    own = {id(p): p for module in modules for p in module.parameters(recurse=False)}
    cuda = sorted({p.device.index or 0 for p in own.values() if p.is_cuda})
    with torch.random.fork_rng(devices=cuda), torch.no_grad():
        torch.manual_seed(seed)
        done = _reset(modules) if layers else set()
        left = [p for known, p in own.items() if known not in done and p.is_floating_point()]
        for parameter in left:
            size = parameter.square().mean().sqrt()
            parameter.normal_().mul_(size)
    return len(left)


def _reset(modules: Sequence[nn.Module]) -> set[int]:
    """Re-initialize the layers that can; returns the identities of their parameters."""
    done: set[int] = set()
    for module in modules:
        again = getattr(module, "reset_parameters", None)
        if callable(again):
            again()
            done |= {id(p) for p in module.parameters(recurse=False)}
    return done
