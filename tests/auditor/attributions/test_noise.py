from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from auditor.attributions import FRESH, SEARCH, SELECT, SHOWN, Noise
from auditor.attributions.noise import LONGEST, mix

SHAPE = (3, 5, 4)
LARGE = (1, 200, 500)
SAMPLERS = ("iid", "antithetic", "lhs")


@given(
    seed=st.integers(0, 2**63),
    sampler=st.sampled_from(SAMPLERS),
    samples=st.integers(1, 9),
    images=st.lists(st.integers(0, 10**6), min_size=1, max_size=5),
    first=st.integers(0, 10**6),
    cuts=st.lists(st.integers(1, 6), min_size=1, max_size=3),
)
def test_draws_do_not_depend_on_batch_order_or_chunks(seed, sampler, samples, images, first, cuts):
    """Chunks end inside of blocks and hold several of them."""
    noise = Noise(seed=seed, stream=SHOWN, sampler=sampler, samples=samples)
    count = sum(cuts)
    whole = noise.draw(images, SHAPE, first=first, count=count)
    assert whole.shape == (len(images), count, *SHAPE)
    backwards = noise.draw(images[::-1], SHAPE, first=first, count=count)
    assert torch.equal(backwards.flip(0), whole)
    starts = itertools.accumulate(cuts, initial=first)
    chunks = [
        noise.draw(images, SHAPE, first=start, count=size)
        for start, size in zip(starts, cuts, strict=False)
    ]
    assert torch.equal(torch.cat(chunks, dim=1), whole)
    alone = [noise.draw([image], SHAPE, first=first, count=count)[0] for image in images]
    assert torch.equal(torch.stack(alone), whole)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_the_global_generator_is_left_alone(sampler):
    before = torch.get_rng_state()
    Noise(seed=0, stream=SHOWN, sampler=sampler, samples=3).draw([1], SHAPE, first=0, count=2)
    assert torch.equal(torch.get_rng_state(), before)


def one(
    *,
    seed: int = 5,
    stream: int = SHOWN,
    image: int = 7,
    draw: int = 0,
    sampler: str = "lhs",
    samples: int = 1,
) -> torch.Tensor:
    noise = Noise(seed=seed, stream=stream, sampler=sampler, samples=samples)
    return noise.draw([image], LARGE, first=draw, count=1).flatten()


@pytest.mark.parametrize(
    "other",
    [
        {"stream": FRESH},
        {"stream": SELECT},
        {"stream": SEARCH},
        {"image": 8},
        {"draw": 100},
        {"seed": 6},
        {"seed": 4, "stream": FRESH},
        {"seed": 7, "image": 5},
        {"image": 0, "draw": 7},
    ],
    ids=str,
)
@pytest.mark.parametrize(
    "design",
    [{"sampler": "iid"}, {"sampler": "antithetic"}, {"samples": 1}, {"samples": 20}],
    ids=str,
)
def test_draws_are_independent(design, other):
    """Of other images, streams and seeds, and of draws that do not belong to one design."""
    first, second = one(**design), one(**design, **other)
    # Products of odd and of even functions: dependence without correlation shows in the squares.
    for power in (1, 2):
        pair = torch.stack([first**power, second**power])
        correlation = torch.corrcoef(pair)[0, 1].item()
        # Standard error 1/√100,000; 72 fixed seeds, beyond 4.5 with probability 5e-4 in all.
        assert abs(correlation) < 4.5 / math.sqrt(100_000)


@pytest.mark.parametrize("samples", [2, 20])
def test_blocks_are_independent(samples):
    last, following = (one(draw=draw, samples=samples) for draw in (samples - 1, samples))
    assert abs(torch.corrcoef(torch.stack([last, following]))[0, 1]) < 4.5 / math.sqrt(100_000)


@pytest.mark.parametrize("sampler", ["iid", "lhs"])
def test_without_a_partner_draws_are_independent(sampler):
    draws = [one(draw=draw, sampler=sampler) for draw in (0, 1)]
    assert abs(torch.corrcoef(torch.stack(draws))[0, 1]) < 4.5 / math.sqrt(100_000)


