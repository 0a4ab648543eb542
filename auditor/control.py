"""Random weights in place of learned ones: the control that no explanation may resemble."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from auditor.errors import InputError

CALIBRATION_BATCH = 16


def reset(network: nn.Module) -> int:
    """Re-initialize in place; returns how many parameter tensors had to be drawn."""
    done: set[int] = set()
    for module in network.modules():
        again = getattr(module, "reset_parameters", None)
        if callable(again):
            again()
            done |= {id(p) for p in module.parameters(recurse=False)}
    left = [p for p in network.parameters() if id(p) not in done]
    for parameter in left:
        size = parameter.square().mean().sqrt()
        parameter.normal_().mul_(size)
    return len(left)


def redraw(network: nn.Module, *, seed: int) -> int:
    """:func:`reset` by a seed; the global random state is left as it was."""
    cuda = sorted({p.device.index or 0 for p in network.parameters() if p.is_cuda})
    with torch.random.fork_rng(devices=cuda), torch.no_grad():
        torch.manual_seed(seed)
        return reset(network)


def recalibrate(model: nn.Module, images: Tensor, *, name: str) -> None:
    """Take batch normalization's running statistics from ``images``, in place."""
    kind = nn.modules.batchnorm._BatchNorm
    norms = [m for m in model.modules() if isinstance(m, kind) and m.track_running_stats]
    if not norms:
        return
    if len(images) < 2:
        raise InputError(f"{name}: batch normalization needs at least 2 images.")
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
