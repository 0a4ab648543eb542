"""What an attack is up against: images, balls, and the maps that are to move."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from attacks.ball import L2, Linf
from attacks.clean import Clean
from attacks.explain import (
    DifferencedPullback,
    Explain,
    Generators,
    MakeTwin,
    Margin,
    Predict,
)


@dataclass(frozen=True, kw_only=True)
class Fees:
    """What looking costs, in gradients of the true model.

    Attributes
    ----------
    samples, select_samples
        Of one map in a search, and of one in the choice among candidates.
    noisy
        Whether maps have noise, so that candidates are looked at again with noise of its own.
    """

    samples: int = 1
    select_samples: int = 1
    noisy: bool = False


@dataclass(frozen=True, kw_only=True, eq=False)
class Problem:
    """Images under attack, one row for each image and ε, so that all of them share batches.

    Attributes
    ----------
    x
        Images (B, C, H, W) in [0, 1].
    target
        Class (B,) that must stay the predicted one.
    clean
        Clean maps that objectives compare with, fixed during the attack.
    epsilon
        Radius (B,) of the ball, in [0, 1] units.
    rows
        Which image (B,) each row is, as the callables know it.
    generators
        Randomness of random starts.
    explain
        The maps under attack, with the noise that a search may see.
    predict, margin
        Tell whether the label is kept, and keep it.
    select
        Explains with noise that no search ever saw; ``None`` when maps have no noise, then every
        iterate is scored as it is met.
    twin
        Makes surrogates, for the oracles that need one.
    pullback
        Jᵀv by differences, where maps are made of gradients of the model alone.
    fees
        What looking at a map costs.
    sigma
        Standard deviation of the noise that smooths the maps, in pixel units; 0 without.
    ball
        Norm of the perturbation.
    """

    x: Tensor
    target: Tensor
    clean: Clean
    epsilon: Tensor
    rows: Tensor
    generators: Generators
    explain: Explain
    predict: Predict
    margin: Margin
    select: Explain | None = None
    twin: MakeTwin | None = None
    pullback: DifferencedPullback | None = None
    fees: Fees = Fees()
    sigma: float = 0.0
    ball: Linf | L2 = Linf()

    def __len__(self) -> int:
        return len(self.x)

    def take(self, index: Tensor) -> Problem:
        """Some rows (N,), in that order and with repetition."""
        return dataclasses.replace(
            self,
            x=self.x[index],
            target=self.target[index],
            clean=self.clean.rows(index),
            epsilon=self.epsilon[index],
            rows=self.rows[index],
        )

    def at(self, epsilons: Sequence[float]) -> Problem:
        """The same images once for each ε (pixel units), all of them for one ε after the other."""
        tiled = self.take(torch.arange(len(self)).repeat(len(epsilons)))
        radii = torch.tensor(epsilons, dtype=self.x.dtype).repeat_interleave(len(self))
        return dataclasses.replace(tiled, epsilon=radii)

    def start(self, restart: int) -> Tensor:
        """A random δ (B, C, H, W) in the ball; restarts differ, and ε only scales it."""
        return self.ball.start(self.x, self.epsilon, self.generators(self.rows, restart))

    def look(self, delta: Tensor, *, draw: int) -> tuple[Tensor, Tensor]:
        """Maps (B, C, H, W) at x + δ, and whether (B,) the label is kept there."""
        maps, logits = self.explain(self.x + delta, rows=self.rows, draw=draw)
        return maps, logits.argmax(dim=1) == self.target

    def kept(self, delta: Tensor) -> Tensor:
        """Whether (B,) the label is kept at x + δ."""
        return self.predict(self.x + delta).argmax(dim=1) == self.target
