"""Random weights in place of learned ones: the control that no explanation may resemble."""

from __future__ import annotations

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
    cuda = sorted({p.device.index or 0 for p in network.parameters() if p.is_cuda})
    with torch.random.fork_rng(devices=cuda), torch.no_grad():
        torch.manual_seed(seed)
        done = _reset(network) if layers else set()
        left = [p for p in network.parameters() if id(p) not in done and p.is_floating_point()]
        for parameter in left:
            size = parameter.square().mean().sqrt()
            parameter.normal_().mul_(size)
    return len(left)


def _reset(network: nn.Module) -> set[int]:
    """Re-initialize the layers that can; returns the identities of their parameters."""
    done: set[int] = set()
    for module in network.modules():
        again = getattr(module, "reset_parameters", None)
        if callable(again):
            again()
            done |= {id(p) for p in module.parameters(recurse=False)}
    return done
