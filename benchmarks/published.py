"""The published attacks, re-implemented faithfully as the peers that ours are measured against.

All of them differentiate the map of a softplus surrogate, because double backward through a ReLU
network is zero. None of them is ours: they share with our attacks the objectives' gradients and the
projection alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from attacks import Clean, Manipulation, Objective, project, random_start, smooth


@dataclass(frozen=True, kw_only=True)
class Published:
    """Ghorbani, Abid and Zou 2019 (arXiv 1710.10547), as audits run it.

    Fixed sign steps down the objective of the surrogate's map, and of all iterates the one that
    keeps the label and moves the true map most. With ``sigma`` > 0 it attacks the map smoothed
    with ``samples`` fresh draws at each step. A step is booked as three gradients a draw: the true
    map, the surrogate's, and the backward pass through it.

    Attributes
    ----------
    length
        Of a step, as a share of ε; ``absolute`` in pixel units (Wang 2020 as in S3: 50 of .005).
    betas
        Sharpness of the softplus at the first and the last step, geometric in between; ``None``
        leaves the ReLU network as it is: double backward is then zero.
    times_input
        Attack gradient × input in the place of the gradient.
    """

    objective: Objective
    steps: int = 50
    betas: tuple[float, float] | None = (30.0, 30.0)
    sigma: float = 0.0
    samples: int = 1
    length: float = 0.1
    absolute: float | None = None
    times_input: bool = False

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
        """Best label-kept perturbation (B, C, H, W) and its score (B,), ``nan`` without one.

        ``clean`` holds the maps that are to move, times the input if ``times_input``.
        """
        delta = random_start(x, epsilon, generators)
        radius = epsilon.reshape(-1, 1, 1, 1)
        length = self.length * radius if self.absolute is None else self.absolute
        best, found = torch.zeros_like(x), torch.full((len(x),), torch.inf, dtype=torch.float64)
        for step in range(self.steps + 1):
            noise = self.sigma * torch.stack(
                [torch.randn((self.samples, *x.shape[1:]), generator=g) for g in generators]
            )
            moved = (x + delta)[:, None] + noise
            maps = self.mean_map(network, moved, target)
            with torch.no_grad():
                kept = torch.cat([network(part) for part in torch.split(x + delta, 8)])
            score = self.objective.score(maps, clean)
            better = (kept.argmax(dim=1) == target) & (score < found)
            found, best[better] = torch.where(better, score, found), delta[better]
            if step < self.steps:
                direction = self.double_backward(
                    self.surrogate(network, step), moved, target, clean
                )
                delta = project(x, delta - length * direction.sign(), epsilon)
        return best, torch.where(found.isfinite(), found, torch.nan)

    def surrogate(self, network: nn.Module, step: int) -> Callable[[Tensor], Tensor]:
        """The network with softplus ramps."""
        if self.betas is None:
            return network
        first, last = self.betas
        return smooth(network, beta=first * (last / first) ** (step / max(1, self.steps - 1)))

    def double_backward(
        self,
        surrogate: Callable[[Tensor], Tensor],
        moved: Tensor,
        target: Tensor,
        clean: Clean,
    ) -> Tensor:
        """Gradient (B, C, H, W) of the objective of the surrogate's mean map by the image."""
        leaf = moved.flatten(0, 1).detach().requires_grad_()
        maps = self.map(surrogate, leaf, target.repeat_interleave(moved.shape[1]), graph=True)
        mean = maps.unflatten(0, moved.shape[:2]).mean(dim=1)
        weight = self.objective.gradient(mean.detach(), clean)
        if not mean.requires_grad:
            return torch.zeros_like(weight)
        (found,) = torch.autograd.grad(mean, leaf, weight, materialize_grads=True)
        return found.unflatten(0, moved.shape[:2]).sum(dim=1)

    def mean_map(
        self, network: Callable[[Tensor], Tensor], moved: Tensor, target: Tensor
    ) -> Tensor:
        """Mean (B, C, H, W) of the maps at noisy copies (B, samples, C, H, W)."""
        flat, classes = moved.flatten(0, 1), target.repeat_interleave(moved.shape[1])
        maps = [
            self.map(network, part.detach().requires_grad_(), labels).detach()
            for part, labels in zip(torch.split(flat, 256), torch.split(classes, 256), strict=True)
        ]
        return torch.cat(maps).unflatten(0, moved.shape[:2]).mean(dim=1)

    def map(
        self,
        network: Callable[[Tensor], Tensor],
        leaf: Tensor,
        target: Tensor,
        *,
        graph: bool = False,
    ) -> Tensor:
        """Map (B, C, H, W) of the target's logit at a leaf that requires grad."""
        score = network(leaf).gather(1, target[:, None]).sum()
        (found,) = torch.autograd.grad(score, leaf, create_graph=graph)
        return leaf * found if self.times_input else found


@dataclass(frozen=True, kw_only=True)
class Dombrowski:
    """Dombrowski 2019 (arXiv 1906.07983): Adam on the image, β growing from 10 to 100.

    It minimizes w₁·MSE(m, t) + w₂·MSE(p, p_clean), maps summing to 1, and clamps the image to
    [0, 1]. No ball bounds the perturbation. ``w`` as in math section 3.
    """

    objective: Manipulation
    steps: int = 50
    rate: float = 1e-3
    w: tuple[float, float] = (1e11, 1e6)

    def run(self, network: nn.Module, x: Tensor, *, target: Tensor, clean: Clean) -> Tensor:
        """The last image's perturbation (B, C, H, W)."""
        leaf = x.clone().requires_grad_()
        optimizer = torch.optim.Adam([leaf], lr=self.rate)
        wanted = clean.own(self.objective.target)
        with torch.no_grad():
            before = network(x).softmax(dim=1)
        for step in range(self.steps):
            beta = 10.0 * 10.0 ** (step / max(1, self.steps - 1))
            surrogate = smooth(network, beta=beta)
            output = surrogate(leaf)
            score = output.gather(1, target[:, None]).sum()
            (maps,) = torch.autograd.grad(score, leaf, create_graph=True)
            m = maps.abs().sum(dim=1).flatten(1)
            near = ((m / m.sum(dim=1, keepdim=True) - wanted) ** 2).mean(dim=1).sum()
            same = ((output.softmax(dim=1) - before) ** 2).mean(dim=1).sum()
            optimizer.zero_grad()
            (self.w[0] * near + self.w[1] * same).backward()
            optimizer.step()
            with torch.no_grad():
                leaf.clamp_(0, 1)
        return leaf.detach() - x
