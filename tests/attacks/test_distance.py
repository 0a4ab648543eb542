from __future__ import annotations

import pytest
import torch
from torch import Tensor

from attacks import Clean, Distance


def maps(seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(3, 2, 4, 5, generator=generator, dtype=torch.float64)


def distance(a: Tensor, clean: Tensor) -> Tensor:
    return torch.linalg.vector_norm(a - clean, dim=(1, 2, 3)) / torch.linalg.vector_norm(
        clean, dim=(1, 2, 3)
    )


def test_the_gradient_points_along_the_derivative():
    a, clean = maps(1).requires_grad_(), Clean(maps=maps(2), k=1)
    (wanted,) = torch.autograd.grad(-distance(a, clean.maps).sum(), a)
    found = Distance().gradient(a.detach(), clean)
    similar = torch.cosine_similarity(found.flatten(1), wanted.flatten(1))
    torch.testing.assert_close(similar, torch.ones(3).double())  # float64


def test_the_score_is_the_relative_distance():
    a, clean = maps(1), Clean(maps=maps(2), k=1)
    torch.testing.assert_close(Distance().score(a, clean), -distance(a, clean.maps))
    assert (Distance().score(clean.maps, clean) == 0).all()
    torch.testing.assert_close(
        Distance().score(-2 * clean.maps, clean), -3 * torch.ones(3).double()
    )


def test_a_map_that_vanished_is_at_distance_one_and_gives_no_direction():
    a, clean = maps(1), Clean(maps=maps(2), k=1)
    a[0] = 0
    assert Distance().score(a, clean)[0] == -1
    assert not Distance().gradient(a, clean)[0].any()


@pytest.mark.parametrize("broken", [torch.nan, torch.inf])
def test_what_is_undefined_is_never_the_best(broken):
    a, clean = maps(1), maps(2)
    a[0, 0, 0, 0] = broken
    clean[1] = 0
    score = Distance().score(a, Clean(maps=clean, k=1))
    assert score.isinf().tolist() == [True, True, False]
    assert (score[:2] > 0).all()
