"""Run one attack on some images, a few at a time: search, round to 8 bits, measure."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from attacks import Clean, Objective, Oracle, Problem, Strongest, choose, inherit
from auditor.attack_book import Book
from auditor.attack_plan import NORMS, Request, as_targets, describe_searches, no_target
from auditor.attack_result import GOALS, OracleChoice
from auditor.attributions import FRESH
from auditor.eight_bits import ROUNDINGS, from_levels, rounded, to_levels
from auditor.evaluation import Meter
from auditor.metrics.drift import Reference
from auditor.metrics.views import is_zero, magnitude
from auditor.models import Classifier
from auditor.oracle_choice import ORACLES, choose_oracle
from auditor.probes.attack_drift import random_signs_kept
from auditor.probes.natural import CHANGES, natural_maps
from auditor.probes.subject import Subject, clean_maps
from auditor.probes.surrogates import kinks_left
from auditor.probes.transfer import method_matrix
from auditor.run import Progress
from auditor.target import Target, explained_classes
from auditor.timed import Clock, TimedEvaluator
from profiles.records import LARGE_INPUT

PROBED = 16
"""Most images on which the cost of the oracles is measured: few enough to cost little, and enough
to weigh more than what one call of the model costs anyway."""


class AttackRun:
    """One pass over the images; what it found is there after :meth:`run`.

    Attributes
    ----------
    levels
        The images rounded to 8 bits, (n, C, H, W): what is attacked.
    rounding
        Largest change (n,) of a value by that, in 1/255.
    predicted
        Class (n,) of each, which has to stay.
    explained
        Class (n,) whose maps are to move: images that are predicted as another are not attacked.
    correct
        Whether (n,) no label says otherwise.
    rows
        Images that are attacked.
    budget
        Gradients for each image and ε.
    """

    def __init__(
        self,
        asked: Request,
        classifier: Classifier,
        pixels: Tensor,
        *,
        batch: int,
        device: str,
        watch: Progress | None,
    ) -> None:
        self.asked, self.classifier, self.batch, self.device = asked, classifier, batch, device
        self.watch, self.clock = watch, Clock()
        self.meter = Meter(watch=watch.advance if watch else None)
        self.levels = to_levels(pixels)
        self.rounding = (255 * pixels.double() - self.levels).abs().flatten(1).amax(dim=1)
        self.predicted = torch.zeros(len(pixels), dtype=torch.int64)
        self.explained = self.predicted
        self.correct = torch.ones(len(pixels), dtype=torch.bool)
        self.rows: list[int] = []
        self.budget = 0
        self.searches: tuple[str, ...] = ()
        self.choice: OracleChoice | None = None
        self._oracle: Oracle = ORACLES["difference"]
        self.book = Book(asked.epsilons, len(pixels))
        shape, sizes = tuple(pixels.shape), len(asked.epsilons)
        self.arrays: dict[str, npt.NDArray[Any]] = {
            "clean": self.levels.numpy(),
            "perturbed": np.zeros((sizes, *shape), np.uint8),
            "map_before": np.zeros(shape, np.float32),
            "map_after": np.zeros((sizes, *shape), np.float32),
            "attacked": np.zeros(shape[0], bool),
            "kept": np.zeros((sizes, shape[0]), bool),
        }

    def run(self, labels: tuple[int, ...] | None, target: Target) -> None:
        """Predict, choose the images whose label and explained class agree, and attack them."""
        x = from_levels(self.levels)
        self.predicted = self._evaluator("scoring").logits(x).argmax(dim=1)
        self.explained = explained_classes(target, self.predicted, labels)
        if labels is not None:
            self.correct = self.predicted == torch.tensor(labels)
        targets, usable = self._targets()
        self.rows = usable.nonzero()[:, 0].tolist()
        self.arrays["attacked"][self.rows] = True
        self._plan(targets)
        if self.watch:
            each = len(self.asked.epsilons) * self.budget + len(CHANGES) * self.asked.samples
            self.watch.start(len(self.rows) * each)
            self.watch.task(self.asked.attack)
        size = self._at_once()
        for first in range(0, len(self.rows), size):
            rows = self.rows[first : first + size]
            self._attack(rows, targets if targets is None or len(targets) == 1 else targets[rows])

    @property
    def another_class(self) -> Tensor:
        """Which images (n,) are predicted as another class than the explained one, and rightly."""
        return self.correct & (self.predicted != self.explained)

    def _evaluator(self, probe: str) -> TimedEvaluator:
        return TimedEvaluator(
            model=self.classifier,
            batch=self.batch,
            device=self.device,
            probe=probe,
            meter=self.meter,
            clock=self.clock,
        )

    def _subject(self, rows: list[int]) -> Subject:
        return Subject(
            x=from_levels(self.levels[rows]),
            target=self.explained[rows],
            images=tuple(rows),
            k=self.asked.k,
            seed=self.asked.seed,
            method=self.asked.method,
        )

    def _problem(self, probe: str, subject: Subject, clean: Clean) -> Problem:
        asked = self.asked
        problem = subject.problem(
            self._evaluator(probe),
            clean=clean,
            sigma=asked.sigma,
            samples=asked.search_samples,
            select_samples=asked.select_samples,
            ball=NORMS[asked.norm],
        )
        return problem.at([epsilon / 255 for epsilon in asked.epsilons])

    def _shown(self, rows: list[int]) -> tuple[Tensor, Tensor]:
        """Maps of the clean images under two independent noises."""
        maps = clean_maps(
            self._evaluator("scoring"),
            self._subject(rows),
            sigma=self.asked.sigma,
            samples=self.asked.samples,
        )
        return maps.shown, maps.fresh

    def _targets(self) -> tuple[Tensor | None, Tensor]:
        """Target of each image, or one for all, and which images can be attacked."""
        usable = self.correct & ~self.another_class
        if self.asked.attack != "manipulation" or self.asked.toward is not None:
            return self.asked.toward, usable
        parts = torch.split(torch.arange(len(self.levels)), self._at_once())
        maps = torch.cat([magnitude(self._shown(part.tolist())[0]).float() for part in parts])
        following = maps.roll(-1, dims=0)
        return as_targets(following), usable & ~no_target(following)

    def _at_once(self) -> int:
        """Images that are attacked together."""
        return 4 if self.levels[0, 0].numel() >= LARGE_INPUT else 32

    def _plan(self, targets: Tensor | None) -> None:
        """Choose the oracle on the first images; it decides how many steps the budget allows."""
        asked, rows = self.asked, self.rows[: min(PROBED, self.batch)]
        if asked.attack == "random-signs" or not rows:
            return
        subject = self._subject(rows)
        clean = Clean(maps=self._shown(rows)[0], k=asked.k)
        problem = self._problem("oracle", subject, clean).take(torch.arange(len(rows)))
        own = targets if targets is None or len(targets) == 1 else targets[rows]
        self._oracle, self.choice = choose_oracle(
            asked.oracle, problem, asked.objective(own), self._evaluator("oracle")
        )
        if self.choice.gradients.keys() - {"difference"}:  # a surrogate works, and was timed
            left = kinks_left(self.classifier, subject.x[:1].to(self.device))
            self.choice = dataclasses.replace(self.choice, kinks_left=left)
        attacker = asked.attacker(own, self._oracle)
        self.budget = asked.spend(attacker)
        self.searches = describe_searches(attacker, self.budget, asked.fees)

    def _attack(self, rows: list[int], target: Tensor | None) -> None:
        asked = self.asked
        subject = self._subject(rows)
        shown, fresh = self._shown(rows)
        clean = Clean(maps=shown, k=asked.k)
        objective = asked.objective(target)
        goal = {GOALS[asked.attack]: objective} if asked.attack in GOALS else {}
        signs = self._signs(subject)
        found = signs
        if asked.attack != "random-signs":
            found = self._search(self._problem("attack", subject, clean), rows, target)
        levels, lost = self._rounded(self._problem("scoring", subject, clean), objective, found)
        reference = Reference(shown, asked.k)
        clean_levels = self.levels[rows]
        self.arrays["map_before"][rows] = shown.numpy()
        for index in range(len(asked.epsilons)):
            part = slice(index * len(rows), (index + 1) * len(rows))
            none = torch.zeros(len(rows), dtype=torch.bool)
            still = _metrics(reference, fresh, goal, clean)
            self.book.stage("no_attack", index, rows, still, none)
            for stage, x, gone in (
                ("attacked", subject.x + found[part].nan_to_num(), _missing(found[part])),
                ("eight_bits", from_levels(levels[part]), lost[part]),
                ("random_signs", subject.x + signs[part].nan_to_num(), _missing(signs[part])),
            ):
                moved, kept = self._explained(subject, x)
                values = _metrics(reference, moved, goal, clean)
                if stage == "eight_bits":
                    change = (levels[part].double() - clean_levels).flatten(1)
                    values["largest_change"] = change.abs().amax(dim=1)
                    values["length"] = change.norm(dim=1)
                    self.arrays["perturbed"][index, rows] = levels[part].numpy()
                    self.arrays["map_after"][index, rows] = moved.numpy()
                    self.arrays["kept"][index, rows] = (kept & ~gone).numpy()
                self.book.stage(stage, index, rows, values, gone | ~kept)
        self._transfer(subject, rows, levels, lost)
        changes = natural_maps(
            self._evaluator("natural"), subject, sigma=asked.sigma, samples=asked.samples
        )
        for name, moved, lost in changes:
            self.book.change(name, rows, _metrics(reference, moved, goal, clean), lost)

    def _search(self, problem: Problem, rows: list[int], target: Tensor | None) -> Tensor:
        """Perturbations of the problem's rows, ``nan`` where nothing keeps the label."""
        attacker = self.asked.attacker(target, self._oracle)
        if isinstance(attacker, Strongest):
            best = attacker.run(problem, budget=self.budget)
            found, by = best.found, best.by
        else:
            alone = attacker.within(self.budget, problem.fees).run(problem)
            found, _ = inherit(problem, alone)
            by = torch.zeros(len(problem), dtype=torch.int64).masked_fill(~found.feasible, -1)
        for place, member in enumerate(by.tolist()):
            index, row = divmod(place, len(rows))
            self.book.winner(index, rows[row], member if member >= 0 else None)
        return found.candidate

    def _signs(self, subject: Subject) -> Tensor:
        """The control: random signs of the largest size that the ball allows."""
        share = math.sqrt(subject.x[0].numel()) if self.asked.norm == "l2" else 1.0
        radii = [torch.full((len(subject.x),), e / 255 / share) for e in self.asked.epsilons]
        scoring = self._evaluator("scoring")
        return torch.cat([random_signs_kept(scoring, subject, radius) for radius in radii])

    def _rounded(
        self, problem: Problem, objective: Objective, found: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Levels of the best of three roundings, and where (B,) none keeps the label."""
        clean = to_levels(problem.x)
        tried = []
        for up in ROUNDINGS.values():
            levels = rounded(clean, found.nan_to_num(), problem.epsilon, ball=problem.ball, up=up)
            delta = from_levels(levels) - problem.x
            tried.append(delta.masked_fill(_missing(found).reshape(-1, 1, 1, 1), torch.nan))
        best, _ = inherit(problem, choose(problem, objective, tuple(tried)))
        return to_levels(problem.x + best.delta), ~best.feasible

    def _transfer(self, subject: Subject, rows: list[int], levels: Tensor, lost: Tensor) -> None:
        """Other explanations of the images as their files hold them."""
        moved = from_levels(levels).masked_fill(lost.reshape(-1, 1, 1, 1), torch.nan)
        deltas = {"": torch.zeros_like(subject.x)} | {
            f"{index}": x - subject.x for index, x in enumerate(torch.split(moved, len(rows)))
        }
        found = method_matrix(
            self._evaluator("scoring"), subject, methods=self.asked.transfer_to, deltas=deltas
        )
        for (index, name), values in found.items():
            values["cosine"] = 1 - values["cosine_distance"]
            self.book.transfer(name, int(index) if index else None, rows, values)

    def _explained(self, subject: Subject, x: Tensor) -> tuple[Tensor, Tensor]:
        """Maps of images under noise that no attack saw, and whether (B,) the label is kept."""
        explain = subject.explainer(
            self._evaluator("scoring"),
            sigma=self.asked.sigma,
            samples=self.asked.samples,
            stream=FRESH,
        )
        maps, logits = explain(x, rows=torch.arange(len(x)), draw=0)
        return maps, logits.argmax(dim=1) == subject.target


def _metrics(
    reference: Reference, moved: Tensor, goals: dict[str, Objective], clean: Clean
) -> dict[str, Tensor]:
    drift = reference.drift(moved)
    gone = is_zero(moved) & ~is_zero(reference.clean_raw)
    return {
        "topk_intersection": drift["topk_intersection"].masked_fill(gone, 0.0),
        "center_shift": drift["center_shift"],
        "cosine": 1 - drift["cosine_distance"],
        "spearman": drift["spearman"],
        **{name: -goal.score(moved, clean) for name, goal in goals.items()},
    }


def _missing(delta: Tensor) -> Tensor:
    return delta.flatten(1).isnan().any(dim=1)
