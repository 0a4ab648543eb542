from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from auditor.attributions import FRESH, SEARCH, SELECT, SHOWN, Noise
from auditor.attributions.noise import mix

SHAPE = (3, 5, 4)
LARGE = (1, 200, 500)


@given(
    seed=st.integers(0, 2**63),
    images=st.lists(st.integers(0, 10**6), min_size=1, max_size=5),
    first=st.integers(0, 10**6),
    cuts=st.lists(st.integers(1, 3), min_size=1, max_size=3),
)
def test_draws_do_not_depend_on_batch_order_or_chunks(seed, images, first, cuts):
    noise, count = Noise(seed=seed, stream=SHOWN), sum(cuts)
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


def test_the_global_generator_is_left_alone():
    before = torch.get_rng_state()
    Noise(seed=0, stream=SHOWN).draw([1], SHAPE, first=0, count=2)
    assert torch.equal(torch.get_rng_state(), before)


def one(seed: int = 5, stream: int = SHOWN, image: int = 7, draw: int = 0) -> torch.Tensor:
    return Noise(seed=seed, stream=stream).draw([image], LARGE, first=draw, count=1).flatten()


@pytest.mark.parametrize(
    "other",
    [
        {"stream": FRESH},
        {"stream": SELECT},
        {"stream": SEARCH},
        {"image": 8},
        {"draw": 1},
        {"draw": 100},
        {"seed": 6},
        {"seed": 4, "stream": FRESH},
        {"seed": 7, "image": 5},
        {"image": 0, "draw": 7},
    ],
    ids=str,
)
def test_draws_are_independent(other):
    correlation = torch.corrcoef(torch.stack([one(), one(**other)]))[0, 1].item()
    # Standard error 1/√100,000; ten fixed seeds, each beyond 4.5 with probability 7e-6.
    assert abs(correlation) < 4.5 / math.sqrt(100_000)


def test_draws_are_standard_normal():
    values = one()
    n = values.numel()
    # Four standard errors of a mean and of a standard deviation of n normal values.
    assert abs(values.mean().item()) < 4 / math.sqrt(n)
    assert abs(values.std().item() - 1) < 4 / math.sqrt(2 * n)
    # Fixed seed; a true normal sample fails with probability 0.001.
    assert stats.kstest(values.numpy(), "norm").pvalue > 1e-3


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
