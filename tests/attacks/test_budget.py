"""What a search spends, and when it stops early."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from attacks import (
    Difference,
    DoubleBackward,
    Fees,
    Search,
    SurrogateDifference,
    overlap,
)

from .subjects import (
    EPSILON,
    Endless,
    Subject,
    every_rule,
)


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


def test_a_zero_by_the_noise_of_a_search_ends_nothing():
    """It may be luck: other noise tells, and by other noise it often is none."""
    subject, steps = Subject.small(1, 6), 10
    subject.k = 2
    problem = subject.problem(EPSILON, sigma=0.2, samples=2, select_samples=8)
    found = Search(steps=steps).run(problem)
    _, *both = tuple(subject.searched)  # the first is what the first step aims by
    assert [len(look.rows) for look in both] == [12] * steps
    zero = torch.zeros(6, dtype=torch.bool)
    for look in both:
        maps, _ = problem.explain(look.x, rows=look.rows, draw=look.draw)
        zero |= overlap((maps[:6] + maps[6:]) / 2, problem.clean.top) == 0
    assert zero.any()
    assert (found.score[zero] > 0).any()


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
