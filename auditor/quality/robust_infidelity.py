"""Robust INFD: how badly the map foretells the model somewhere near the image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from auditor.attributions import Method
from auditor.evaluation import Evaluator
from auditor.perturbations import Perturbation, UniformNoise
from auditor.quality.infidelity import explained_logit
from auditor.quality.scores import NOT_FINITE, Scores, largest, portions, without


@dataclass(frozen=True, kw_only=True)
class RobustInfidelity:
    """max_u E_I[(IᵀΦ(x+u) − (f_c(x+u) − f_c(x+u−I)))²] over shifts ‖u‖∞ ≤ radius, u = 0 included.

    Its values are ``rinfd_NAME`` and ``rinfd_bound_NAME``, NAME that of the perturbation, both in
    squared logits, not negative, lower is better, on raw maps. The second is a lower bound of the
    first, max(0, A − B(x) − B(x−I))²/4, with A = max_u E|IᵀΦ(x+u) − IᵀΦ(x)|,
    B(x) = max_u E|f_c(x+u) − f_c(x)| and B(x−I) = max_u E|f_c(x+u−I) − f_c(x−I)|: a map that moves
    more than its model cannot be faithful everywhere. A, B(x) and B(x−I) are in ``details``, in
    logits, as ``rinfd_map_NAME``, ``rinfd_model_NAME`` and ``rinfd_model_perturbed_NAME``.

    Attributes
    ----------
    perturbation
        Distribution of x − I.
    seed
        Of the shifts.
    radius
        Of the shifts, in pixel units (S4 B.1). x + u is put back into [0, 1].
    shifts
        Beside u = 0, for each image. A maximum over shifts grows with their number and is a lower
        limit of that over the whole ball.
    draws
        Perturbations I for each image, the same at every shift.

    Notes
    -----
    Theorem C.1 as printed, (A − B(x) − B(x−I))²/4, fails where A < B(x) + B(x−I): a linear model
    with its gradient has A = 0 and no infidelity, and the bound is positive. Its proof squares a
    difference that may be negative; cut off at 0 it stands, for any law of I and any set of shifts
    that holds 0. Both values are taken over the same draws and shifts, so it holds between them.

    **Choice**: 20 shifts and 100 draws, (20 + 1)·(100 + 1) forward passes; the 50 and 1000 of
    S4 B.1 would take 51,051.

    References
    ----------
    S4 definition C.1 and theorem C.1, the latter corrected.
    """

    perturbation: Perturbation
    seed: int
    radius: float = 0.1
    shifts: int = 20
    draws: int = 100

    def __call__(
        self,
        evaluator: Evaluator,
        method: Method,
        x: Tensor,
        target: Tensor,
        *,
        images: Sequence[int],
        maps: Tensor | None = None,
        times_input: bool = False,
    ) -> Scores:
        """Robust infidelity at ``x`` (B, C, H, W); ``maps`` are the clean ones, if known (draw 0).

        ``times_input`` says that the maps are *global*, as in
        :meth:`auditor.quality.Infidelity.of_each`: they are divided by their image first.
        """
        if maps is None:
            maps, _ = method(evaluator, x, target, images=images, draw=0)
        look = _Look(metric=self, evaluator=evaluator, x=x, target=target, images=images)
        clean = look.at(x, maps, times_input=times_input)
        rows = [clean.against(clean)]
        noise = UniformNoise(seed=self.seed, radius=self.radius, clip=True)
        for shift in range(self.shifts):
            y = noise.draw(x, images, first=shift, count=1)[:, 0]
            moved, _ = method(evaluator, y, target, images=images, draw=0)
            rows.append(look.at(y, moved, times_input=times_input).against(clean))
        found = torch.stack(rows, dim=2)
        finite = found.isfinite().all(dim=0)
        worst, of_map, of_model, of_perturbed = (largest(part, finite) for part in found)
        bound = (of_map - of_model - of_perturbed).clamp_min(0).square() / 4
        name, wrong = self.perturbation.name, ~finite[:, 0]
        values = {f"rinfd_{name}": worst, f"rinfd_bound_{name}": bound}
        return Scores(
            values={key: without(value, wrong) for key, value in values.items()},
            units=dict.fromkeys(values, "logit²"),
            undefined={NOT_FINITE: wrong},
            skipped={NOT_FINITE: (~finite[:, 1:]).sum(dim=1)},
            details={
                f"rinfd_map_{name}": of_map,
                f"rinfd_model_{name}": of_model,
                f"rinfd_model_perturbed_{name}": of_perturbed,
            },
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class _Seen:
    """At one shift: IᵀΦ(x+u) and f_c(x+u−I), (B, draws), and f_c(x+u), (B, 1), all float64."""

    told: Tensor
    perturbed: Tensor
    score: Tensor

    def against(self, clean: _Seen) -> Tensor:
        """Infidelity here, and mean changes of the three since ``clean``, (4, B)."""
        parts = (
            (self.told - (self.score - self.perturbed)).square(),
            (self.told - clean.told).abs(),
            (self.score - clean.score).abs(),
            (self.perturbed - clean.perturbed).abs(),
        )
        return torch.stack([part.mean(dim=1) for part in parts])


@dataclass(frozen=True, kw_only=True, eq=False)
class _Look:
    metric: RobustInfidelity
    evaluator: Evaluator
    x: Tensor
    target: Tensor
    images: Sequence[int]

    def at(self, y: Tensor, maps: Tensor, *, times_input: bool) -> _Seen:
        """What the maps (B, C, H, W) of the shifted images y foretell, and what happens."""
        local = maps.double()
        if times_input:
            local = local / torch.where(y == 0, 1.0, y).double()
        size, draws = len(self.x), self.metric.draws
        told = torch.empty((size, draws), dtype=torch.float64)
        perturbed = torch.empty_like(told)
        for first, count in portions(draws, images=size, batch=self.evaluator.batch):
            # I = x − x′ is that of the image itself, whatever the shift.
            moved = self.metric.perturbation.draw(self.x, self.images, first=first, count=count)
            change = self.x[:, None] - moved
            here = slice(first, first + count)
            flat = change.double().flatten(2)
            told[:, here] = torch.einsum("bnd,bd->bn", flat, local.flatten(1))
            logits = self.evaluator.logits((y[:, None] - change).flatten(0, 1))
            classes = self.target.repeat_interleave(count)
            perturbed[:, here] = explained_logit(logits, classes).reshape(size, count)
        score = explained_logit(self.evaluator.logits(y), self.target)[:, None]
        return _Seen(told=told, perturbed=perturbed, score=score)