@pytest.mark.parametrize(
    "design",
    [
        {"sampler": "iid"},
        {"sampler": "antithetic", "draw": 1},
        *({"samples": n, "draw": draw} for n in (1, 2, 7, 64) for draw in (0, n // 2, 3 * n - 1)),
    ],
    ids=str,
)
def test_every_single_draw_is_standard_normal(design):
    """Over the pixels of one draw, in value and from pixel to pixel."""
    values = one(**design)
    n = values.numel()
    # Four standard errors of a mean and of a standard deviation of n normal values.
    assert abs(values.mean().item()) < 4 / math.sqrt(n)
    assert abs(values.std().item() - 1) < 4 / math.sqrt(2 * n)
    # Fixed seed; a true normal sample fails with probability 0.001.
    assert stats.kstest(values.double().numpy(), "norm").pvalue > 1e-3
    # Pixels next to each other and in other rows; 56 statistics, beyond 4.5 with probability 4e-4.
    for lag, power in itertools.product((1, 500), (1, 2)):
        pair = torch.stack([values[lag:] ** power, values[:-lag] ** power])
        assert abs(torch.corrcoef(pair)[0, 1]) < 4.5 / math.sqrt(n)


def test_antithetic_draws_come_in_pairs():
    noise = Noise(seed=1, stream=SEARCH, sampler="antithetic")
    draws = noise.draw([3, 4], SHAPE, first=6, count=4)
    assert torch.equal(draws[:, 1::2], -draws[:, ::2])
    assert not torch.equal(draws[:, 0], draws[:, 2])


@given(
    seed=st.integers(0, 2**63),
    image=st.integers(0, 10**6),
    block=st.integers(0, 1000),
    samples=st.integers(1, 130),
)
def test_a_block_visits_each_stratum_once_at_every_pixel(seed, image, block, samples):
    noise = Noise(seed=seed, stream=SHOWN, samples=samples)
    (z,) = noise.draw([image], SHAPE, first=block * samples, count=samples)
    shares = stats.norm.cdf(z.double().flatten(1).sort(dim=0).values.numpy())
    lowest = torch.arange(samples)[:, None].numpy() / samples
    # The quantile is rounded to float32; the nearest wrong stratum is at least 1/130 away.
    assert (shares >= lowest - 1e-6).all()
    assert (shares <= lowest + 1 / samples + 1e-6).all()


def test_pixels_order_the_strata_differently():
    """Rank correlations of two pixels over a block are those of random orders."""
    samples = 50
    (z,) = Noise(seed=0, stream=SHOWN, samples=samples).draw(
        [0], (1, 20, 20), first=0, count=samples
    )
    ranks = z.flatten(1).argsort(dim=0).argsort(dim=0).double().T
    found = torch.corrcoef(ranks)[~torch.eye(400, dtype=torch.bool)]
    # Two random orders of n: mean 0 and standard deviation 1/√(n − 1). The 79,800 pairs come from
    # 400 orders; their mean square deviates by a few percent.
    assert abs(found.mean().item()) < 0.01
    assert found.std().item() == pytest.approx(1 / math.sqrt(samples - 1), rel=0.1)


@pytest.mark.parametrize("uniform", [0.0, 0.5, 1 - 2**-24])
def test_the_ends_of_the_uniform_distribution_stay_finite(monkeypatch, uniform):
    noise = Noise(seed=0, stream=SHOWN, samples=9)
    noise.draw([0], SHAPE, first=0, count=1)  # its random orders are drawn and kept
    monkeypatch.setattr(torch, "rand", lambda _, *, generator, out: out.fill_(uniform))
    z = noise.draw([0], SHAPE, first=0, count=9)
    assert z.isfinite().all()
    assert z.abs().max() < 5.5  # the quantile of 1 − 2⁻²⁵ is 5.42


def test_very_long_designs_are_cut_into_blocks():
    samples = LONGEST + 1000
    noise = Noise(seed=0, stream=SHOWN, samples=samples)
    (z,) = noise.draw([0], (1, 1, 2), first=0, count=samples)
    strata = (stats.norm.cdf(z[:LONGEST].double().numpy()) * LONGEST).astype(int).reshape(-1, 2)
    # Rounding may carry a value across the border of one of 4,096 narrow strata.
    assert all(len({*column}) > 0.999 * LONGEST for column in strata.T)
    assert abs(z[LONGEST:].mean()) < 4 / math.sqrt(2 * 1000)


@pytest.mark.parametrize("wrong", [{"sampler": "sobol"}, {"samples": 0}])
def test_unknown_designs_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Noise(seed=0, stream=SHOWN, **wrong)


def test_no_two_conditions_share_a_seed():
    """All orders of small numbers, where a linear combination of them would collide."""
    seeds = {mix(*numbers) for numbers in itertools.product(range(12), repeat=4)}
    assert len(seeds) == 12**4
    assert all(0 <= seed < 2**63 for seed in seeds)
    # Torch's generator reads the low 32 bits: 20,736 random ones collide .05 times on average,
    # more than twice with probability 2e-5.
    assert len({seed % 2**32 for seed in seeds}) >= 12**4 - 2


def test_every_bit_of_a_seed_depends_on_every_input():
    for position in range(3):
        flips = torch.zeros(63)
        for base in range(400):
            numbers = [base, base + 1, base + 2]
            changed = list(numbers)
            changed[position] ^= 1
            difference = mix(*numbers) ^ mix(*changed)
            flips += torch.tensor([float(difference >> bit & 1) for bit in range(63)])
        # Each bit flips with probability 1/2: five standard errors of 400 fair coins.
        assert ((flips / 400 - 0.5).abs() < 5 * 0.5 / math.sqrt(400)).all()
