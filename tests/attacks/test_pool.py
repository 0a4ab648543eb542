from __future__ import annotations

import dataclasses
import functools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from attacks import (
    Boundary,
    Fees,
    Found,
    MassCenter,
    Problem,
    Search,
    choose,
    merge,
    overlap,
    project,
)
from attacks.pool import KEEP, Pool, choice_cost

from .subjects import EPSILON, SHAPE, Subject

ROWS = 3
scores = st.sampled_from([0.0, 0.1, 0.2, 0.3, 0.4, math.inf])
offers = st.lists(st.lists(scores, min_size=ROWS, max_size=ROWS), max_size=8)
subsets = st.lists(st.sets(st.integers(0, ROWS - 1), min_size=1), min_size=8, max_size=8)


def marked(number: int, rows: Tensor) -> Tensor:
    """A perturbation that tells which offer it was, and for which row."""
    return (10.0 * number + rows).reshape(-1, 1, 1, 1).expand(-1, *SHAPE)


@functools.cache
def arena(sigma: float) -> Problem:
    return Subject.small(0, ROWS).problem(0.1, sigma=sigma)


@pytest.mark.parametrize("sigma", [0.0, 0.1])
@given(offered=offers, live=subsets)
def test_the_pool_keeps_the_best_of_each_row(sigma, offered, live):
    """One without noise, three with it; the earlier one of equals; never an infeasible one."""
    pool = Pool(arena(sigma), Boundary())
    keep = KEEP if sigma else 1
    assert len(pool.scores) == keep
    offers: dict[int, list[tuple[float, int]]] = {row: [] for row in range(ROWS)}
    for number, (values, alive) in enumerate(zip(offered, live, strict=False)):
        rows = torch.tensor(sorted(alive))
        pool.offer(rows, marked(number, rows), torch.tensor(values, dtype=torch.float64)[rows])
        for row in alive:
            if math.isfinite(values[row]):
                offers[row].append((values[row], number))
    first = pool.first(torch.arange(ROWS), torch.full((ROWS, *SHAPE), -1.0))
    for row in range(ROWS):
        best = sorted(offers[row])[:keep]
        held = [score for score in pool.scores[:, row].tolist() if math.isfinite(score)]
        assert sorted(held) == [score for score, _ in best]
        if not best:
            assert (first[row] == -1).all()
            continue
        number, of = divmod(int(first[row, 0, 0, 0]), 10)
        assert of == row
        assert (best[0][0], number) in offers[row]
        if keep == 1:
            assert number == best[0][1]


def test_without_noise_the_last_iterate_competes_and_nothing_else_is_looked_at():
    subject = Subject.small(1, 4)
    problem = subject.problem(EPSILON)
    pool = Pool(problem, MassCenter())
    early = problem.start(0)
    maps, kept = problem.look(early, draw=0)
    pool.offer(
        torch.arange(4), early, MassCenter().score(maps, problem.clean).where(kept, math.inf)
    )
    subject.forget()
    last = problem.start(1)[[1, 3]]
    found = pool.best(torch.tensor([1, 3]), last)
    assert [look.rows.tolist() for look in subject.searched] == [[1, 3]]
    moved, _ = subject.maps(subject.x[[1, 3]] + last, torch.tensor([1, 3]))
    end = MassCenter().score(moved, problem.clean.rows(torch.tensor([1, 3])))
    start = MassCenter().score(maps, problem.clean)
    expected = start.clone()
    expected[[1, 3]] = torch.minimum(start[[1, 3]], end)
    assert torch.equal(found.score, expected)
    won = end < start[[1, 3]]
    assert torch.equal(
        found.delta[[1, 3]], torch.where(won.reshape(-1, 1, 1, 1), last, early[[1, 3]])
    )
    assert torch.equal(found.delta[[0, 2]], early[[0, 2]])


@pytest.mark.parametrize("sigma", [0.0, 0.1])
def test_the_choice_costs_what_it_says(sigma):
    subject = Subject.small(2, 3)
    problem = subject.problem(EPSILON, sigma=sigma, select_samples=8)
    pool, everything = Pool(problem, Boundary()), torch.arange(3)
    for number in range(5):
        pool.offer(everything, problem.start(number), torch.rand(3, dtype=torch.float64))
    pool.best(everything, problem.start(9))
    assert choice_cost(problem.fees) == subject.spent(problem) == (4 * 8 if sigma else 1)
    assert choice_cost(Fees(select_samples=8, noisy=True)) == (KEEP + 1) * 8


