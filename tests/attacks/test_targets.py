"""Bad and odd targets, masks and pictures."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from attacks.clean import Clean
from attacks.manipulation import Manipulation, as_target_map
from attacks.rank import Rank
from attacks.region import TargetRegion

pictures = arrays.arrays("float64", (4, 5), elements=st.floats(0, 1e300)).filter(lambda p: p.any())


@given(picture=pictures)
def test_a_target_map_sums_to_one_and_keeps_its_proportions(picture):
    found = as_target_map(torch.from_numpy(picture))
    assert found.sum().item() == pytest.approx(1, rel=1e-12)
    proportions = torch.from_numpy(picture / picture.max())
    torch.testing.assert_close(found / found.max(), proportions, rtol=1e-12, atol=1e-300)


def test_masks_bytes_and_batches_are_pictures_too():
    mask = torch.tensor([[True, False], [True, True]])
    third = 1 / 3
    assert as_target_map(mask).flatten().tolist() == pytest.approx([third, 0, third, third])
    assert as_target_map(mask.byte() * 200).equal(as_target_map(mask))
    both = torch.stack([mask.float(), torch.eye(2)])
    assert as_target_map(both)[1].tolist() == [[0.5, 0.0], [0.0, 0.5]]
    assert as_target_map(both)[0].equal(as_target_map(mask))


@pytest.mark.parametrize(
    ("picture", "message"),
    [
        (torch.zeros(3, 3), "zero everywhere"),
        (torch.stack([torch.ones(3, 3), torch.zeros(3, 3)]), "zero everywhere"),
        (torch.tensor([[1.0, -1e-9]]), "negative"),
        (torch.tensor([[1.0, torch.nan]]), "not finite"),
        (torch.tensor([[1.0, torch.inf]]), "not finite"),
        (torch.ones(4), r"not \(4,\)"),
        (torch.ones(2, 3, 4, 4), r"not \(2, 3, 4, 4\)"),
        (torch.ones(0, 4), "no pixel"),
    ],
)
def test_pictures_that_are_no_target(picture, message):
    with pytest.raises(ValueError, match=message):
        as_target_map(picture)


@pytest.mark.parametrize("shape", [(2, 4, 3), (1, 6, 8), (3, 4)])
def test_a_target_or_mask_of_another_shape_than_the_map(shape):
    a = torch.randn(2, 3, 3, 4, generator=torch.Generator().manual_seed(0))
    clean = Clean(maps=a, k=2)
    mask = torch.zeros(shape, dtype=torch.bool)
    mask[..., 0] = True
    for objective in (Manipulation(target=torch.ones(shape)), TargetRegion(mask=mask)):
        for use in (objective.gradient, objective.score):
            with pytest.raises(ValueError, match="does not fit maps of 3×4"):
                use(a, clean)


@pytest.mark.parametrize("value", [False, True])
def test_a_mask_that_cannot_be_attacked(value):
    a = torch.ones(2, 1, 3, 4)
    mask = torch.eye(4)[:3].bool().repeat(2, 1, 1)
    TargetRegion(mask=mask).score(a, Clean(maps=a, k=2))
    mask[1] = value
    for use in (TargetRegion(mask=mask).gradient, TargetRegion(mask=mask).score):
        with pytest.raises(ValueError, match="hold some pixels and leave some out"):
            use(a, Clean(maps=a, k=2))


def test_one_target_serves_every_image():
    a = torch.randn(2, 3, 3, 4, generator=torch.Generator().manual_seed(1))
    target = as_target_map(torch.rand(3, 4, generator=torch.Generator().manual_seed(2)))
    clean = Clean(maps=a, k=2)
    one, each = (Manipulation(target=t) for t in (target[None], target.expand(2, 3, 4)))
    assert one.gradient(a, clean).equal(each.gradient(a, clean))
    assert one.score(a, clean).equal(each.score(a, clean))


def test_the_target_itself_is_the_best_map():
    target = as_target_map(torch.rand(2, 3, 4, generator=torch.Generator().manual_seed(3)))
    a = torch.stack([target, -3 * target], dim=1)  # its magnitude is four times the target
    score = Manipulation(target=target).score(a, Clean(maps=a, k=2))
    assert score.tolist() == pytest.approx([-1, -1], abs=1e-6)


def test_a_clean_map_without_order_has_no_spearman():
    a = torch.rand(1, 1, 3, 4, generator=torch.Generator().manual_seed(4))
    flat = torch.ones(1, 1, 3, 4)
    assert Rank().score(a, Clean(maps=flat, k=2)).item() == torch.inf
    assert Rank().score(flat, Clean(maps=a, k=2)).item() == torch.inf
    assert Rank().gradient(flat, Clean(maps=a, k=2)).isfinite().all()
