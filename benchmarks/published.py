"""The published attacks, re-implemented faithfully as the peers that ours are measured against.

Ghorbani, Abid and Zou 2019 (arXiv 1710.10547), as audits run it: ReLU replaced by softplus so that
double backward is not zero, fixed sign steps down the objective of the surrogate's map, and of all
iterates the one that keeps the label and moves the true map most.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from attacks import Clean, Objective, project, random_start


def softplus_twin(network: nn.Module, beta: float) -> nn.Module:
    """A copy of the network in which every ``nn.ReLU`` is a softplus with this β."""
    twin = copy.deepcopy(network)
    for parent in list(twin.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.ReLU):
                setattr(parent, name, nn.Softplus(beta=beta))
    return twin


@dataclass(frozen=True, kw_only=True)
class Published:
    """Fixed sign steps of ε/10 by double backward through a softplus surrogate.

    ``beta=None`` leaves the ReLU network as it is: double backward is then zero. With
    ``sigma`` > 0 it attacks the map smoothed with ``samples`` fresh draws at each step.
    """

    objective: Objective
    steps: int = 50
    beta: float | None = 30.0
    sigma: float = 0.0
    samples: int = 1

    def run(
        self,
        network: nn.Module,
        x: Tensor,
        *,
        target: Tensor,
        clean: Clean,
        epsilon: Tensor,
        generators: list[torch.Generator],
    ) -> tuple[Tensor, Tensor]:
        """Best label-kept perturbation (B, C, H, W) and its score (B,), ``nan`` without one."""
        surrogate = network if self.beta is None else softplus_twin(network, self.beta)
        delta = random_start(x, epsilon, generators)
        best, found = torch.zeros_like(x), torch.full((len(x),), torch.inf, dtype=torch.float64)
        for step in range(self.steps + 1):
            noise = self.sigma * torch.stack(
                [torch.randn((self.samples, *x.shape[1:]), generator=g) for g in generators]
            )
            moved = (x + delta)[:, None] + noise
            maps = smoothed_map(network, moved, target)
            with torch.no_grad():
                kept = network(x + delta).argmax(dim=1) == target
            score = self.objective.score(maps, clean)
            better = kept & (score < found)
            found, best[better] = torch.where(better, score, found), delta[better]
            if step < self.steps:
                direction = self.double_backward(surrogate, moved, target, clean)
                length = epsilon.reshape(-1, 1, 1, 1) / 10
                delta = project(x, delta - length * direction.sign(), epsilon)
        return best, torch.where(found.isfinite(), found, torch.nan)

    def double_backward(
        self, network: nn.Module, moved: Tensor, target: Tensor, clean: Clean
    ) -> Tensor:
        """Gradient (B, C, H, W) of the objective of the mean map by the image."""
        weight = self.objective.gradient(smoothed_map(network, moved, target), clean)
        total = torch.zeros_like(weight)
        for draw in moved.unbind(dim=1):
            leaf = draw.detach().requires_grad_()
            maps = plain_map(network, leaf, target, create_graph=True)
            if maps.requires_grad:
                (part,) = torch.autograd.grad(maps, leaf, weight, allow_unused=True)
                total += 0 if part is None else part
        return total


def plain_map(
    network: nn.Module, leaf: Tensor, target: Tensor, *, create_graph: bool = False
) -> Tensor:
    """Gradient (B, C, H, W) of the target's logit at a leaf that requires grad."""
    score = network(leaf).gather(1, target[:, None]).sum()
    return torch.autograd.grad(score, leaf, create_graph=create_graph)[0]


def smoothed_map(network: nn.Module, moved: Tensor, target: Tensor) -> Tensor:
    """Mean (B, C, H, W) of the plain maps at noisy copies (B, samples, C, H, W)."""
    flat = moved.flatten(0, 1).detach().requires_grad_()
    maps = plain_map(network, flat, target.repeat_interleave(moved.shape[1]))
    return maps.unflatten(0, moved.shape[:2]).mean(dim=1)
