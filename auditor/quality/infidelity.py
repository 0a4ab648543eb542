"""INFD: whether the map foretells what happens to the logit when the image is perturbed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from auditor.evaluation import Evaluator
from auditor.perturbations import Perturbation
from auditor.quality.scores import NOT_FINITE, Scores, portions, without


@dataclass(frozen=True, kw_only=True)
class Infidelity:
    """E_I[(IᵀΦ − (f_c(x) − f_c(x − I)))²] of raw maps, f_c the explained class's logit.

    Its values are ``infd_NAME`` and ``infd_scaled_NAME``, NAME that of the perturbation, both in
    squared logits, not negative, lower is better. The second is taken of α*Φ with the best scale
    α* = E[(IᵀΦ)Δf] / E[(IᵀΦ)²], so that it does not depend on the scale of the map; α* is in
    ``details``, 0 for a map that never answers to the perturbation.

    Attributes
    ----------
    perturbation
        Distribution of x − I.
    draws
        Perturbations for each image (S4 B.1).

    References
    ----------
    Yeh et al. 2019, *On the (In)fidelity and Sensitivity of Explanations*; S4 B.1.
    """

    perturbation: Perturbation
    draws: int = 1000

    def __call__(
        self,
        evaluator: Evaluator,
        maps: Tensor,
        x: Tensor,
        target: Tensor,
        *,
        images: Sequence[int],
        times_input: bool = False,
    ) -> Scores:
        """Infidelity of maps (B, C, H, W); see :meth:`of_each`."""
        (found,) = self.of_each(
            evaluator, [maps], x, target, images=images, times_input=times_input
        )
        return found

    def of_each(
        self,
        evaluator: Evaluator,
        maps: Sequence[Tensor],
        x: Tensor,
        target: Tensor,
        *,
        images: Sequence[int],
        times_input: bool = False,
    ) -> tuple[Scores, ...]:
        """Infidelity of several methods' maps of the same images, for one forward pass a draw.

        Parameters
        ----------
        maps
            Raw maps (B, C, H, W) of each method.
        times_input
            The maps are *global* (S4 B.2): multiplied by the image already, as gradient × input
            and integrated gradients are. Then I is divided by x, and by 1 where x is 0.
        """
        flat = torch.stack([m.double().flatten(1) for m in maps])
        told = torch.empty((len(maps), len(x), self.draws), dtype=torch.float64)
        happened = torch.empty((len(x), self.draws), dtype=torch.float64)
        before = explained_logit(evaluator.logits(x), target)
        for first, count in portions(self.draws, images=len(x), batch=evaluator.batch):
            y = self.perturbation.draw(x, images, first=first, count=count)
            change = (x[:, None] - y).double().flatten(2)
            if times_input:
                change = change / torch.where(x == 0, 1.0, x).double().flatten(1)[:, None]
            here = slice(first, first + count)
            told[:, :, here] = torch.einsum("bnd,mbd->mbn", change, flat)
            after = explained_logit(
                evaluator.logits(y.flatten(0, 1)), target.repeat_interleave(count)
            )
            happened[:, here] = before[:, None] - after.reshape(len(x), count)
        return tuple(self._scores(one, happened) for one in told)

    def _scores(self, told: Tensor, happened: Tensor) -> Scores:
        plain = (told - happened).square().mean(dim=1)
        power = told.square().sum(dim=1)
        alpha = (told * happened).sum(dim=1) / torch.where(power > 0, power, 1.0)
        scaled = (alpha[:, None] * told - happened).square().mean(dim=1)
        wrong = ~(plain.isfinite() & scaled.isfinite())
        name = self.perturbation.name
        values = {f"infd_{name}": plain, f"infd_scaled_{name}": scaled}
        return Scores(
            values={key: without(value, wrong) for key, value in values.items()},
            units=dict.fromkeys(values, "logit²"),
            undefined={NOT_FINITE: wrong},
            details={f"infd_alpha_{name}": alpha},
        )


def explained_logit(logits: Tensor, target: Tensor) -> Tensor:
    """The target classes' (B,) logits, float64 (B,)."""
    return logits.gather(1, target[:, None])[:, 0].double()
