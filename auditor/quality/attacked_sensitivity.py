"""SENS_MAX by attack: the worst case of the map's change, searched for instead of drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from attacks import Clean, Distance, Explain, Fees, Problem, Search, inherit
from auditor.attributions import Method
from auditor.attributions.noise import mix
from auditor.evaluation import Evaluator
from auditor.quality.scores import NO_DRAW, NOT_FINITE, Scores, faults, without

SHOWN_DRAW, SELECT_DRAW, SEARCH_DRAW = 0, 1, 2
"""Attempts that a method draws noise for: the clean map's and the result's, the choice among
candidates, and the first of the search's."""
SHARES = (0.1, 1.0)
"""Balls that are searched with equal parts of the budget, as shares of the radius, ascending.

Steps are as long as their ball asks for, and the worst image can be close by. With 150 gradients
and radius .1, two photographs on EfficientNet-Lite0 moved by 6.8 and 7.9, with the whole ball alone
by 2.5 and 3.4, and 50 random draws by 1.3 and 1.3; 32 digits on a small network by 1.16 on average,
with the whole ball alone by 1.19, and by draws .82."""
UNITS = {"sens_attack": "ratio"}


@dataclass(frozen=True, kw_only=True)
class AttackedSensitivity:
    """Largest ‖Φ(x+δ) − Φ(x)‖₂ / ‖Φ(x)‖₂ that a search finds, ‖δ‖∞ ≤ radius; lower is better.

    A lower limit of the true worst case, like ``sens_max``, but a much higher one. x + δ is in
    [0, 1]. As in the metric's definition, δ may change the prediction; the explained class stays
    that of x. ``details["label_lost"]`` tells on which images (B,) it did.

    Attributes
    ----------
    seed
        Of the random start.
    radius
        In pixel units.
    budget
        Gradients for each image.
    """

    seed: int
    radius: float = 0.1
    budget: int = 150

    def __call__(
        self,
        evaluator: Evaluator,
        method: Method,
        x: Tensor,
        target: Tensor,
        *,
        images: Sequence[int],
        maps: Tensor | None = None,
        sigma: float = 0.0,
        samples: int = 1,
    ) -> Scores:
        """Search around ``x`` (B, C, H, W); ``maps`` are the clean ones, if known (draw 0).

        Parameters
        ----------
        sigma, samples
            Of the noise of the method, 0 without. The search then sees fresh noise at each step,
            and what it finds is measured with that of the clean map, which it does not see.
        """
        if maps is None:
            maps, _ = method(evaluator, x, target, images=images, draw=SHOWN_DRAW)
        clean = Clean(maps=maps, k=1)
        fees = Fees(samples=samples, select_samples=samples, noisy=True) if sigma else Fees()

        def explain(first: int) -> Explain:
            def look(x: Tensor, *, rows: Tensor, draw: int) -> tuple[Tensor, Tensor]:
                known = [images[row] for row in rows.tolist()]
                moved, _ = method(evaluator, x, target[rows], images=known, draw=first + draw)
                return moved, _only_class(x)

            return look

        def margin(x: Tensor, *, rows: Tensor) -> Tensor:
            raise AssertionError("no label can be lost where there is one class")

        def generators(rows: Tensor, restart: int) -> list[torch.Generator]:
            seeds = [mix(self.seed, images[row], 2, restart) for row in rows.tolist()]
            return [torch.Generator().manual_seed(seed) for seed in seeds]

        problem = Problem(
            x=x,
            target=torch.zeros_like(target),
            clean=clean,
            epsilon=torch.zeros(len(x)),
            rows=torch.arange(len(x)),
            generators=generators,
            explain=explain(SEARCH_DRAW),
            predict=_only_class,
            margin=margin,
            select=explain(SELECT_DRAW) if sigma else None,
            fees=fees,
            sigma=sigma,
        )
        radii = [share * self.radius for share in SHARES]
        balls = problem.at(radii)
        search = Search(objective=Distance()).within(self.budget / len(radii), fees)
        found, _ = inherit(balls, search.run(balls))
        y = x + found.delta[-len(x) :]
        moved, logits = method(evaluator, y, target, images=images, draw=SHOWN_DRAW)
        value = -Distance().score(moved, clean)
        wrong = faults(maps)
        wrong[NOT_FINITE] = wrong[NOT_FINITE] | ~moved.flatten(1).isfinite().all(dim=1)
        wrong[NO_DRAW] = ~found.feasible[-len(x) :]
        return Scores(
            values={"sens_attack": without(value, *wrong.values())},
            units=UNITS,
            undefined=wrong,
            details={"label_lost": logits.argmax(dim=1) != target, "worst_image": y},
        )


def _only_class(x: Tensor) -> Tensor:
    """Logits (B, 1) of a model with one class, so that the search never turns back for a label."""
    return torch.zeros(len(x), 1)
