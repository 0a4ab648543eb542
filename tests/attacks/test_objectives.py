"""What every objective must satisfy; each is compared with a formula written anew here."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from scipy.ndimage import center_of_mass
from scipy.spatial.distance import cosine as cosine_distance
from scipy.stats import spearmanr
from torch import Tensor

from attacks.center import MassCenter
from attacks.clean import Clean, Objective
from attacks.cosine import Cosine
from attacks.manipulation import Manipulation, as_target_map
from attacks.rank import Rank
from attacks.region import TargetRegion

BATCH, CHANNELS, HEIGHT, WIDTH = 3, 3, 5, 4
SHAPE = (BATCH, CHANNELS, HEIGHT, WIDTH)


def signed(seed: int, shape: tuple[int, ...] = SHAPE) -> Tensor:
    """Maps whose values are at least 0.1 away from the kink of |a| at zero."""
    generator = torch.Generator().manual_seed(seed)
    sizes = 0.1 + torch.rand(shape, generator=generator, dtype=torch.float64)
    return sizes * (torch.randint(0, 2, shape, generator=generator) * 2 - 1)


TARGETS = as_target_map(signed(7, (BATCH, HEIGHT, WIDTH)).abs())
MASKS = torch.rand(BATCH, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(8)) < 0.3


def size(a: Tensor) -> Tensor:
    return a.abs().sum(dim=1).flatten(1)


def center_loss(a: Tensor, clean: Tensor, at: Tensor) -> Tensor:
    grid = torch.tensor([(i, j) for i in range(HEIGHT) for j in range(WIDTH)]).double()
    here, there = ((m @ grid) / m.sum(dim=1)[:, None] for m in (size(a), size(clean)))
    return -((here - there) ** 2).sum(dim=1)


def mse_loss(a: Tensor, clean: Tensor, at: Tensor) -> Tensor:
    m = size(a)
    return ((m / m.sum(dim=1)[:, None] - TARGETS.flatten(1)) ** 2).mean(dim=1)


def similarity_loss(a: Tensor, clean: Tensor, at: Tensor) -> Tensor:
    return 1 - torch.cosine_similarity(size(a), TARGETS.flatten(1))


def region_loss(a: Tensor, clean: Tensor, at: Tensor) -> Tensor:
    return -(size(a) * MASKS.flatten(1)).sum(dim=1) / size(a).sum(dim=1)


def cosine_loss(a: Tensor, clean: Tensor, at: Tensor) -> Tensor:
    return torch.cosine_similarity(a.flatten(1), clean.flatten(1))


def rank_loss(a: Tensor, clean: Tensor, at: Tensor) -> Tensor:
    """Pearson, per map by numpy; the offset belongs to the map where the gradient is taken."""
    found = []
    for moved, known, here in zip(size(a), size(clean), size(at), strict=True):
        order = known.numpy().argsort().argsort()
        found.append(np.corrcoef(np.log(moved.numpy() + 2 * here.numpy().mean()), order)[0, 1])
    return torch.tensor(found)


def rank_factor(a: Tensor) -> Tensor:
    offset = 2 * size(a).mean(dim=1)
    logarithm = torch.log(size(a) + offset[:, None])
    return offset * logarithm.std(dim=1, correction=0) * (HEIGHT * WIDTH) ** 0.5


@dataclass(frozen=True, eq=False, kw_only=True)
class Case:
    """An objective, its proxy, the factor its gradient is scaled by, and its score by others."""

    objective: Objective
    loss: Callable[[Tensor, Tensor, Tensor], Tensor]
    factor: Callable[[Tensor], Tensor]
    score: Callable[[np.ndarray, np.ndarray, int], float]  # moved and clean map, image


def total(a: Tensor) -> Tensor:
    return size(a).sum(dim=1)


def magnitude(a: np.ndarray) -> np.ndarray:
    return np.abs(a).sum(axis=0)


def shift(a: np.ndarray, b: np.ndarray, i: int) -> float:
    centers = np.array([center_of_mass(magnitude(a)), center_of_mass(magnitude(b))])
    return -float(np.linalg.norm(centers[0] - centers[1]))


def similarity(a: np.ndarray, b: np.ndarray, i: int) -> float:
    return float(cosine_distance(magnitude(a).ravel(), TARGETS[i].numpy().ravel()) - 1)


def inside(a: np.ndarray, b: np.ndarray, i: int) -> float:
    return -float(magnitude(a)[MASKS[i].numpy()].sum() / magnitude(a).sum())


CASES = {
    "center": Case(objective=MassCenter(), loss=center_loss, factor=total, score=shift),
    "mse": Case(
        objective=Manipulation(target=TARGETS, proxy="mse"),
        loss=mse_loss,
        factor=total,
        score=similarity,
    ),
    "similarity": Case(
        objective=Manipulation(target=TARGETS),
        loss=similarity_loss,
        factor=total,
        score=similarity,
    ),
    "region": Case(
        objective=TargetRegion(mask=MASKS), loss=region_loss, factor=total, score=inside
    ),
    "cosine": Case(
        objective=Cosine(),
        loss=cosine_loss,
        factor=lambda a: a.flatten(1).norm(dim=1),
        score=lambda a, b, i: 1 - float(cosine_distance(a.ravel(), b.ravel())),
    ),
    "rank": Case(
        objective=Rank(),
        loss=rank_loss,
        factor=rank_factor,
        score=lambda a, b, i: float(spearmanr(magnitude(a), magnitude(b), axis=None).statistic),
    ),
}

every = pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())


def differences(objective: Callable[[Tensor], Tensor], a: Tensor, h: float = 1e-6) -> Tensor:
    """Central finite differences (B, C, H, W) of a per-image objective."""
    found = torch.zeros_like(a)
    for index in np.ndindex(*a.shape[1:]):
        step = torch.zeros_like(a)
        step[(slice(None), *index)] = h
        found[(slice(None), *index)] = (objective(a + step) - objective(a - step)) / (2 * h)
    return found


@every
@pytest.mark.parametrize("seed", range(3))
def test_gradient_equals_finite_differences_of_the_proxy(case, seed):
    a, clean = signed(seed), signed(seed + 100)
    found = case.objective.gradient(a, Clean(maps=clean, k=5))
    expected = differences(lambda moved: case.loss(moved, clean, a), a)
    # Rounding 1e-15/h = 1e-9 dominates, times the factor of at most 40; truncation is h² = 1e-12.
    torch.testing.assert_close(
        found, expected * case.factor(a)[:, None, None, None], rtol=1e-6, atol=1e-7
    )
    assert found.abs().amax(dim=(1, 2, 3)).min() > 1e-3  # far above the tolerance


@every
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_score_equals_scipy(case, dtype):
    for seed in range(5):
        a, clean = signed(seed).to(dtype), signed(seed + 100).to(dtype)
        found = case.objective.score(a, Clean(maps=clean, k=5))
        assert found.dtype == torch.float64
        pairs = zip(a.double().numpy(), clean.double().numpy(), strict=True)
        expected = [case.score(moved, known, i) for i, (moved, known) in enumerate(pairs)]
        # The sum over channels is rounded to float32 before anything else: 1e-7 of values ≤ 4.
        assert found.tolist() == pytest.approx(expected, abs=1e-12 if dtype.itemsize == 8 else 1e-6)


@every
def test_a_step_against_the_gradient_lowers_the_score(case):
    a, clean = signed(1), Clean(maps=signed(101), k=5)
    gradient = case.objective.gradient(a, clean)
    # Large enough to swap ranks, which are at least 0.01 apart here, small enough to be local.
    moved = a - 0.1 * gradient / gradient.abs().amax(dim=(1, 2, 3), keepdim=True)
    assert (case.objective.score(moved, clean) < case.objective.score(a, clean)).all()


@every
def test_each_row_keeps_its_own_target(case):
    a, clean = signed(2), Clean(maps=signed(102), k=5)
    rows = torch.tensor([2, 0, 2])
    part = clean.rows(rows)
    # Sums of another batch may be ordered differently: rounding only.
    torch.testing.assert_close(
        case.objective.score(a[rows], part),
        case.objective.score(a, clean)[rows],
        rtol=1e-12,
        atol=1e-12,
    )
    torch.testing.assert_close(
        case.objective.gradient(a[rows], part),
        case.objective.gradient(a, clean)[rows],
        rtol=1e-12,
        atol=1e-12,
    )


@every
@pytest.mark.parametrize("scale", [1e-30, 1e-6, 1e6, 1e30])
def test_neither_depends_on_the_scale_of_a_float32_map(case, scale):
    a, clean = signed(3).float(), Clean(maps=signed(103).float(), k=5)
    for scaled in (clean, Clean(maps=clean.maps * scale, k=5)):
        torch.testing.assert_close(
            case.objective.score(a * scale, scaled), case.objective.score(a, clean)
        )
        torch.testing.assert_close(
            unit(case.objective.gradient(a * scale, scaled)),
            unit(case.objective.gradient(a, clean)),
            rtol=1e-4,
            atol=1e-6,
        )


def unit(gradient: Tensor) -> Tensor:
    return gradient / gradient.abs().amax(dim=(1, 2, 3), keepdim=True)


@every
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_zero_map_gives_no_direction_and_never_wins(case, dtype):
    a, clean = signed(4).to(dtype), Clean(maps=signed(104).to(dtype), k=5)
    a[1] = 0
    gradient = case.objective.gradient(a, clean)
    assert gradient.dtype == dtype
    assert gradient.isfinite().all()
    assert gradient.flatten(1).any(dim=1).tolist() == [True, False, True]
    score = case.objective.score(a, clean)
    assert score[1] == torch.inf  # not nan
    assert score[[0, 2]].isfinite().all()


@every
def test_a_map_that_is_mostly_zero_gives_a_finite_direction(case):
    a = torch.zeros(SHAPE)
    a[0, 0, 0, 0], a[1, 1, 4, 2], a[2, 0, 0, 1] = 0.5, -2.0, 1e-20
    clean = Clean(maps=signed(105).float(), k=5)
    assert case.objective.gradient(a, clean).isfinite().all()
    assert case.objective.score(a, clean).isfinite().all()


@every
def test_settings_are_all_that_an_objective_holds(case):
    fields = {field.name for field in dataclasses.fields(case.objective)}
    assert set(vars(case.objective)) == fields


@every
def test_nothing_undercuts_the_lowest_score(case):
    """A search stops there: up to rounding in float64, the score of a perfect map reaches it."""
    for seed in range(20):
        score = case.objective.score(signed(seed), Clean(maps=signed(seed + 100), k=5))
        assert (score >= case.objective.lowest - 1e-12).all()
    perfect = PERFECT.get(type(case.objective))
    if perfect is None:
        assert case.objective.lowest == -math.inf
        return
    clean = Clean(maps=signed(100), k=5)
    reached = case.objective.score(perfect(clean.maps), clean)
    torch.testing.assert_close(reached, torch.full_like(reached, case.objective.lowest))


def descending(clean: Tensor) -> Tensor:
    """A map whose ranks are those of the clean map upside down."""
    m = size(clean).reshape(BATCH, 1, HEIGHT, WIDTH)
    return (m.amax() + 1 - m).expand(SHAPE)


PERFECT = {
    Manipulation: lambda clean: TARGETS[:, None].expand(SHAPE),
    TargetRegion: lambda clean: MASKS[:, None].double().expand(SHAPE),
    Cosine: lambda clean: -clean,
    Rank: descending,
}
