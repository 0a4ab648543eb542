from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from attacks import (
    Annealed,
    Linf,
    Search,
    overlap,
)

from .subjects import (
    EPSILON,
    SHAPE,
    Scripted,
    Subject,
    every_ball,
    every_rule,
    judged,
)


@every_ball
@every_rule
@settings(max_examples=12)
@given(seed=st.integers(0, 2**31), size=st.floats(0, 0.5, width=32))
def test_winners_keep_the_label_inside_ball_and_box(ball, rule, seed, size):
    """Two ε share the batch; the length of an ℓ₂ ball is that of 128 values."""
    subject = Subject.small(seed, 2)
    scale = 1.0 if isinstance(ball, Linf) else math.sqrt(128)
    problem = subject.problem(size * scale, size * scale / 3, ball=ball)
    found = Search(steps=5, rule=rule).run(problem)
    if isinstance(ball, Linf):
        assert (found.delta.abs() <= problem.epsilon.reshape(-1, 1, 1, 1)).all()
    else:  # float32: the length of 128 values
        assert (found.delta.flatten(1).norm(dim=1) <= problem.epsilon * (1 + 1e-5)).all()
    assert (problem.x + found.delta >= 0).all()
    assert (problem.x + found.delta <= 1).all()
    measured, kept = judged(subject, problem, found.delta)
    assert kept[found.feasible].all()
    assert torch.equal(found.score[found.feasible], measured[found.feasible])
    assert found.score[~found.feasible].isnan().all()
    assert (found.delta[~found.feasible] == 0).all()


@pytest.mark.parametrize("only", [0, 3, 6])
def test_start_and_last_iterate_take_part(only):
    """One iterate of the search keeps the label; it must be the one that is returned."""
    subject, steps = Subject.small(6, 2), 6
    problem, wanted = subject.problem(0.05), []
    honest, scripted = problem.explain, Scripted(torch.randn((6, 2, *SHAPE)))
    calls = []

    def explain(x: Tensor, *, rows: Tensor, draw: int) -> tuple[Tensor, Tensor]:
        maps, logits = honest(x, rows=rows, draw=draw)
        calls.append(draw)
        if len(calls) - 1 == only:
            wanted.append(x.clone())
        if len(calls) - 1 != only:
            logits[:] = 0
            logits.scatter_(1, (subject.target[rows][:, None] + 1) % 5, 1.0)
        return maps, logits

    problem = dataclasses.replace(problem, explain=explain)
    found = Search(steps=steps, oracle=scripted).run(problem)
    assert len(calls) == steps + 1
    assert found.feasible.all()
    torch.testing.assert_close(subject.x + found.delta, wanted[0], rtol=0, atol=0)


@every_ball
def test_without_steps_the_start_is_returned(ball):
    subject = Subject.small(7, 3)
    problem = subject.problem(0.01, ball=ball)
    assert torch.equal(Search(steps=0, restart=2).run(problem).delta, problem.start(2))
    given = torch.full_like(subject.x, 0.02)
    inside = ball.project(problem.x, given, problem.epsilon)
    assert torch.equal(Search(steps=0).run(problem, start=given).delta, inside)


@pytest.mark.parametrize("noisy", [False, True])
def test_an_image_that_keeps_no_label_is_infeasible_whatever_its_batch(noisy):
    """It must not inherit a zero perturbation, which would count it as robust."""
    subject = Subject.small(4, 3)
    problem = subject.problem(EPSILON, sigma=0.05 if noisy else 0.0)

    def away(x: Tensor, rows: Tensor, logits: Tensor) -> Tensor:
        """Image 1 keeps its class at the clean image only."""
        moved = (rows == 1) & (x != subject.x[rows]).flatten(1).any(dim=1)
        logits[moved, subject.target[1]] = -torch.inf
        return logits

    def relabeled(explain):
        def run(x: Tensor, *, rows: Tensor, draw: int) -> tuple[Tensor, Tensor]:
            maps, logits = explain(x, rows=rows, draw=draw)
            return maps, away(x, rows, logits)

        return run

    problem = dataclasses.replace(
        problem,
        explain=relabeled(problem.explain),
        select=relabeled(problem.select) if noisy else None,
        predict=lambda x: away(x, torch.arange(3), subject.model(x)),
    )
    found = Search(steps=4).run(problem)
    assert found.feasible.tolist() == [True, False, True]
    assert found.score.isnan().tolist() == [False, True, False]
    assert (found.delta[1] == 0).all()


def test_results_do_not_depend_on_the_batch():
    """A row alone is the row in a batch, and rows of several ε are each ε alone.

    At least 98% of the rows agree exactly, at every batch size. Float32 convolutions round
    differently for different batch sizes, which matters only where a tie or a kink is crossed;
    then later steps differ and so may the overlap.
    """
    subject, search = Subject.small(5, 30), Search(steps=15)
    both = search.run(subject.problem(EPSILON, EPSILON / 2))
    alone = [search.run(subject.problem(epsilon)) for epsilon in (EPSILON, EPSILON / 2)]
    same = torch.cat([found.score for found in alone]) == both.score
    assert same.double().mean() >= 0.98
    problem = subject.problem(EPSILON, EPSILON / 2)
    for size in (1, 7):
        parts = [search.run(problem.take(rows)) for rows in torch.arange(60).split(size)]
        same = torch.cat([found.score for found in parts]) == both.score
        assert same.double().mean() >= 0.98