def test_candidates_are_projected_and_win_only_where_they_are_better_and_keep_the_label():
    subject = Subject.small(3, 4)
    problem = subject.problem(EPSILON)
    weak, strong = problem.start(0), Search(steps=30).run(problem).delta
    candidate = strong.clone()
    candidate[1] = torch.nan
    candidate[2] = 4 * strong[2]  # outside of the ball
    inside = project(problem.x, candidate, problem.epsilon)[2]
    found = choose(problem, Boundary(), (weak, candidate))
    assert found.feasible.all()
    assert torch.equal(found.delta[[0, 3]], strong[[0, 3]])
    assert torch.equal(found.delta[1], weak[1])
    assert torch.equal(found.delta[2], inside) or torch.equal(found.delta[2], weak[2])
    alone = choose(problem, Boundary(), (candidate,))
    assert alone.feasible.tolist() == [True, False, True, True]
    assert torch.equal(alone.delta[2], inside)

    honest = problem.explain

    def explain(x: Tensor, *, rows: Tensor, draw: int) -> tuple[Tensor, Tensor]:
        """Image 0 loses its label at one perturbation."""
        maps, logits = honest(x, rows=rows, draw=draw)
        for row, (image, pixels) in enumerate(zip(rows.tolist(), x, strict=True)):
            if image == 0 and torch.equal(pixels, subject.x[0] + strong[0]):
                logits[row, subject.target[0]] = -torch.inf
        return maps, logits

    refused = choose(dataclasses.replace(problem, explain=explain), Boundary(), (weak, candidate))
    assert torch.equal(refused.delta[0], weak[0])
    assert torch.equal(refused.delta[3], strong[3])


def test_of_equals_the_first_candidate_wins():
    subject = Subject.small(4, 3)
    problem = subject.problem(0.0001)
    one, two = problem.start(1), problem.start(2)
    assert torch.equal(choose(problem, Boundary(), (one, two)).delta, one)
    assert torch.equal(choose(problem, Boundary(), (two, one)).delta, two)


def test_all_candidates_are_judged_under_the_same_noise_that_no_search_saw():
    subject = Subject.small(5, 3)
    problem = subject.problem(EPSILON, sigma=0.2)
    candidates = tuple(problem.start(i) for i in range(4))
    found = choose(problem, Boundary(), candidates)
    assert not subject.searched
    assert [look.draw for look in subject.selected] == [0] * 4
    assert problem.select is not None
    truth = [
        overlap(problem.select(problem.x + c, rows=problem.rows, draw=0)[0], problem.clean.top)
        for c in candidates
    ]
    assert torch.equal(found.score, torch.stack(truth).amin(dim=0))


found_scores = st.lists(
    st.one_of(st.just(math.nan), st.sampled_from([0.0, 0.25, 0.5])), min_size=ROWS, max_size=ROWS
)


@given(columns=st.lists(found_scores, min_size=1, max_size=4))
def test_merge_takes_the_best_of_each_row(columns):
    founds = []
    for number, values in enumerate(columns):
        score = torch.tensor(values, dtype=torch.float64)
        feasible = score.isfinite()
        delta = marked(number + 1, torch.arange(ROWS)) * feasible.reshape(-1, 1, 1, 1)
        founds.append(Found(delta=delta, score=score, feasible=feasible))
    merged = merge(tuple(founds))
    for row in range(ROWS):
        best = [(v[row], i) for i, v in enumerate(columns) if not math.isnan(v[row])]
        assert merged.feasible[row] == bool(best)
        if not best:
            assert merged.score[row].isnan()
            assert (merged.delta[row] == 0).all()
            assert merged.candidate[row].isnan().all()
            continue
        score, _ = min(best)
        assert merged.score[row] == score
        ties = [founds[i].delta[row] for s, i in best if s == score]
        assert any(torch.equal(merged.delta[row], delta) for delta in ties)
        assert torch.equal(merged.candidate[row], merged.delta[row])
