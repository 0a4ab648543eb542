from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from attacks import Annealed, Boundary, Fees, RandomSearch, Search, Strongest, random_signs
from tests.attacks.subjects import BALLS, EPSILON, Subject, every_ball, generators


@given(
    ball=st.sampled_from(BALLS),
    epsilon=st.sampled_from([1 / 255, 8 / 255, 0.5]),
    seed=st.integers(0, 100),
)
@settings(max_examples=20, deadline=None)
def test_what_it_finds_is_allowed_and_keeps_the_label(ball, epsilon, seed):
    subject = Subject.small(seed, 3)
    problem = subject.problem(epsilon, ball=ball)
    found = RandomSearch(steps=8).run(problem)
    delta = found.delta
    torch.testing.assert_close(ball.project(problem.x, delta, problem.epsilon), delta)
    assert problem.kept(delta)[found.feasible].all()
    maps, _ = problem.look(delta, draw=0)
    score = Boundary().score(maps, problem.clean)
    torch.testing.assert_close(score[found.feasible], found.score[found.feasible])


@every_ball
def test_it_moves_maps_more_than_random_signs_and_more_with_more_steps(ball):
    subject = Subject.small(0, 12)
    problem = subject.problem(EPSILON * (1 if ball == BALLS[0] else 8), ball=ball)
    signs = random_signs(problem.x, problem.epsilon, generators(problem.rows, 0))
    maps, _ = problem.look(ball.project(problem.x, signs, problem.epsilon), draw=0)
    control = Boundary().score(maps, problem.clean).mean()
    few, many = (RandomSearch(steps=steps).run(problem).score.mean() for steps in (10, 150))
    assert many < few < control
    assert control - many > 0.1


def test_it_draws_no_image_by_another():
    subject = Subject.small(1, 4)
    whole = RandomSearch(steps=12).run(subject.problem(EPSILON)).delta
    alone = RandomSearch(steps=12).run(subject.problem(EPSILON).take(torch.tensor([2]))).delta
    torch.testing.assert_close(whole[2:3], alone)


def test_restarts_differ():
    problem = Subject.small(1, 2).problem(EPSILON)
    first, second = (RandomSearch(steps=4, restart=r).run(problem).delta for r in (0, 1))
    assert not torch.equal(first, second)


@pytest.mark.parametrize("fees", [Fees(), Fees(samples=4, select_samples=8, noisy=True)])
def test_it_spends_what_it_says(fees):
    search = RandomSearch().within(100, fees)
    assert search.cost(fees) <= 100
    assert RandomSearch(steps=search.steps + 1).cost(fees) > 100
    with pytest.raises(ValueError, match="too small for one step"):
        RandomSearch().within(1, fees)


def test_it_is_a_member_like_any_other():
    problem = Subject.small(3, 4).problem(EPSILON)
    short = Search(rule=Annealed())
    best = Strongest(members=(short, RandomSearch()), polish=RandomSearch()).run(problem, budget=60)
    for member in best.members:
        assert (best.found.score <= member.score + 1e-9).all()


def test_a_start_can_be_given_and_is_kept_if_nothing_is_better():
    problem = Subject.small(2, 3).problem(EPSILON)
    strong = Search(steps=40).run(problem)
    found = RandomSearch(steps=5).run(problem, start=strong.delta)
    assert (found.score <= strong.score).all()
