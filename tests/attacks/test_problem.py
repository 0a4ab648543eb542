from __future__ import annotations

import dataclasses

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from attacks import L2, Fees, Linf, Manipulation, as_target_map

from .subjects import SHAPE, Subject, images

BALLS = pytest.mark.parametrize("ball", [Linf(), L2()], ids=["linf", "l2"])


def test_at_repeats_all_images_for_one_epsilon_after_the_other():
    subject = Subject.small(0, 3)
    problem = subject.problem(0.5, 0.1, 0.2)
    assert len(problem) == 9
    assert problem.rows.tolist() == [0, 1, 2] * 3
    torch.testing.assert_close(problem.epsilon, torch.tensor([0.5] * 3 + [0.1] * 3 + [0.2] * 3))
    assert torch.equal(problem.x, subject.x.repeat(3, 1, 1, 1))
    assert torch.equal(problem.target, subject.target.repeat(3))
    assert torch.equal(problem.clean.maps[3:6], problem.clean.maps[:3])


@given(index=st.lists(st.integers(0, 5), min_size=1, max_size=8))
def test_take_keeps_everything_of_a_row_together(index):
    subject = Subject.small(1, 3)
    problem = subject.problem(0.1, 0.3)
    some = problem.take(torch.tensor(index))
    assert len(some) == len(index)
    for row, source in enumerate(index):
        assert torch.equal(some.x[row], subject.x[source % 3])
        assert some.target[row] == subject.target[source % 3]
        assert some.rows[row] == source % 3
        assert some.epsilon[row] == problem.epsilon[source]
        assert torch.equal(some.clean.top[row], problem.clean.top[source])
    # What is the same for all rows stays.
    for name in ("generators", "explain", "margin", "select", "twin", "fees", "sigma", "ball"):
        assert getattr(some, name) is getattr(problem, name)


def test_an_objective_with_a_target_for_each_image_follows_the_rows():
    """Rows are copies of images and may be shuffled; the clean maps know whose they are."""
    targets = as_target_map(images(20, 3).sum(dim=1))
    clean = Subject.small(2, 3).problem(0.1, 0.2).take(torch.tensor([4, 0, 5])).clean
    together = Manipulation(target=targets).score(clean.maps, clean)
    for row, image in enumerate([1, 0, 2]):
        own = Manipulation(target=targets[[image]])
        assert together[row] == own.score(clean.maps, clean)[row]


@BALLS
@given(
    seed=st.integers(0, 2**16),
    restart=st.integers(0, 5),
    epsilon=st.floats(0, 1, width=32),
)
def test_starts_are_allowed(ball, seed, restart, epsilon):
    subject = Subject.small(seed, 3)
    problem = subject.problem(epsilon, ball=ball)
    delta = problem.start(restart)
    size = (
        delta.abs().flatten(1).amax(1) if isinstance(ball, Linf) else delta.flatten(1).norm(dim=1)
    )
    # Float32: the length of 128 values.
    assert (size <= problem.epsilon * (1 + 1e-5)).all()
    assert ((problem.x + delta >= 0) & (problem.x + delta <= 1)).all()


@BALLS
def test_a_start_belongs_to_its_image_and_epsilon_only_scales_it(ball):
    subject = Subject.small(3, 3)
    subject.x = 0.3 + 0.4 * subject.x  # the box never binds
    problem = subject.problem(0.01, 0.04, ball=ball)
    start = problem.start(1)
    torch.testing.assert_close(4 * start[:3], start[3:])
    order = torch.tensor([5, 0, 2, 2])
    assert torch.equal(problem.take(order).start(1), start[order])
    assert not torch.equal(start[0], start[1])


@BALLS
def test_the_trap_restarts_start_elsewhere(ball):
    """Trap: restarts without a random start of their own are one search done twice."""
    problem = Subject.small(4, 3).problem(0.1, ball=ball)
    starts = torch.stack([problem.start(restart) for restart in range(4)])
    assert torch.equal(starts[2], problem.start(2))
    for one in range(4):
        assert starts[one].flatten(1).any(dim=1).all()
        for other in range(one):
            assert (starts[one] != starts[other]).flatten(1).any(dim=1).all()


def test_look_explains_the_perturbed_rows_and_checks_the_label():
    subject = Subject.small(5, 4)
    problem = subject.problem(0.5).take(torch.tensor([2, 0, 3]))
    delta = torch.rand((3, *SHAPE)) - 0.5
    maps, kept = problem.look(delta, draw=7)
    (look,) = subject.searched
    assert torch.equal(look.x, problem.x + delta)
    assert (look.rows.tolist(), look.draw) == ([2, 0, 3], 7)
    truth, logits = subject.maps(problem.x + delta, problem.rows)
    assert torch.equal(maps, truth)
    assert kept.tolist() == (logits.argmax(dim=1) == subject.target[[2, 0, 3]]).tolist()
    assert problem.kept(delta).tolist() == kept.tolist()
    wrong = dataclasses.replace(problem, target=(problem.target + 1) % 5)
    assert not (wrong.kept(delta) & problem.kept(delta)).any()
    assert not (wrong.look(delta, draw=0)[1] & kept).any()


def test_a_plain_map_costs_one_gradient():
    assert Fees() == Fees(samples=1, select_samples=1, noisy=False)
