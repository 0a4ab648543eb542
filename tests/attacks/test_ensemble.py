from __future__ import annotations

import dataclasses
import functools
import math
import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from attacks import (
    L2,
    POLISH,
    Annealed,
    Apgd,
    Boundary,
    Cosine,
    DoubleBackward,
    Fees,
    FixedSign,
    Found,
    Linf,
    Manipulation,
    Mass,
    MassCenter,
    Search,
    Strongest,
    as_target_map,
    choose,
    inherit,
    overlap,
)

from .subjects import EPSILON, Subject, images

MEMBERS = (
    Search(),
    Search(restart=1, rule=Apgd()),
    Search(objective=Mass(), oracle=DoubleBackward(), rule=FixedSign()),
    Search(objective=MassCenter(), rule=Annealed()),
)
FULL = Strongest(members=MEMBERS)
PLAIN, NOISY = Fees(), Fees(samples=3, select_samples=5, noisy=True)


def lost(found: Found) -> torch.Tensor:
    return found.score.nan_to_num(torch.inf)


@pytest.mark.parametrize("polish", [POLISH, None], ids=["polish", "none"])
@pytest.mark.parametrize("sigma", [0.0, 0.1])
def test_the_ensemble_is_the_worst_of_its_members_by_its_own_metric(sigma, polish):
    """Members with another objective count by the ensemble's metric, under the same noise."""
    subject = Subject.small(1, 8)
    problem = subject.problem(EPSILON, sigma=sigma, samples=3, select_samples=5)
    candidate = Search(steps=40, restart=9).run(problem).delta
    ensemble = dataclasses.replace(FULL, polish=polish)
    best = ensemble.run(problem, budget=ensemble.least(problem.fees), candidates=(candidate,))
    everything = (*best.members, choose(problem, Boundary(), (candidate,)))
    assert len(everything) == (5 if polish is None else 6)  # with four members
    scores = torch.stack([lost(found) for found in everything])
    assert torch.equal(best.found.score, scores.amin(dim=0))
    for number, found in enumerate(everything):
        assert (best.found.score <= lost(found)).all()
        assert torch.equal(best.found.delta[best.by == number], found.delta[best.by == number])
        # Its score is what the metric says of it, anew.
        explain = problem.select or problem.explain
        maps, logits = explain(problem.x + found.delta, rows=problem.rows, draw=0)
        assert torch.equal(found.score, overlap(maps, problem.clean.top))
        assert (logits.argmax(dim=1) == problem.target).all()
    # The candidate; or the polish, which goes on from there and is named if it gets no further.
    assert 4 in best.by


def test_two_targets_are_two_metrics():
    """A member that pulls towards another target is judged by the ensemble's, not by its own."""
    subject = Subject.small(2, 4)
    problem = subject.problem(EPSILON)
    one, two = (as_target_map(images(seed, 1).sum(dim=1)) for seed in (30, 31))
    metric = Manipulation(target=two)
    ensemble = Strongest(
        members=(Search(objective=Manipulation(target=one)), Search(objective=metric)),
        polish=None,
        metric=metric,
    )
    best = ensemble.run(problem, budget=60)
    for found in (*best.members, best.found):
        maps, _ = subject.maps(problem.x + found.delta, problem.rows)
        torch.testing.assert_close(found.score, metric.score(maps, problem.clean))


@settings(max_examples=10)
@given(
    seed=st.integers(0, 2**16),
    sizes=st.lists(st.sampled_from([0.001, 0.01, 0.05, 0.2, 0.5]), min_size=2, max_size=4),
    ball=st.sampled_from([Linf(), L2()]),
    sigma=st.sampled_from([0.0, 0.05]),
)
def test_a_larger_ball_is_never_weaker_for_any_image(seed, sizes, ball, sigma):
    """In whatever order the radii come, and within the ball of each row."""
    subject = Subject.small(seed, 3)
    problem = subject.problem(*sizes, ball=ball, sigma=sigma, samples=2, select_samples=2)
    ensemble = Strongest(members=(Search(), Search(objective=MassCenter())))
    best = ensemble.run(problem, budget=ensemble.least(problem.fees)).found
    scores, feasible = lost(best).reshape(-1, 3), best.feasible.reshape(-1, 3)
    for one, small in enumerate(sizes):
        for other, large in enumerate(sizes):
            if small <= large:
                assert (scores[other] <= scores[one]).all()
                assert (feasible[other] | ~feasible[one]).all()
    inside = ball.project(problem.x, best.delta, problem.epsilon)
    torch.testing.assert_close(inside, best.delta, rtol=1e-5, atol=0)


