from __future__ import annotations

import math
from fractions import Fraction
from itertools import pairwise

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from attacks import Annealed, Apgd, Boundary, FixedSign, Found, Search
from attacks.rules import checkpoints

from .subjects import EPSILON, Subject


def paper_checkpoints(steps: int) -> list[int]:
    """Croce and Hein 2020: w = ⌈p N⌉ ≤ N, p_{j+1} = p_j + max(p_j − p_{j−1} − .03, .06)."""
    p = [Fraction(0), Fraction(22, 100)]
    while p[-1] < 1:
        p.append(p[-1] + max(p[-1] - p[-2] - Fraction(3, 100), Fraction(6, 100)))
    return sorted({math.ceil(share * steps) for share in p if share <= 1})


def paper_pace(scores: list[float], steps: int, first: float, rho: float) -> tuple[float, bool]:
    """Algorithm 1 for one image, word for word; f is maximized there, scores are minimized here."""
    f = [-score for score in scores]
    w = paper_checkpoints(steps)
    eta, eta_at, f_max, back = first, {}, {}, False
    for k in range(len(f)):
        eta_at[k], f_max[k] = eta, max(f[: k + 1])
        back = False
        if k in w and k > 0:
            last = w[w.index(k) - 1]
            improved = sum(f[i + 1] > f[i] for i in range(last, k))
            condition_1 = improved < rho * (k - last)
            condition_2 = eta_at[last] == eta and f_max[last] == f_max[k]
            if condition_1 or condition_2:
                eta, back = eta / 2, True
    return eta, back


def test_checkpoints_are_the_papers():
    for steps in range(1, 400):
        found = checkpoints(steps)
        assert [w for w in found if w <= steps] == paper_checkpoints(steps)
    assert [w for w in checkpoints(100) if w <= 100] == [0, 22, 41, 57, 70, 80, 87, 93, 99]


# Steps that mostly improve, so that both conditions are met now and then.
changes = st.sampled_from([-1.0, -1.0, -1.0, -1.0, 0.0, 2.0, 9.0, math.inf])


@given(
    walks=st.lists(st.lists(changes, min_size=30, max_size=30), min_size=1, max_size=3),
    steps=st.integers(1, 30),
    rho=st.sampled_from([0.25, 0.5, 0.75, 1.0]),
)
def test_auto_pgd_halves_and_goes_back_by_the_papers_two_conditions(walks, steps, rho):
    """An infinite change is a lost label; the next iterate has it back."""
    columns = []
    for walk in walks:
        level, scores = 0.0, []
        for change in walk[:steps]:
            level += 0.0 if math.isinf(change) else change
            scores.append(math.inf if math.isinf(change) else level)
        columns.append(scores)
    rule = Apgd(first=0.5, rho=rho)
    for now in range(1, steps + 1):
        scores = torch.tensor([column[:now] for column in columns], dtype=torch.float64).T
        length, back = rule.pace(scores, steps)
        for row, column in enumerate(columns):
            assert (length[row].item(), back[row].item()) == paper_pace(
                column[:now], steps, 0.5, rho
            )


@pytest.mark.parametrize(
    ("scores", "length", "why"),
    [
        ([9.0 - i for i in range(23)], 0.5, "every step improves"),
        ([float(i % 2) for i in range(23)], 0.25, "condition 1: half of the steps do"),
        ([0.0, *(30.0 - i for i in range(22))], 0.25, "condition 2: never below the start"),
    ],
)
def test_each_condition_alone(scores, length, why):
    found, back = Apgd(first=0.5).pace(torch.tensor(scores)[:, None], 100)
    assert found.item() == length, why
    assert back.item() == (length < 0.5), why


def test_auto_pgd_goes_back_to_the_best_feasible_iterate_and_forgets_its_velocity():
    """After a stall the next iterate is the best one so far, and the one after leaves it."""
    subject = Subject.small(1, 6)
    problem, steps = subject.problem(0.1), 12
    Search(steps=steps, rule=Apgd()).run(problem)
    iterates = [look.x for look in subject.searched if len(look.x) == 6][:-1:2]
    assert len(iterates) == steps
    scores, returns = [], 0
    for number, x in enumerate(iterates):
        maps, logits = subject.maps(x, problem.rows)
        kept = logits.argmax(dim=1) == subject.target
        scores.append(Boundary().score(maps, problem.clean).where(kept, torch.inf))
        _, back = Apgd().pace(torch.stack(scores), steps)
        best = torch.stack(scores).argmin(dim=0)
        for row in back.nonzero()[:, 0].tolist():
            if number + 1 < steps and math.isfinite(scores[best[row]][row]):
                assert torch.equal(iterates[number + 1][row], iterates[best[row]][row])
                returns += int(best[row] != number)
    assert returns > 0


@given(
    first=st.floats(0.01, 1),
    last=st.floats(0.001, 1),
    steps=st.integers(1, 50),
    rows=st.integers(1, 3),
)
@example(first=0.5, last=0.1, steps=1, rows=1)
def test_annealed_lengths_shrink_by_equal_ratios_and_it_never_goes_back(first, last, steps, rows):
    rule = Annealed(first=first, last=last)
    lengths = []
    for now in range(1, steps + 1):
        length, back = rule.pace(torch.full((now, rows), torch.inf), steps)
        assert length.shape == back.shape == (rows,)
        assert not back.any()
        assert (length == length[0]).all()
        lengths.append(length[0].item())
    # Lengths are float32.
    assert lengths[0] == pytest.approx(first, rel=1e-6)
    if steps > 1:
        assert lengths[-1] == pytest.approx(last, rel=1e-6)
        for one, two in pairwise(lengths):
            assert two / one == pytest.approx((last / first) ** (1 / (steps - 1)), rel=1e-5)


def test_the_published_rule_has_one_length_and_no_momentum():
    for now in range(1, 6):
        length, back = FixedSign().pace(torch.rand(now, 2), 5)
        assert torch.equal(length, torch.full((2,), 0.1))
        assert not back.any()
    assert FixedSign().momentum == 0


@pytest.mark.parametrize("rule", [Annealed(), FixedSign(), Apgd()], ids=lambda r: type(r).__name__)
def test_every_rule_moves_the_map_further_than_its_random_start(rule):
    """Measured mean overlaps .59, .66 and .63 after 30 steps, .89 at the start."""
    subject = Subject.small(0, 16)
    problem = subject.problem(EPSILON)
    moved: Found = Search(steps=30, rule=rule).run(problem)
    start = Search(steps=0).run(problem)
    assert moved.feasible.all()
    assert moved.score.mean() < start.score.mean() - 0.15
