from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from attacks import L2, Linf
from auditor.decoding import decode
from auditor.eight_bits import ROUNDINGS, from_levels, rounded, to_levels

SHAPE = (3, 5, 4)
BALLS = {"linf": Linf(), "l2": L2()}


def drawn(seed: int, epsilon: float, ball: Linf | L2):
    """Clean levels with many at the ends of the range, and an allowed perturbation."""
    g = torch.Generator().manual_seed(seed)
    levels = torch.randint(-60, 316, (2, *SHAPE), generator=g).clamp(0, 255).to(torch.uint8)
    x, radius = from_levels(levels), torch.full((2,), epsilon / 255)
    delta = (torch.randn(x.shape, generator=g) * 2 * epsilon / 255).float()
    return levels, ball.project(x, delta, radius), radius


@given(
    st.integers(0, 2**32),
    st.floats(0.01, 255),
    st.sampled_from(sorted(BALLS)),
    st.sampled_from(sorted(ROUNDINGS)),
)
def test_a_file_never_leaves_the_ball(seed, epsilon, norm, name):
    clean, delta, radius = drawn(seed, epsilon, BALLS[norm])
    found = rounded(clean, delta, radius, ball=BALLS[norm], up=ROUNDINGS[name])
    change = found.double() - clean.double()  # whole numbers: exact
    sizes = change.flatten(1).norm(dim=1) if norm == "l2" else change.abs().flatten(1).amax(dim=1)
    # The radius is a float32: 255·ε is off by less than 1e-4 levels, as the docstring says.
    assert (sizes <= epsilon + 1e-4).all()
    wanted = 255 * delta.double()
    # Never by a whole level off, and never against the direction of the change.
    assert ((change - wanted).abs() < 1 + 1e-4).all()
    assert (change * wanted >= 0).all()
    if name == "toward":
        assert (change.abs() <= wanted.abs() + 1e-4).all()


@pytest.mark.parametrize("epsilon", [1, 4, 16])
@pytest.mark.parametrize("name", sorted(ROUNDINGS))
def test_whole_levels_stay_what_they_are(epsilon, name):
    clean, delta, radius = drawn(epsilon, epsilon, Linf())
    whole = Linf().project(from_levels(clean), delta.sign() * epsilon / 255, radius)
    found = rounded(clean, whole, radius, ball=Linf(), up=ROUNDINGS[name])
    assert torch.equal(found, to_levels(from_levels(clean) + whole))


@pytest.mark.parametrize(
    ("changes", "epsilon", "name", "expected"),
    [
        ([0.4, 0.5, -0.6, 2.7], 8, "nearest", [0, 1, -1, 3]),
        ([0.4, 0.5, -0.6, 2.7], 8, "toward", [0, 0, 0, 2]),
        ([0.4, 0.5, -0.6, 0.0], 8, "away", [1, 1, -1, 0]),
        ([2.7, -2.7, 1.0, 0.2], 2.7, "nearest", [2, -2, 1, 0]),  # 3 would leave the ball
        ([0.7, -0.9, 0.0, 0.0], 0.9, "nearest", [0, 0, 0, 0]),
    ],
)
def test_roundings_of_single_values(changes, epsilon, name, expected):
    clean = torch.full((1, 1, 2, 2), 100, dtype=torch.uint8)
    delta = torch.tensor(changes).reshape(1, 1, 2, 2) / 255
    radius = torch.tensor([epsilon / 255])
    found = rounded(clean, delta, radius, ball=Linf(), up=ROUNDINGS[name])
    assert (found.int() - 100).flatten().tolist() == expected


def test_the_length_goes_to_the_largest_fractions_first():
    clean = torch.full((1, 1, 1, 4), 100, dtype=torch.uint8)
    delta = torch.tensor([0.6, 0.9, 0.7, 0.5]).reshape(1, 1, 1, 4) / 255
    found = rounded(clean, delta, torch.tensor([1.5 / 255]), ball=L2(), up=0.5)
    assert (found.int() - 100).flatten().tolist() == [0, 1, 1, 0]  # length √2, √3 is too long


@pytest.mark.parametrize("channels", [1, 3])
def test_levels_are_the_pixels_of_a_png(channels):
    levels = torch.arange(256, dtype=torch.uint8).reshape(1, 16, 16).expand(channels, -1, -1)
    buffer = io.BytesIO()
    plane = levels[0] if channels == 1 else levels.permute(1, 2, 0)
    Image.fromarray(plane.contiguous().numpy()).save(buffer, format="PNG")
    pixels = decode(buffer.getvalue(), (channels, 16, 16))
    np.testing.assert_array_equal(from_levels(levels).numpy(), pixels)
    assert torch.equal(to_levels(torch.tensor(pixels)), levels)