def test_one_step_alone_would_be_weaker_in_a_larger_ball():
    """So that it is the smaller ball's perturbation that makes the larger one no weaker."""
    subject = Subject.small(3, 40)
    problem = subject.problem(0.8 * EPSILON, EPSILON)
    best = Strongest(members=(Search(), Search(restart=1)), polish=None).run(problem, budget=6)
    each = torch.stack([lost(found).reshape(2, -1) for found in best.members])
    alone, together = each.amin(dim=0), best.found.score.reshape(2, -1)
    assert torch.equal(together[1], alone.amin(dim=0))
    taken = (alone[1] > alone[0]).nonzero()[:, 0]
    assert len(taken)
    assert torch.equal(best.found.delta[40:][taken], best.found.delta[:40][taken])
    # The member that found it is named, which is not always the better one in the larger ball.
    assert torch.equal(best.by[40:][taken], best.by[:40][taken])
    assert (each[:, 1].argmin(dim=0)[taken] != best.by[40:][taken]).any()


@functools.cache
def rows_of_four():
    return Subject.small(4, 4).problem(0.1)


@given(
    rows=st.lists(st.integers(0, 3), min_size=1, max_size=8),
    data=st.data(),
)
def test_inherit_is_the_best_of_the_same_image_in_no_larger_ball(rows, data):
    count = len(rows)
    epsilon = data.draw(st.lists(st.sampled_from([0.1, 0.2, 0.3]), min_size=count, max_size=count))
    values = st.one_of(st.just(math.nan), st.sampled_from([0.0, 0.5, 1.0]))
    score = data.draw(st.lists(values, min_size=count, max_size=count))
    problem = dataclasses.replace(
        rows_of_four().take(torch.tensor(rows)), epsilon=torch.tensor(epsilon)
    )
    found = Found(
        delta=torch.arange(1.0, count + 1).reshape(-1, 1, 1, 1).expand_as(problem.x),
        score=torch.tensor(score, dtype=torch.float64),
        feasible=~torch.tensor(score).isnan(),
    )
    best, source = inherit(problem, found)
    for row in range(count):
        allowed = [
            other
            for other in range(count)
            if rows[other] == rows[row]
            and epsilon[other] <= epsilon[row]
            and not math.isnan(score[other])
        ]
        taken = int(source[row])
        assert torch.equal(best.delta[row], found.delta[taken])
        assert best.feasible[row] == bool(allowed)
        if not allowed:
            assert best.score[row].isnan()
            continue
        assert best.score[row] == min(score[other] for other in allowed)
        assert taken in allowed
        if score[row] == best.score[row]:
            assert taken == row  # nothing is taken from elsewhere without need


def test_an_image_that_keeps_no_label_names_no_member():
    subject = Subject.small(5, 3)
    problem = subject.problem(EPSILON / 2, EPSILON)
    honest = problem.explain

    def explain(x, *, rows, draw):
        maps, logits = honest(x, rows=rows, draw=draw)
        logits[rows == 1] = logits[rows == 1].scatter(
            1, subject.target[rows[rows == 1]][:, None], -torch.inf
        )
        return maps, logits

    best = FULL.run(dataclasses.replace(problem, explain=explain), budget=120)
    assert best.found.feasible.tolist() == [True, False, True] * 2
    assert (best.by[[1, 4]] == -1).all()
    assert (best.by[[0, 2, 3, 5]] >= 0).all()


def test_the_trap_transfer_is_no_adaptive_attack():
    """Trap: smoothing attacked with what was found for the plain gradient, then called robust.

    Attacked adaptively the smoothed map keeps less of its top pixels, and where a transferred
    perturbation is the stronger one all the same, the ensemble reports that one.
    """
    subject = Subject.small(6, 16)
    transfer = Strongest().run(subject.problem(EPSILON), budget=150).found.delta
    problem = subject.problem(EPSILON, sigma=0.1, samples=6, select_samples=24)
    moved = choose(problem, Boundary(), (transfer,))
    adaptive = Strongest(members=(Search(rule=Annealed(last=1 / 15, momentum=0.85)),), polish=None)
    best = adaptive.run(problem, budget=600, candidates=(transfer,))
    assert moved.feasible.all()
    assert (best.found.score <= lost(moved)).all()
    assert torch.equal(best.found.delta[best.by == 1], moved.delta[best.by == 1])
    # Measured .63 against .83.
    assert best.members[0].score.mean() < moved.score.mean() - 0.05


