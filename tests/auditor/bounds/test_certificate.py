from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from scipy.stats import norm

from auditor.attributions import SimpleGrad
from auditor.bounds.certificate import certified_overlap, fewest_draws, overlap_limit
from auditor.bounds.votes import MOVED, Band, Sparsified, Votes, band
from auditor.errors import InputError
from auditor.evaluation import Evaluator


def exact(s: np.ndarray) -> Band:
    values = torch.from_numpy(np.atleast_2d(s)).double()
    return Band(low=values, high=values)


def overlap(a: np.ndarray, b: np.ndarray, k: int) -> float:
    return len(set(np.argsort(-a)[:k]) & set(np.argsort(-b)[:k])) / k


def half_spaces(generator: np.random.Generator, pixels: int) -> tuple[np.ndarray, np.ndarray]:
    """h_i(x) = 1 where sign_i·⟨u, x⟩/σ > threshold_i, all along one direction u: the hardest case.

    The expected map at a shift of t·σ along u is Φ(sign·t − threshold), in closed form.
    """
    return generator.choice([-1.0, 1.0], pixels), generator.normal(0, 1.5, pixels)


def test_sound_in_1000_random_trials_where_the_worst_case_is_known():
    generator = np.random.default_rng(0)
    k, pixels, confidence = 4, 12, 0.95
    crossed = certified_something = 0
    for _ in range(1000):
        sign, threshold = half_spaces(generator, pixels)
        ratio = generator.uniform(0.05, 1.0)
        n = int(generator.integers(50, 400))
        z = generator.normal(size=(n, 1))
        counts = torch.from_numpy((sign * z > threshold).sum(axis=0))[None]
        limits = band(Votes(counts=counts, draws=n), confidence=confidence)
        value = certified_overlap(limits, k=k, radius=ratio, sigma=1.0).item()
        clean = norm.cdf(-threshold)
        shifts = np.linspace(-ratio, ratio, 101)[:, None]
        moved = np.argsort(threshold - sign * shifts, axis=1)[:, :k]  # Φ is increasing
        worst = np.isin(moved, np.argsort(-clean)[:k]).mean(axis=1).min()
        certified_something += value > 0
        crossed += value > worst + 1e-12
    assert certified_something > 300
    assert crossed == 0


def test_tight_without_sampling_error():
    """With the true means the certified overlap is the worst case of half spaces, often enough."""
    generator = np.random.default_rng(1)
    k, equal = 4, 0
    for _ in range(300):
        sign, threshold = half_spaces(generator, 12)
        clean = norm.cdf(-threshold)
        top = np.argsort(-clean)
        sign = np.where(np.isin(np.arange(12), top[:k]), -1.0, 1.0)  # all ranks fall, rivals rise
        value = certified_overlap(exact(clean), k=k, radius=0.5, sigma=1.0).item()
        worst = overlap(clean, norm.cdf(sign * 0.5 - threshold), k)
        assert value <= worst
        equal += value == worst
    assert equal == 300


def test_limits_hold_for_all_pixels_at_once():
    generator = np.random.default_rng(2)
    truth = np.array([0.0, 0.003, 0.1, 0.5, 0.9, 0.999, 1.0])
    missed = 0
    for _ in range(800):
        counts = torch.from_numpy(generator.binomial(80, truth))[None]
        limits = band(Votes(counts=counts, draws=80), confidence=0.9)
        s = torch.from_numpy(truth)
        missed += bool(((limits.low[0] > s) | (limits.high[0] < s)).any())
    assert missed / 800 < 0.1


@pytest.mark.parametrize("n", [20, 1000])
def test_limits_are_tighter_than_hoeffdings(n):
    counts = torch.arange(n + 1)[None]
    limits = band(Votes(counts=counts, draws=n), confidence=0.95)
    e = math.sqrt(math.log(2 * (n + 1) / 0.05) / (2 * n))
    s = counts / n
    assert (limits.low >= (s - e).clamp_min(0)).all()
    assert (limits.high <= (s + e).clamp_max(1)).all()
    assert ((limits.low <= s) & (s <= limits.high)).all()
    assert (limits.low.diff() >= 0).all()


