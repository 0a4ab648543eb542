"""The published top-k attack, re-implemented faithfully as the peer that ours is measured against.

Ghorbani, Abid and Zou 2019 (arXiv 1710.10547), as audits run it: ReLU replaced by softplus so that
double backward is not zero, descent on the clean top-k set's share of the map by fixed sign steps,
and of all iterates the one that keeps the label and moves the true map most.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from attacks import overlap, project, random_start


def softplus_twin(network: nn.Module, beta: float) -> nn.Module:
    """A copy of the network in which every ``nn.ReLU`` is a softplus with this β."""
    twin = copy.deepcopy(network)
    for parent in list(twin.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.ReLU):
                setattr(parent, name, nn.Softplus(beta=beta))
    return twin


def published_topk(
    network: nn.Module,
    x: Tensor,
    *,
    target: Tensor,
    clean: Tensor,
    epsilon: Tensor,
    generators: list[torch.Generator],
    steps: int = 50,
    beta: float | None = 30.0,
) -> Tensor:
    """Best label-kept top-k overlap (B,) after ``steps`` sign steps of ε/10; ``nan`` without one.

    ``beta=None`` leaves the ReLU network as it is: double backward is then zero.
    """
    twin = network if beta is None else softplus_twin(network, beta)
    delta = random_start(x, epsilon, generators)
    best = torch.full((len(x),), torch.inf, dtype=torch.float64)
    for step in range(steps + 1):
        true_map, logits = explained(network, x + delta, target)
        kept = logits.argmax(dim=1) == target
        found = overlap(true_map.detach(), clean)
        best = torch.where(kept & (found < best), found, best)
        if step < steps:
            direction = double_backward(twin, x + delta, target, clean)
            length = epsilon.reshape(-1, 1, 1, 1) / 10
            delta = project(x, delta - length * direction.sign(), epsilon)
    return torch.where(best.isfinite(), best, torch.nan)


def double_backward(network: nn.Module, x: Tensor, target: Tensor, clean: Tensor) -> Tensor:
    """Gradient (B, C, H, W) of the clean top-k set's share of the map, through the network."""
    leaf = x.detach().requires_grad_()
    with torch.enable_grad():
        maps, _ = explained(network, leaf, target, create_graph=True)
        m = maps.abs().sum(dim=1).flatten(1)
        share = ((m * clean).sum(dim=1) / m.sum(dim=1)).sum()
    if not share.requires_grad:
        return torch.zeros_like(x)
    (gradient,) = torch.autograd.grad(share, leaf, allow_unused=True)
    return torch.zeros_like(x) if gradient is None else gradient


def explained(
    network: nn.Module, x: Tensor, target: Tensor, *, create_graph: bool = False
) -> tuple[Tensor, Tensor]:
    """Plain gradient maps and logits."""
    leaf = x if x.requires_grad else x.detach().requires_grad_()
    with torch.enable_grad():
        logits = network(leaf)
        score = logits.gather(1, target[:, None]).sum()
        maps = torch.autograd.grad(score, leaf, create_graph=create_graph)[0]
    return maps, logits.detach()