def test_noisy_results_do_not_depend_on_the_batch():
    """As without noise, which belongs to an image and a draw."""
    subject, search = Subject.small(6, 10), Search(steps=5)
    problem = subject.problem(EPSILON, EPSILON / 2, sigma=0.1, samples=2, select_samples=4)
    both = search.run(problem)
    parts = [search.run(problem.take(rows)) for rows in torch.arange(20).split(1)]
    same = torch.cat([found.score for found in parts]) == both.score
    assert same.double().mean() >= 0.95


def test_noise_that_scores_is_never_searched_with():
    """The search draws from ``explain`` alone; ``select`` is asked afterwards, with one draw."""
    subject, steps = Subject.small(8, 4), 6
    problem = subject.problem(EPSILON, sigma=0.1)
    assert problem.select is not None
    calls: list[str] = []

    def called(name, explain):
        def run(x: Tensor, *, rows: Tensor, draw: int) -> tuple[Tensor, Tensor]:
            calls.append(name)
            return explain(x, rows=rows, draw=draw)

        return run

    found = Search(steps=steps).run(
        dataclasses.replace(
            problem,
            explain=called("search", problem.explain),
            select=called("select", problem.select),
        )
    )
    # Fresh noise at every step; both ends share it. The first step also looks at its start.
    assert [look.draw for look in subject.searched] == [0, 0, 1, 2, 3, 4, 5]
    # Three iterates and the last one, under the same noise.
    assert [look.draw for look in subject.selected] == [0] * 4
    assert calls == ["search"] * 7 + ["select"] * 4
    # The shortlist holds the three best by the noise of the search.
    searched = []
    for ends, iterate in zip(subject.searched[1:], subject.predicted, strict=True):
        maps, _ = problem.explain(ends.x, rows=ends.rows, draw=ends.draw)
        kept = subject.model(iterate).argmax(dim=1) == problem.target
        score = overlap((maps[:4] + maps[4:]) / 2, problem.clean.top)
        searched.append(score.where(kept, torch.inf))
    best = torch.stack(searched).topk(3, dim=0, largest=False).indices
    listed = torch.stack([look.x for look in subject.selected[:3]])
    for row in range(4):
        expected = [subject.predicted[i][row] for i in best[:, row].tolist()]
        scores = sorted(searched[i][row].item() for i in best[:, row].tolist())
        if scores[-1] < sorted(s[row].item() for s in searched)[3]:  # no tie for the third place
            assert all(any(torch.equal(x, y) for y in listed[:, row]) for x in expected)
    # The winner is the best of the four by the other noise.
    fresh = [
        overlap(problem.select(look.x, rows=look.rows, draw=0)[0], problem.clean.top)
        for look in subject.selected[:4]
    ]
    assert torch.equal(found.score, torch.stack(fresh).amin(dim=0))


@every_ball
def test_velocity_is_a_running_sum_of_directions_and_steps_have_its_unit(ball):
    """δ moves by length·ε along the unit of Σ momentumʲ·d/mean|d|, and the sum is projected."""
    subject = Subject.small(9, 3)
    problem = subject.problem(0.05, ball=ball)
    directions = torch.randn((4, 3, *SHAPE), generator=torch.Generator().manual_seed(0))
    directions[:, 1] *= 1e6  # a direction's size does not count
    rule = Annealed(first=0.5, last=0.1, momentum=0.6)
    Search(steps=4, rule=rule, oracle=Scripted(directions)).run(problem)
    assert not subject.margins  # no label was lost
    delta, velocity = problem.start(0), torch.zeros_like(problem.x)
    for number, look in enumerate(subject.searched):
        torch.testing.assert_close(look.x, problem.x + delta, rtol=0, atol=1e-6)
        if number < 4:
            d = directions[number]
            velocity = 0.6 * velocity + d / d.abs().flatten(1).mean(dim=1).reshape(-1, 1, 1, 1)
            if isinstance(ball, Linf):
                unit = velocity.sign()
            else:
                unit = velocity / velocity.flatten(1).norm(dim=1).reshape(-1, 1, 1, 1)
            step = 0.05 * 0.5 * 0.2 ** (number / 3) * unit
            delta = ball.project(problem.x, delta - step, problem.epsilon)


def test_a_lost_label_is_recovered_along_the_margin():
    """The images that lost their label, and they alone, step up their margin."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(128, 2))
    weight = torch.randn(128, generator=torch.Generator().manual_seed(0))
    model[1].weight.data = torch.stack([weight, -weight])
    # Gray images lie just on the right side of the decision boundary.
    model[1].bias.data = torch.tensor([0.01, -0.01]) - 0.5 * model[1].weight.data.sum(dim=1)
    model.requires_grad_(False)
    subject = Subject(model, torch.full((6, *SHAPE), 0.5), torch.zeros(6, dtype=torch.int64))
    problem = subject.problem(0.1)
    found = Search(steps=8).run(problem)
    start, after = subject.searched[0].x, subject.searched[2].x
    lost = (model(start).argmax(dim=1) != 0).nonzero()[:, 0].tolist()
    assert 0 < len(lost) < 6
    assert subject.margins[0].tolist() == lost
    # The margin grows along w − (−w), with all of the first step.
    moved = (start + 0.1 / 3 * weight.sign().reshape(SHAPE)).clamp(0.4, 0.6)
    torch.testing.assert_close(after[lost], moved[lost], rtol=0, atol=1e-6)
    assert found.feasible.all()
    assert judged(subject, problem, found.delta)[1].all()
