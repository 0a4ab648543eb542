import pytest
import torch

from auditor.errors import InputError
from auditor.training.splits import check_splits, disjoint_splits


@pytest.mark.parametrize("seed", [10007, 5678, 12345])
def test_splits_are_disjoint_consecutive_parts_of_one_seeded_order(seed):
    splits = disjoint_splits(100, size=30, members=3, seed=seed)
    order = torch.randperm(100, generator=torch.Generator().manual_seed(seed))
    assert torch.equal(torch.cat(splits), order[:90])
    assert [len(rows) for rows in splits] == [30, 30, 30]


@pytest.mark.parametrize(("size", "members"), [(51, 2), (0, 2), (34, 3)])
def test_more_images_than_there_are(size, members):
    with pytest.raises(InputError, match="disjoint splits"):
        disjoint_splits(100, size=size, members=members, seed=0)


def test_shared_images_are_refused_where_splits_must_be_disjoint():
    y = torch.tensor([0, 1, 0, 1])
    splits = [torch.tensor([0, 1]), torch.tensor([1, 2])]
    check_splits(splits, y, disjoint=False)
    with pytest.raises(InputError, match="Splits 1 and 2 share 1 images"):
        check_splits(splits, y, disjoint=True)


def test_a_class_that_a_split_misses_is_named():
    y = torch.tensor([0, 1, 2, 0, 1, 2])
    splits = [torch.tensor([0, 1, 2]), torch.tensor([3, 4])]
    with pytest.raises(InputError, match=r"Split 2 \(2 images\) has no image of class 2"):
        check_splits(splits, y, disjoint=True)
