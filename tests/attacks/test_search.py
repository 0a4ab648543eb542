from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from attacks import (
    L2,
    Annealed,
    Apgd,
    Boundary,
    Clean,
    Difference,
    DoubleBackward,
    Fees,
    FixedSign,
    Linf,
    MassCenter,
    Problem,
    Search,
    SurrogateDifference,
    overlap,
)

from .subjects import EPSILON, SHAPE, Subject

RULES = [Annealed(), FixedSign(), Apgd()]
BALLS = [Linf(), L2()]
every_rule = pytest.mark.parametrize("rule", RULES, ids=lambda rule: type(rule).__name__)
every_ball = pytest.mark.parametrize("ball", BALLS, ids=lambda ball: type(ball).__name__)


def judged(subject: Subject, problem: Problem, delta: Tensor) -> tuple[Tensor, Tensor]:
    """Overlap and whether the label is kept, evaluated anew."""
    maps, logits = subject.maps(problem.x + delta, problem.rows)
    return overlap(maps, problem.clean.top), logits.argmax(dim=1) == problem.target


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


@every_ball
def test_the_trap_iterates_stay_in_ball_and_box_for_every_image(ball):
    """Traps: the step projected instead of the sum, and the clamp applied to image 0 only.

    Thirty steps of ε in one direction leave the ball and the box unless the sum is projected, and
    every image has pixels at both ends of the range.
    """
    subject = Subject.small(20, 5)
    subject.x[:, :, :2], subject.x[:, :, 2:4] = 0.0, 1.0
    subject.target = subject.model(subject.x).argmax(dim=1)
    problem = subject.problem(0.1, 0.3, ball=ball)
    push = torch.ones((1, 5, *SHAPE)).expand(30, -1, -1, -1, -1)
    Search(steps=30, rule=FixedSign(length=1.0), oracle=Scripted(push)).run(problem)
    assert len(subject.searched) >= 30
    for look in subject.searched[:30]:
        assert ((look.x >= 0) & (look.x <= 1)).all()
        rows, index = look.rows, torch.arange(len(look.x))
        epsilon = torch.where(index < len(look.x) / 2, 0.1, 0.3)
        delta = look.x - subject.x[rows]
        size = (
            delta.abs().flatten(1).amax(dim=1)
            if isinstance(ball, Linf)
            else delta.flatten(1).norm(dim=1)
        )
        # Float32: δ is recovered from x + δ, which rounds by 6e-8 for each pixel.
        assert (size <= epsilon + 1e-6).all()


def test_the_trap_iterates_are_no_integers():
    """Trap: iterates cast to int. Steps of a tenth of a gray level must add up."""
    subject = Subject.small(21, 3)
    subject.x = 0.3 + 0.4 * subject.x
    problem = subject.problem(1 / 255)
    push = torch.ones((1, 3, *SHAPE)).expand(4, -1, -1, -1, -1)
    zero = torch.zeros_like(subject.x)
    Search(steps=4, rule=FixedSign(), oracle=Scripted(push)).run(problem, start=zero)
    for number, look in enumerate(subject.searched):
        expected = torch.full_like(zero, -0.1 * number / 255)
        torch.testing.assert_close(look.x - subject.x, expected, rtol=0, atol=1e-7)


def test_the_trap_restarts_are_different_searches():
    """Trap: restarts without a random start repeat one and the same search."""
    subject = Subject.small(22, 8)
    problem = subject.problem(EPSILON)
    founds = [Search(steps=10, restart=restart).run(problem) for restart in range(3)]
    for one in range(3):
        for other in range(one):
            different = (founds[one].delta != founds[other].delta).flatten(1).any(dim=1)
            assert different.all()
    best = torch.stack([found.score for found in founds]).amin(dim=0)
    # They pay: the best of three is lower than any one of them.
    assert all(best.mean() < found.score.mean() for found in founds)


def test_the_trap_mass_center_needs_a_random_start():
    """Trap: the gradient is zero at the clean image, so that a search from there never moves."""
    subject = Subject.small(23, 8)
    problem = subject.problem(EPSILON)
    search = Search(steps=20, objective=MassCenter())
    stuck = search.run(problem, start=torch.zeros_like(subject.x))
    assert not stuck.delta.any()
    assert (stuck.score == 0).all()
    moved = search.run(problem)
    random = dataclasses.replace(search, steps=0).run(problem)
    assert moved.feasible.all()
    assert (moved.score < 2 * random.score).all()  # shifts count as negative scores


@every_rule
def test_the_trap_the_winner_is_the_best_iterate_and_not_the_last(rule):
    """Trap: the last iterate returned instead of the best."""
    steps, later = 12, 0
    for seed in range(4):
        subject = Subject.small(seed, 12)
        problem = subject.problem(0.5)
        found = Search(steps=steps, rule=rule, objective=Endless()).run(problem)
        iterates = [look.x for look in subject.searched[: 2 * steps + 1 : 2]]
        overlaps, kept = zip(
            *(judged(subject, problem, x - problem.x) for x in iterates), strict=True
        )
        every = torch.stack(overlaps).where(torch.stack(kept), torch.inf)
        best = every.amin(dim=0)
        assert torch.equal(found.score, best.where(best.isfinite(), torch.nan))
        later += int((every[-1] > best).sum())
    # The trap would show; Auto-PGD goes back to its best at the end.
    assert later > 0 or isinstance(rule, Apgd)


