"""Attacks on quadratic models f = ½xᵀQx, whose map is Qx, against optima found by other means."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations, product

import numpy as np
import pytest
import torch
from scipy.optimize import linprog, minimize
from torch import Tensor

from attacks import (
    L2,
    Annealed,
    Apgd,
    Boundary,
    Clean,
    Cosine,
    Found,
    Linf,
    Mass,
    MassCenter,
    Problem,
    Search,
    TargetRegion,
    merge,
)

from .subjects import generators

HEIGHT, WIDTH, K, EPSILON = 2, 3, 3, 0.1
SIZE = HEIGHT * WIDTH
MASK = torch.tensor([[[True, False, False], [False, True, False]]])
Function = Callable[[np.ndarray], float]


def problem(q: Tensor, x: Tensor, epsilon: float, k: int, ball: Linf | L2) -> Problem:
    """One Hessian (B, d, d) for each image (B, 1, H, W); the label can't be lost."""

    def explain(p: Tensor, *, rows: Tensor, draw: int) -> tuple[Tensor, Tensor]:
        maps = torch.einsum("bij,bj->bi", q[rows], p.flatten(1)).reshape(p.shape)
        return maps, torch.tensor([[1.0, 0.0]]).expand(len(p), 2)

    rows = torch.arange(len(x))
    return Problem(
        x=x,
        target=torch.zeros(len(x), dtype=torch.int64),
        clean=Clean(maps=explain(x, rows=rows, draw=0)[0], k=k),
        epsilon=torch.full((len(x),), epsilon, dtype=x.dtype),
        rows=rows,
        generators=generators,
        explain=explain,
        predict=lambda x: torch.tensor([[1.0, 0.0]]).expand(len(x), 2),
        margin=lambda x, *, rows: torch.zeros_like(x),
        ball=ball,
    )


def quadratics(count: int) -> tuple[Tensor, Tensor]:
    """Random symmetric Q, and images so far inside of the box that it never binds."""
    generator = torch.Generator().manual_seed(0)
    q = torch.randn((count, SIZE, SIZE), generator=generator, dtype=torch.float64)
    x = torch.rand((count, 1, HEIGHT, WIDTH), generator=generator, dtype=torch.float64)
    return (q + q.mT) / 2, 0.35 + 0.3 * x


def best_of(searches: list[Search], of: Problem) -> Found:
    return merge(tuple(search.run(of) for search in searches))


@pytest.mark.parametrize("rule", [Annealed(), Apgd()], ids=["annealed", "apgd"])
def test_l2_cosine_attack_with_the_identity_reaches_the_closed_form(rule):
    """Q = I: the map is x itself, and cos(x, x + δ) is least √(1 − ρ²/‖x‖²)."""
    generator = torch.Generator().manual_seed(0)
    x = 0.35 + 0.3 * torch.rand((4, 1, 5, 5), generator=generator)
    rho = 0.5
    of = problem(torch.eye(25).expand(4, -1, -1), x, rho, 3, L2())
    assert (x.amin() > 0.1) & (x.amax() < 0.9)
    found = Search(objective=Cosine(), rule=rule, steps=50).run(of)
    best = (1 - rho**2 / x.flatten(1).norm(dim=1).double() ** 2).sqrt()
    # No perturbation goes beyond it, but for float32; 50 steps end within 0.1% of the angle.
    assert (found.score >= best - 1e-6).all()
    assert (found.score.arccos() >= 0.999 * best.arccos()).all()


def slsqp(function: Function, ball: Linf | L2, starts: int = 12) -> float:
    """The least value in the ball over many starts of scipy's optimizer."""
    rng, best = np.random.default_rng(0), np.inf
    inside = {"type": "ineq", "fun": lambda z: EPSILON**2 - z @ z, "jac": lambda z: -2 * z}
    for _ in range(starts):
        start = rng.uniform(-EPSILON, EPSILON, SIZE) / np.sqrt(SIZE)
        z = minimize(
            function,
            start,
            method="SLSQP",
            bounds=[(-EPSILON, EPSILON)] * SIZE,
            constraints=[inside] if isinstance(ball, L2) else [],
            options={"ftol": 1e-12, "maxiter": 300},
        ).x
        if isinstance(ball, L2):
            z = z * min(1.0, EPSILON / np.linalg.norm(z))
        best = min(best, function(z.clip(-EPSILON, EPSILON)))
    return best


def cosine(q: np.ndarray, x: np.ndarray) -> Function:
    clean = q @ x
    return lambda z: clean @ (q @ (x + z)) / np.linalg.norm(clean) / np.linalg.norm(q @ (x + z))