def test_the_polish_goes_on_from_the_best_point_of_all():
    """Smaller balls and candidates included; where there is none, from a random start."""
    subject = Subject.small(7, 4)
    problem = subject.problem(EPSILON / 2, EPSILON)
    candidate = Search(steps=60).run(problem).delta
    candidate[4:6] = torch.nan
    ensemble = Strongest(members=(Search(steps=1),), polish=POLISH)
    best = ensemble.run(problem, budget=6, candidates=(candidate,))
    start = subject.searched[-3].x  # a step is two looks, and the last iterate is one
    known = choose(problem, Boundary(), (candidate,))
    scores = torch.stack([lost(best.members[0]), lost(known)]).amin(dim=0).reshape(2, 4)
    scores[1] = torch.minimum(scores[0], scores[1])
    assert (lost(best.members[1]).reshape(2, 4) <= scores).all()
    maps, _ = subject.maps(start, problem.rows)
    assert torch.equal(overlap(maps, problem.clean.top).reshape(2, 4), scores)


def test_every_search_gets_an_equal_share():
    searches = FULL.split(PLAIN, budget=500)
    # Two members are judged again by the metric, and the polish is not: one map each.
    share = (500 - 2) / 5
    for search in searches:
        cost = search.cost(PLAIN)
        assert cost <= share < cost + search.oracle.cost(PLAIN)
    assert [dataclasses.replace(s, steps=75) for s in searches] == [*MEMBERS, POLISH]


@pytest.mark.parametrize("sigma", [0.0, 0.1])
def test_an_ensemble_costs_what_it_says(sigma):
    """Counted by calls; no row loses its label or ends early in so small a ball."""
    subject = Subject.small(8, 3)
    problem = subject.problem(EPSILON / 8, sigma=sigma, samples=3, select_samples=5)
    members = (Search(), Search(objective=Cosine(), restart=1))
    ensemble = Strongest(members=members)
    budget = 203
    ensemble.run(problem, budget=budget)
    assert not subject.margins
    assert subject.spent(problem) == ensemble.cost(problem.fees, budget=budget) <= budget
    # A candidate comes on top.
    ensemble.run(problem, budget=budget, candidates=(problem.start(5),))
    more = 5 if sigma else 1
    assert subject.spent(problem) == ensemble.cost(problem.fees, budget=budget) + more


@settings(max_examples=10)
@given(
    extra=st.floats(0, 60),
    size=st.sampled_from([0.01, 0.1, 0.4]),
    sigma=st.sampled_from([0.0, 0.05]),
)
def test_an_ensemble_never_costs_more(extra, size, sigma):
    subject = Subject.small(9, 2)
    subject.k = 3
    problem = subject.problem(size, sigma=sigma, samples=2, select_samples=3)
    budget = FULL.least(problem.fees) + extra
    FULL.run(problem, budget=budget)
    assert subject.spent(problem) <= FULL.cost(problem.fees, budget=budget) <= budget


@pytest.mark.parametrize("fees", [PLAIN, NOISY], ids=["plain", "noisy"])
@pytest.mark.parametrize(
    "ensemble", [Strongest(), Strongest(polish=None), FULL], ids=["default", "one", "full"]
)
def test_a_budget_too_small_for_one_step_names_the_least(fees, ensemble):
    """What it names is what it takes: one gradient less does not do."""
    with pytest.raises(ValueError, match="too small for one step") as caught:
        ensemble.split(fees, budget=1)
    (least,) = re.findall(r"at least (\d+)", str(caught.value))
    assert int(least) == ensemble.least(fees)
    assert all(search.steps >= 1 for search in ensemble.split(fees, budget=int(least)))
    with pytest.raises(ValueError, match=rf"a budget of {int(least) - 1} .*at least {least}"):
        ensemble.split(fees, budget=int(least) - 1)


def test_more_budget_is_no_weaker_on_average():
    """Measured mean overlaps .74, .69 and .59 with 20, 60 and 180 gradients."""
    subject = Subject.small(10, 12)
    problem = subject.problem(EPSILON)
    means = [Strongest().run(problem, budget=budget).found.score.mean() for budget in (20, 60, 180)]
    assert means == sorted(means, reverse=True)
    assert means[0] - means[2] > 0.05