@every_rule
def test_the_trap_labels_are_checked(rule):
    """Trap: the label is not checked. Here it is lost wherever the overlap is below .6."""
    subject = Subject.small(25, 12)
    problem = subject.problem(EPSILON)
    free = Search(steps=20, rule=rule).run(problem)
    assert (free.score < 0.55).any()  # the trap would show
    honest = problem.explain

    def explain(x: Tensor, *, rows: Tensor, draw: int) -> tuple[Tensor, Tensor]:
        maps, logits = honest(x, rows=rows, draw=draw)
        low = overlap(maps, problem.clean.top[rows]) < 0.55
        logits[low, subject.target[rows][low]] = -torch.inf
        return maps, logits

    found = Search(steps=20, rule=rule).run(dataclasses.replace(problem, explain=explain))
    assert found.feasible.all()
    assert (found.score >= 0.55).all()
    assert torch.equal(found.score, judged(subject, problem, found.delta)[0])


def test_the_trap_a_distance_is_to_be_large():
    """Trap: the best by a distance with the wrong sign. The winner shifts the center furthest."""
    subject = Subject.small(24, 6)
    problem, steps = subject.problem(EPSILON), 8
    found = Search(steps=steps, objective=MassCenter()).run(problem)
    shifts = []
    for look in subject.searched[: 2 * steps + 1 : 2]:
        moved, _ = subject.maps(look.x, look.rows)
        center = [Clean(maps=maps, k=1).center for maps in (moved, problem.clean.maps)]
        shifts.append((center[0] - center[1]).norm(dim=1))
    torch.testing.assert_close(-found.score, torch.stack(shifts).amax(dim=0))


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


@every_rule
def test_an_overlap_of_zero_ends_a_row_early_with_the_same_result(rule):
    """Nothing can be lower: fewer maps are looked at, and what is found is the same."""
    subject, steps = Subject.small(1, 10), 25
    subject.k = 2
    problem = subject.problem(EPSILON, EPSILON / 8)
    early = Search(steps=steps, rule=rule).run(problem)
    spent = subject.spent(problem)
    late = Search(steps=steps, rule=rule, objective=Endless()).run(problem)
    done = early.score == 0
    assert 0 < done.sum() < len(problem)
    assert torch.equal(early.delta, late.delta)
    assert torch.equal(early.score.nan_to_num(2), late.score.nan_to_num(2))
    full = Search(steps=steps).cost(problem.fees)
    assert subject.spent(problem) == full
    assert spent < full


def test_a_row_that_is_done_is_looked_at_no_more():
    subject = Subject.small(1, 10)
    subject.k = 2
    problem = subject.problem(EPSILON)
    Search(steps=25).run(problem)
    done: set[int] = set()
    for look in subject.searched[::2]:
        assert not done & set(look.rows.tolist())
        maps, logits = subject.maps(look.x, look.rows)
        zero = overlap(maps, problem.clean.rows(look.rows).top) == 0
        zero &= logits.argmax(dim=1) == subject.target[look.rows]
        done |= set(look.rows[zero].tolist())
    assert done


@pytest.mark.parametrize("oracle", [Difference(), SurrogateDifference(), DoubleBackward()])
@pytest.mark.parametrize("steps", [0, 1, 7])
def test_a_search_costs_what_it_says(oracle, steps):
    """Counted by calls; no row loses its label or ends early in so small a ball."""
    subject = Subject.small(10, 4)
    problem = subject.problem(EPSILON / 8, EPSILON / 16)
    search = Search(steps=steps, oracle=oracle)
    search.run(problem)
    assert not subject.margins
    assert subject.spent(problem) == search.cost(problem.fees)


@pytest.mark.parametrize("steps", [3, 7])
def test_a_noisy_search_costs_what_it_says(steps):
    subject = Subject.small(10, 4)
    problem = subject.problem(EPSILON / 8, sigma=0.05, samples=3, select_samples=5)
    search = Search(steps=steps)
    search.run(problem)
    assert not subject.margins
    assert subject.spent(problem) == search.cost(problem.fees)


@pytest.mark.parametrize("oracle", [Difference(), SurrogateDifference(), DoubleBackward()])
@pytest.mark.parametrize("sigma", [0.0, 0.05])
@settings(max_examples=8)
@given(steps=st.integers(0, 6), size=st.sampled_from([0.01, 0.1, 0.4]))
def test_a_search_never_costs_more(oracle, sigma, steps, size):
    """Gradients that bring a lost label back come on top, and are not in the count."""
    subject = Subject.small(11, 3)
    problem = subject.problem(size, sigma=sigma, samples=2, select_samples=3)
    search = Search(steps=steps, oracle=oracle)
    search.run(problem)
    assert subject.spent(problem) <= search.cost(problem.fees)


@pytest.mark.parametrize("oracle", [Difference(), SurrogateDifference(), DoubleBackward()])
@given(
    budget=st.floats(0, 2000),
    samples=st.integers(1, 20),
    select_samples=st.integers(1, 60),
    noisy=st.booleans(),
)
def test_a_budget_allows_the_most_steps_that_fit(oracle, budget, samples, select_samples, noisy):
    fees = Fees(samples=samples, select_samples=select_samples, noisy=True) if noisy else Fees()
    search = Search(oracle=oracle, restart=3)
    least = dataclasses.replace(search, steps=1).cost(fees)
    if budget < least:
        with pytest.raises(ValueError, match=f"too small for one step: at least {least:g}"):
            search.within(budget, fees)
        return
    fitting = search.within(budget, fees)
    assert fitting == dataclasses.replace(search, steps=fitting.steps)
    assert fitting.cost(fees) <= budget
    assert dataclasses.replace(search, steps=fitting.steps + 1).cost(fees) > budget
    assert search.within(least, fees).steps == 1
    assert search.within(fitting.cost(fees), fees) == fitting
