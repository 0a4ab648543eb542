import dataclasses
import functools

import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn

from auditor.errors import IncompleteRunError, InputError
from auditor.training.ensemble import Member, accuracy, check_distinct, seeded, train_member
from auditor.training.fit import Training
from auditor.training.splits import disjoint_splits

TRAINING = Training(
    epochs=4, batch=16, optimizer="sgd", learning_rate=0.2, weight_decay=1e-3, schedule="cosine"
)


@pytest.fixture(scope="module")
def digits():
    data = load_digits()
    x = torch.from_numpy(data.images).float()[:, None] / 16
    return x, torch.from_numpy(data.target).long()


def network():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))


def train(member, digits, cache, **more):
    x, y = digits
    return train_member(
        member,
        functools.partial(seeded, network),
        x.__getitem__,
        y,
        data="digits",
        cache=cache,
        held_out=torch.arange(1500, 1700),
        **more,
    )


def members(seed=10007, **changed):
    training = dataclasses.replace(TRAINING, **changed)
    splits = disjoint_splits(1500, size=600, members=2, seed=seed)
    return [
        Member(name=f"member {i}", rows=rows, seed=seed + i, training=training)
        for i, rows in enumerate(splits)
    ]


def weights(model):
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def test_members_learn_and_differ(digits, tmp_path):
    networks = [train(member, digits, tmp_path) for member in members()]
    x, y = digits
    assert all(accuracy(m, x.__getitem__, y, torch.arange(1500, 1797)) > 0.85 for m in networks)
    check_distinct(networks, ["one", "two"])
    assert not any(model.training for model in networks)


def test_a_second_audit_finds_the_trained_member(digits, tmp_path):
    first = train(members()[0], digits, tmp_path)
    epochs, passed = [], []
    again = train(members()[0], digits, tmp_path, watch=epochs.append, advance=passed.append)
    assert torch.equal(weights(first), weights(again))
    assert passed == [4 * 600]  # at once, from the checkpoint
    assert [epoch.number for epoch in epochs] == [0, 1, 2, 3, 4]
    assert epochs[-1].loss < epochs[1].loss
    assert epochs[-1].measured["accuracy"] > epochs[0].measured["accuracy"]


def test_a_member_killed_in_training_ends_with_the_weights_of_one_that_was_not(digits, tmp_path):
    member = members()[0]
    whole = train(member, digits, tmp_path / "whole")

    def killed(epoch):
        if epoch.number == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(member, digits, tmp_path / "cut", watch=killed)
    resumed = train(member, digits, tmp_path / "cut")
    torch.testing.assert_close(weights(resumed), weights(whole), rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1},
        {"rows": torch.arange(600)},
        {"training": dataclasses.replace(TRAINING, momentum=0.5)},
    ],
    ids=["seed", "data", "recipe"],
)
def test_members_are_told_apart_by_recipe_data_and_seed(change):
    member = members()[0]
    assert dataclasses.replace(member, **change).digest("digits") != member.digest("digits")
    assert member.digest("digits") != member.digest("other images")
    assert dataclasses.replace(member, name="renamed").digest("digits") == member.digest("digits")


def test_first_weights_depend_on_the_seed_alone():
    before = torch.random.get_rng_state()
    one, other = seeded(network, 3), seeded(network, 3)
    assert torch.equal(weights(one), weights(other))
    assert not torch.equal(weights(one), weights(seeded(network, 4)))
    assert torch.equal(before, torch.random.get_rng_state())


def test_the_same_weights_twice_are_refused():
    one = seeded(network, 0)
    with pytest.raises(InputError, match=r"b and c have the same weights"):
        check_distinct([seeded(network, 1), one, one], ["a", "b", "c"])
    with pytest.raises(InputError, match="at least two"):
        check_distinct([one], ["a"])


def test_a_loss_that_is_not_finite_ends_the_run(digits, tmp_path):
    (member, _) = members(learning_rate=1e30)
    with pytest.raises(IncompleteRunError, match="Lower the learning rate"):
        train(member, digits, tmp_path)