def shift(q: np.ndarray, x: np.ndarray) -> Function:
    grid = np.array([(i, j) for i in range(HEIGHT) for j in range(WIDTH)])

    def center(z: np.ndarray) -> np.ndarray:
        m = np.abs(q @ (x + z))
        return m @ grid / m.sum()

    return lambda z: -float(np.linalg.norm(center(z) - center(np.zeros(SIZE))))


def inside(q: np.ndarray, x: np.ndarray) -> Function:
    def share(z: np.ndarray) -> float:
        m = np.abs(q @ (x + z))
        return -float(m[MASK.flatten().numpy()].sum() / m.sum())

    return share


@pytest.mark.parametrize("ball", [Linf(), L2()], ids=["linf", "l2"])
@pytest.mark.parametrize(
    ("objective", "function", "tolerance"),
    [
        (Cosine(), cosine, 1e-5),
        (MassCenter(), shift, 1e-5),
        # Its optimum in the cube lies on kinks of Σ|m|, where steps go to and fro: 8e-5 measured.
        (TargetRegion(mask=MASK), inside, 3e-4),
    ],
    ids=["cosine", "center", "region"],
)
def test_smooth_objectives_reach_the_optimum_that_scipy_finds(objective, function, tolerance, ball):
    """32 restarts of 40 steps, for there are local optima; none goes beyond scipy's either."""
    q, x = (values[:5] for values in quadratics(8))
    functions = [function(a.numpy(), b.flatten().numpy()) for a, b in zip(q, x, strict=True)]
    searches = [
        Search(steps=40, restart=restart, objective=objective, rule=Apgd()) for restart in range(32)
    ]
    found = best_of(searches, problem(q, x, EPSILON, K, ball)).score.numpy()
    best = np.array([slsqp(f, ball) for f in functions])
    np.testing.assert_allclose(found, best, rtol=0, atol=tolerance)
    # The tolerance is small against what there is to find.
    assert (np.array([f(np.zeros(SIZE)) for f in functions]) - best).min() > 50 * tolerance


def reachable(q: np.ndarray, x: np.ndarray) -> dict[int, float]:
    """Numbers of clean top pixels that some δ, ‖δ‖∞ ≤ ε, leaves, and the largest gap to the rest.

    For each set of k pixels and their signs, that they are larger than all others is linear in δ.
    """
    clean = set(np.argsort(-np.abs(q @ x), kind="stable")[:K].tolist())
    gaps: dict[int, float] = {}
    for top, signs in product(combinations(range(SIZE), K), product([1, -1], repeat=K)):
        rest = [j for j in range(SIZE) if j not in top]
        rows = [
            sign * q[i] - other * q[j]
            for sign, i in zip(signs, top, strict=True)
            for j in rest
            for other in (1, -1)
        ]
        outcome = linprog(
            [0.0] * SIZE + [-1.0],
            A_ub=[[*-row, 1.0] for row in rows],
            b_ub=[row @ x for row in rows],
            bounds=[(-EPSILON, EPSILON)] * SIZE + [(None, None)],
        )
        kept = len(clean.intersection(top))
        gaps[kept] = max(gaps.get(kept, -np.inf), outcome.x[-1])
    return {kept: gap for kept, gap in gaps.items() if gap > 0}


def test_top_k_reaches_the_least_overlap_that_linear_programs_prove():
    """On 12 random models, three objectives and four restarts find it, but for slivers.

    Where the gap between top pixels and others is at most 0.03, in maps of magnitude 0.7, an attack
    may miss the set of such δ, by one pixel; here it does so once. One search alone misses two.
    """
    q, x = (values[:12] for values in quadratics(20))
    of = problem(q, x, EPSILON, K, Linf())
    searches = [
        Search(steps=50, restart=restart, objective=objective)
        for restart in range(4)
        for objective in (Boundary(), Boundary(temperature=0.5), Mass())
    ]
    found = (best_of(searches, of).score * K).round().int().tolist()
    alone = (searches[0].run(of).score * K).round().int().tolist()
    missed, missed_alone, moved = 0, 0, 0
    for row in range(12):
        gaps = reachable(q[row].numpy(), x[row].flatten().numpy())
        least = min(gaps)
        assert least <= found[row] <= least + (gaps[least] <= 0.03)
        assert found[row] <= alone[row] <= least + 1
        missed += found[row] > least
        missed_alone += alone[row] > least
        moved += least < K
    assert missed <= 1
    assert missed_alone <= 2
    assert moved >= 9  # there is something to find