def test_more_radius_never_certifies_more():
    generator = np.random.default_rng(3)
    limits = exact(generator.uniform(size=(5, 40)))
    values = [certified_overlap(limits, k=8, radius=r, sigma=0.1) for r in (0, 0.01, 0.1, 1.0)]
    assert values[0].tolist() == [1.0] * 5
    for nearer, farther in itertools.pairwise(values):
        assert (farther <= nearer).all()
    assert not values[-1].any()


def test_overlap_limit_covers_every_pair_of_maps_within_the_limits():
    generator = np.random.default_rng(4)
    k, pixels = 3, 8
    for _ in range(200):
        low = generator.uniform(size=(2, pixels))
        high = low + generator.uniform(0, 0.4, size=(2, pixels))
        clean, moved = (
            Band(low=torch.from_numpy(low[i : i + 1]), high=torch.from_numpy(high[i : i + 1]))
            for i in (0, 1)
        )
        limit = overlap_limit(clean, moved, k=k).item()
        for _ in range(20):
            maps = generator.uniform(low, high)
            assert overlap(maps[0], maps[1], k) <= limit


def test_overlap_limit_of_known_maps_is_their_overlap():
    generator = np.random.default_rng(5)
    for _ in range(100):
        a, b = generator.permutation(10) / 10, generator.permutation(10) / 10
        assert overlap_limit(exact(a), exact(b), k=4).item() == overlap(a, b, 4)


@pytest.mark.parametrize("ratio", [0.1, 1.0, 2.0])
def test_fewest_draws_is_where_the_best_case_starts(ratio):
    n = fewest_draws(pixels=784, confidence=0.95, radius=ratio * 0.1, sigma=0.1)
    for draws, expected in ((n, 1.0), (n - 1, 0.0)):
        counts = torch.zeros(1, 784, dtype=torch.long)
        counts[0, :20] = draws
        limits = band(Votes(counts=counts, draws=draws), confidence=0.95)
        found = certified_overlap(limits, k=20, radius=ratio * 0.1, sigma=0.1).item()
        assert found == expected


def test_votes_of_a_linear_score_do_not_depend_on_the_noise():
    weight = torch.arange(16.0).reshape(1, 1, 4, 4)

    def model(x: torch.Tensor) -> torch.Tensor:
        return torch.stack([(x * weight).sum(dim=(1, 2, 3)), torch.zeros(len(x))], dim=1)

    smooth = Sparsified(method=SimpleGrad(), sigma=0.1, kept=3, seed=0)
    x, target = torch.rand(2, 1, 4, 4), torch.zeros(2, dtype=torch.long)
    found = smooth.votes(Evaluator(model=model, batch=5), x, target, images=(0, 1), draws=50)
    assert found.counts[:, -3:].tolist() == [[50] * 3] * 2
    assert not found.counts[:, :-3].any()


def test_votes_do_not_depend_on_the_batch_and_streams_differ():
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 8), torch.nn.ReLU())
    net.append(torch.nn.Linear(8, 3)).requires_grad_(False)
    smooth = Sparsified(method=SimpleGrad(), sigma=0.3, kept=4, seed=0)
    x, target = torch.rand(3, 1, 4, 4), torch.zeros(3, dtype=torch.long)

    def count(batch: int, **more: int) -> torch.Tensor:
        evaluator = Evaluator(model=net, batch=batch)
        return smooth.votes(evaluator, x, target, images=(0, 1, 2), draws=40, **more).counts

    assert torch.equal(count(2), count(64))
    assert not torch.equal(count(64), count(64, stream=MOVED))
    # Four pixels a draw, fewer only where the whole map is zero.
    assert ((count(64).sum(dim=1) <= 160) & (count(64).sum(dim=1) > 140)).all()


def test_bad_input_is_refused():
    with pytest.raises(InputError, match="sigma above 0"):
        Sparsified(method=SimpleGrad(), sigma=0.0, kept=3, seed=0)
    with pytest.raises(InputError, match="sigma above 0"):
        certified_overlap(exact(np.ones(8)), k=2, radius=0.1, sigma=0.0)
    with pytest.raises(InputError, match="at least 10 pixels, not 8"):
        certified_overlap(exact(np.ones(8)), k=5, radius=0.1, sigma=0.1)
    with pytest.raises(InputError, match="too long for any certificate"):
        fewest_draws(pixels=784, confidence=0.95, radius=100.0, sigma=0.1)
