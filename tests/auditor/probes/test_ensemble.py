import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from auditor.probes.ensemble import agreement, ensemble_probe
from auditor.probes.members import twin_probe
from auditor.records import Key


def maps(members, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(members, 3, 1, 12, 12, generator=generator)


def value(records, metric, sigma=0.1):
    return records[Key(probe="ensemble", metric=metric, partner="DT", sigma=sigma)]


def test_two_members_give_what_a_pair_gives():
    plain, shown = maps(2, 0), maps(2, 1)
    ours = ensemble_probe(plain, shown, sigma=0.1, k=20, name="DT")
    pair = twin_probe(plain[0], shown[0], plain[1], shown[1], sigma=0.1, k=20, name="DT")
    for key, expected in pair.items():
        np.testing.assert_allclose(value(ours, key.metric), expected, rtol=1e-12)


@given(members=st.integers(2, 6), seed=st.integers(0, 1000))
def test_variance_is_the_mean_squared_distance_of_pairs(members, seed):
    """Σᵢ‖Aᵢ − mean‖²/M = Σᵢⱼ‖Aᵢ − Aⱼ‖²/2M²."""
    shown = maps(members, seed)
    records = ensemble_probe(shown, shown, sigma=0.1, k=20, name="DT")
    flat = shown.double().flatten(2)
    squares = sum(
        (one - other).square().sum(dim=1) for one, other in itertools.product(flat, repeat=2)
    )
    np.testing.assert_allclose(value(records, "variance"), squares / (2 * members**2), rtol=1e-10)


@given(order=st.permutations(range(4)))
def test_the_order_of_members_does_not_matter(order):
    plain, shown = maps(4, 0), maps(4, 1)
    first = ensemble_probe(plain, shown, sigma=0.1, k=20, name="DT")
    again = ensemble_probe(plain[order], shown[order], sigma=0.1, k=20, name="DT")
    for key, expected in first.items():
        np.testing.assert_allclose(again[key], expected, rtol=1e-9)


def test_unsmoothed_maps_have_no_fidelity_error():
    plain = maps(3)
    assert not value(
        ensemble_probe(plain, plain, sigma=0.1, k=20, name="DT"), "fidelity_error"
    ).any()


def test_one_member_is_no_ensemble():
    with pytest.raises(ValueError, match="at least two"):
        ensemble_probe(maps(1), maps(1), sigma=0.1, k=20, name="DT")


def test_agreement_is_the_share_of_pairs():
    predicted = torch.tensor([[1, 1, 1], [1, 2, 2], [1, 2, 3]])
    assert agreement(predicted).tolist() == pytest.approx([1, 1 / 3, 0])
