"""Small models with their images, as an attack sees them; all that it asks is remembered."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import pytest
import torch
from torch import Tensor, nn

from attacks import (
    L2,
    Annealed,
    Apgd,
    Boundary,
    Clean,
    Fees,
    FixedSign,
    Linf,
    Problem,
    Twin,
    overlap,
    smooth,
)

K = 10
SHAPE = (2, 8, 8)
LINF = Linf()
EPSILON = 8 / 255

RULES = [Annealed(), FixedSign(), Apgd()]
BALLS = [Linf(), L2()]
every_rule = pytest.mark.parametrize("rule", RULES, ids=lambda rule: type(rule).__name__)
every_ball = pytest.mark.parametrize("ball", BALLS, ids=lambda ball: type(ball).__name__)


def network(seed: int, activation: type[nn.Module] = nn.ReLU) -> nn.Module:
    """A small CNN with random weights, large enough gains for its gradients to differ by place."""
    return _double(
        seed,
        lambda: nn.Sequential(
            nn.Conv2d(2, 8, 3, padding=1),
            activation(),
            nn.AvgPool2d(2),
            nn.Conv2d(8, 12, 3, padding=1),
            activation(),
            nn.Flatten(),
            nn.Linear(192, 5),
        ),
    )


def perceptron(seed: int) -> nn.Module:
    """One hidden layer of 16 ReLUs, whose surrogate has a Hessian in closed form."""
    return _double(
        seed, lambda: nn.Sequential(nn.Flatten(), nn.Linear(128, 16), nn.ReLU(), nn.Linear(16, 5))
    )


def _double(seed, make):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = make()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(2)
    return model.requires_grad_(False)


def images(seed: int, count: int) -> Tensor:
    return torch.rand(count, *SHAPE, generator=torch.Generator().manual_seed(seed))


def generators(rows: Tensor, restart: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(1000 * restart + row) for row in rows.tolist()]


@dataclass(frozen=True)
class Look:
    """One call of an explain."""

    x: Tensor
    rows: Tensor
    draw: int


@dataclass
class Subject:
    """A model with its images."""

    model: nn.Module
    x: Tensor
    target: Tensor
    k: int = K
    searched: list[Look] = field(default_factory=list)
    selected: list[Look] = field(default_factory=list)
    surrogate: list[Look] = field(default_factory=list)
    pulled: list[Tensor] = field(default_factory=list)
    predicted: list[Tensor] = field(default_factory=list)
    margins: list[Tensor] = field(default_factory=list)

    @classmethod
    def of(cls, model: nn.Module, x: Tensor) -> Subject:
        return cls(model, x, model(x).argmax(dim=1))

    @classmethod
    def small(cls, seed: int, count: int, activation: type[nn.Module] = nn.ReLU) -> Subject:
        return cls.of(network(seed, activation), images(seed, count))

    def maps(self, x: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        return gradient(self.model, x, self.target[rows])

    def problem(
        self,
        *epsilons: float,
        sigma: float = 0.0,
        samples: int = 4,
        select_samples: int = 8,
        ball: Linf | L2 = LINF,
    ) -> Problem:
        """Nothing is remembered of what it takes to find the clean maps."""
        everything = torch.arange(len(self.x))

        def smoothed(model: nn.Module, stream: int, samples: int, log: list[Look]):
            def explain(x: Tensor, *, rows: Tensor, draw: int) -> tuple[Tensor, Tensor]:
                log.append(Look(x.clone(), rows.clone(), draw))
                target = self.target[rows]
                if sigma == 0:
                    return gradient(model, x, target)
                maps = [gradient(model, x + z, target)[0] for z in noise(rows, draw, stream)]
                return torch.stack(maps).mean(dim=0), model(x)

            def noise(rows: Tensor, draw: int, stream: int) -> list[Tensor]:
                return [
                    sigma * torch.stack([normal(row, draw, stream, i) for row in rows.tolist()])
                    for i in range(samples)
                ]

            return explain

        def predict(x: Tensor) -> Tensor:
            self.predicted.append(x.clone())
            return self.model(x)

        def margin(x: Tensor, *, rows: Tensor) -> Tensor:
            self.margins.append(rows.clone())
            leaf = x.clone().requires_grad_()
            logits, index = self.model(leaf), self.target[rows][:, None]
            rival = logits.scatter(1, index, -torch.inf).amax(dim=1)
            return torch.autograd.grad((logits.gather(1, index)[:, 0] - rival).sum(), leaf)[0]

        def twin(beta: float) -> Twin:
            model = smooth(self.model, beta=beta)

            def pullback(x: Tensor, v: Tensor, *, rows: Tensor, draw: int) -> Tensor:
                self.pulled.append(v.clone())
                leaf = x.clone().requires_grad_()
                score = model(leaf).gather(1, self.target[rows][:, None]).sum()
                (maps,) = torch.autograd.grad(score, leaf, create_graph=True)
                return torch.autograd.grad((maps * v).sum(), leaf)[0]

            return Twin(explain=smoothed(model, 0, samples, self.surrogate), pullback=pullback)

        clean, _ = smoothed(self.model, 2, 64, [])(self.x, rows=everything, draw=0)
        plain = Problem(
            x=self.x,
            target=self.target,
            clean=Clean(maps=clean, k=self.k),
            epsilon=torch.zeros(len(self.x), dtype=self.x.dtype),
            rows=everything,
            generators=generators,
            explain=smoothed(self.model, 0, samples, self.searched),
            predict=predict,
            margin=margin,
            select=smoothed(self.model, 1, select_samples, self.selected) if sigma else None,
            twin=twin,
            fees=Fees(samples=samples, select_samples=select_samples, noisy=True)
            if sigma
            else Fees(),
            sigma=sigma,
            ball=ball,
        )
        return plain.at(epsilons)

    def spent(self, problem: Problem) -> float:
        """Gradients for each row since the last time, as the oracles book them."""
        fees = problem.fees
        inner = sum(len(look.x) for look in (*self.searched, *self.surrogate))
        outer = sum(len(look.x) for look in self.selected)
        looked = sum(map(len, self.predicted))
        pulled = 3 * sum(map(len, self.pulled))
        total = fees.samples * (inner + pulled) + fees.select_samples * outer + looked
        self.forget()
        return total / len(problem)

    def forget(self) -> None:
        for log in (self.searched, self.selected, self.surrogate):
            log.clear()
        for tensors in (self.pulled, self.predicted, self.margins):
            tensors.clear()


def gradient(model: nn.Module, x: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Gradient of the target's logit, and logits."""
    leaf = x.clone().requires_grad_()
    logits = model(leaf)
    score = logits.gather(1, target[:, None]).sum()
    return torch.autograd.grad(score, leaf)[0], logits.detach()


def normal(*numbers: int) -> Tensor:
    seed = 0
    for number in numbers:
        seed = 10_007 * seed + number
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed))


@dataclass(frozen=True)
class Scripted:
    """Goes in directions that are given for each step, and looks at nothing but the iterate."""

    directions: Tensor

    def __call__(self, problem, delta, aim, step):
        maps, kept = problem.look(delta, draw=step.number)
        aim.see(maps)
        return maps, kept, self.directions[step.number][problem.rows].clone()

    def cost(self, fees: Fees) -> float:
        return 1.0


@dataclass(frozen=True)
class Endless(Boundary):
    """Goes on when the overlap is zero."""

    lowest = -math.inf


def judged(subject: Subject, problem: Problem, delta: Tensor) -> tuple[Tensor, Tensor]:
    """Overlap and whether the label is kept, evaluated anew."""
    maps, logits = subject.maps(problem.x + delta, problem.rows)
    return overlap(maps, problem.clean.top), logits.argmax(dim=1) == problem.target
