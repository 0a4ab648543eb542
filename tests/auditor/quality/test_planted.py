from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from auditor.attributions import Custom, SimpleGrad
from auditor.errors import InputError
from auditor.evaluation import Evaluator
from auditor.quality.planted import (
    NO_TRUTH,
    OneBlock,
    Pairs,
    PlantedTruth,
    side_by_side,
    trained,
)
from auditor.quality.scores import ZERO_MAP

RANDOM = Custom(function=lambda model, x, target: torch.randn_like(x), name="random", random=True)
EDGES = Custom(function=lambda model, x, target: x.diff(dim=3, prepend=x[..., :1]), name="edges")
NAMES = ("planted_mass", "planted_topk")


@pytest.fixture(scope="module")
def pairs(held_out: tuple[Tensor, Tensor]) -> Pairs:
    x, labels = held_out
    return side_by_side(x[:40], seed=0, labels=labels[:40])


@pytest.fixture(scope="module")
def exact(model: nn.Module) -> tuple[Evaluator, Evaluator]:
    left, right = (OneBlock(model, block) for block in ("left", "right"))
    return Evaluator(model=left, batch=64), Evaluator(model=right, batch=64)


@pytest.fixture(scope="module")
def learned(digits: tuple[Tensor, Tensor]) -> tuple[Evaluator, Evaluator]:
    """Two networks that see both blocks: of one the left, of the other the right one decides."""

    def make() -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(1, 8, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(576, 10),
        )

    x, labels = digits
    halves = [side_by_side(x[:1600], seed=seed, labels=labels[:1600]) for seed in range(3)]
    known = Pairs(
        x=torch.cat([half.x for half in halves]),
        labels=torch.cat([torch.stack([h.label("left"), h.label("right")], 1) for h in halves]),
    )
    left, right = (
        trained(make, known, block=block, epochs=8, seed=0) for block in ("left", "right")
    )
    return Evaluator(model=left, batch=64), Evaluator(model=right, batch=64)


def test_every_image_stands_once_in_each_block_and_never_beside_itself(held_out):
    x, _ = held_out
    for size in (2, 3, 40):
        known = torch.arange(size)
        pairs = side_by_side(x[:size], seed=size, labels=known)
        left, right = pairs.x.chunk(2, dim=3)
        assert torch.equal(pairs.label("left"), known)
        assert pairs.label("right").sort().values.tolist() == known.tolist()
        assert (pairs.label("left") != pairs.label("right")).all()
        assert torch.equal(left, x[:size])
        assert torch.equal(right, x[pairs.label("right")])
    with pytest.raises(InputError, match="two images"):
        side_by_side(x[:1], seed=0)
    with pytest.raises(InputError, match="labels"):
        side_by_side(x[:2], seed=0).label("left")


def test_swapping_replaces_one_block(pairs):
    left, right = pairs.x.chunk(2, dim=3)
    new_left, same_right = pairs.swapped("left", by=1).chunk(2, dim=3)
    assert torch.equal(same_right, right)
    assert torch.equal(new_left[1:], left[:-1])
    same_left, new_right = pairs.swapped("right", by=3).chunk(2, dim=3)
    assert torch.equal(same_left, left)
    assert torch.equal(new_right[3:], right[:-3])


def test_one_block_is_the_classifier_of_that_block(model, pairs):
    left, right = pairs.x.chunk(2, dim=3)
    assert torch.equal(OneBlock(model, "left")(pairs.x), model(left))
    assert torch.equal(OneBlock(model, "right")(pairs.x), model(right))


def test_the_gradient_finds_the_block_and_other_maps_do_not(exact, pairs):
    found = PlantedTruth()(exact, SimpleGrad(), pairs, images=range(40))
    assert not found.undefined[NO_TRUTH].any()
    for name in NAMES:
        assert (found.values[name] == 1).all()
        assert (found.details[f"{name}_by_model"] == 1).all()
        assert found.units[name] == "ratio"
    blind = PlantedTruth()(exact, EDGES, pairs, images=range(40))
    for name in NAMES:
        # Shares of both models add up to one, whatever the map shows.
        torch.testing.assert_close(blind.values[name], torch.full((40,), 0.5).double())
        by_model = blind.details[f"{name}_by_model"]
        assert (by_model[:, 0] - 0.5).abs().max() > 0.05
    noise = PlantedTruth()(exact, RANDOM, pairs, images=range(40))
    # Of 20 top pixels in two models each: a standard error of .5/√(20·2·40) = .0125.
    assert abs(noise.values["planted_topk"].mean() - 0.5) < 0.05
    assert abs(noise.values["planted_mass"].mean() - 0.5) < 0.02


def test_the_gradient_finds_the_block_that_a_network_learned_to_look_at(learned, held_out):
    x, labels = held_out
    pairs = side_by_side(x[:60], seed=5, labels=labels[:60])
    for evaluator, block in zip(learned, ("left", "right"), strict=True):
        right = evaluator.logits(pairs.x).argmax(dim=1) == pairs.label(block)
        assert right.double().mean() > 0.8
    found = PlantedTruth()(learned, SimpleGrad(), pairs, images=range(60))
    noise = PlantedTruth()(learned, RANDOM, pairs, images=range(60))
    counted = ~found.undefined[NO_TRUTH]
    assert counted.sum() >= 40
    for name in NAMES:
        assert found.values[name].isnan().tolist() == (~counted).tolist()
        assert found.values[name][counted].mean() > 0.7
        assert abs(noise.values[name][counted].mean() - 0.5) < 0.1


def test_pictures_without_a_truth_do_not_count(model, pairs):
    class Both(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            left, right = x.chunk(2, dim=3)
            return model(left) + model(right)

    class Neither(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return 1e-9 * x.flatten(1)[:, :2] + torch.tensor([0.0, 1.0])

    honest = Evaluator(model=OneBlock(model, "right"), batch=64)
    for made in (Both(), Neither()):
        evaluators = Evaluator(model=made, batch=64), honest
        found = PlantedTruth()(evaluators, SimpleGrad(), pairs, images=range(40))
        assert found.undefined[NO_TRUTH].double().mean() > 0.9
        for name in NAMES:
            assert torch.equal(found.values[name].isnan(), found.undefined[NO_TRUTH])


def test_a_zero_map_has_no_share_and_the_cost_is_booked(model, exact, pairs):
    def vanishes(model: nn.Module, x: Tensor, target: Tensor) -> Tensor:
        return x * (torch.arange(len(x)) != 1)[:, None, None, None]

    evaluators = tuple(Evaluator(model=e.model, batch=64) for e in exact)
    method = Custom(function=vanishes, name="vanishes")
    found = PlantedTruth(swaps=3)(evaluators, method, pairs, images=range(40))
    assert found.undefined[ZERO_MAP].tolist() == [row == 1 for row in range(40)]
    assert found.values["planted_mass"].isnan()[1]
    # Its own prediction, two blocks swapped three times, and the logits beside the maps.
    assert evaluators[0].meter.forwards == {"audit": 40 * (1 + 2 * 3 + 1)}


def test_training_repeats_by_its_seed_and_leaves_the_global_one_alone(pairs):
    def make() -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(288, 10))

    state = torch.random.get_rng_state()
    first, second, other = (
        trained(make, pairs, block="left", epochs=1, seed=seed)[1].weight for seed in (0, 0, 1)
    )
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.equal(first, second)
    assert not torch.equal(first, other)
