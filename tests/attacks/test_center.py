from __future__ import annotations

import pytest
import torch

from attacks import project, random_start
from attacks.center import MassCenter
from attacks.clean import Clean

SHAPE = (2, 3, 5, 4)


def maps(seed: int) -> torch.Tensor:
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_trap_the_gradient_is_exactly_zero_at_the_clean_map(dtype):
    a = maps(0).to(dtype)
    clean = Clean(maps=a, k=3)
    assert (MassCenter().gradient(a, clean) == 0).all()
    assert (MassCenter().score(a, clean) == 0).all()
    nearby = a + 1e-3 * maps(1).to(dtype)
    assert MassCenter().gradient(nearby, clean).flatten(1).any(dim=1).all()


def test_the_trap_an_attack_from_the_clean_image_never_moves():
    """The map of ½xᵀQx is Qx: every step from δ = 0 is zero, from a random point none is."""
    q = torch.randn(60, 60, generator=torch.Generator().manual_seed(2))
    x = torch.rand(SHAPE, generator=torch.Generator().manual_seed(3))
    epsilon = torch.full((2,), 0.1)

    def explain(point: torch.Tensor) -> torch.Tensor:
        return (point.flatten(1) @ (q + q.T)).reshape(SHAPE)

    clean = Clean(maps=explain(x), k=3)

    def attacked(delta: torch.Tensor) -> torch.Tensor:
        for _ in range(20):
            v = MassCenter().gradient(explain(x + delta), clean)
            curvature = explain(x + delta + v) - explain(x + delta - v)
            delta = project(x, delta - 0.01 * curvature.sign(), epsilon)
        return MassCenter().score(explain(x + delta), clean)

    assert (attacked(torch.zeros(SHAPE)) == 0).all()
    started = random_start(x, epsilon, [torch.Generator().manual_seed(i) for i in range(2)])
    before = MassCenter().score(explain(x + started), clean)
    assert (attacked(started) < 2 * before).all()


def test_the_score_is_not_truncated_to_whole_pixels():
    a, moved = torch.zeros(1, 1, 1, 10), torch.zeros(1, 1, 1, 10)
    a[..., 4] = 1.0
    moved[..., 4], moved[..., 5] = 0.75, 0.25
    assert MassCenter().score(moved, Clean(maps=a, k=1)).item() == -0.25
