from __future__ import annotations

import copy
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from auditor.attributions import Custom, SimpleGrad
from auditor.attributions.noise import mix
from auditor.capabilities import Ability, Capabilities
from auditor.control import randomize_modules
from auditor.errors import InputError
from auditor.evaluation import Evaluator
from auditor.metrics.drift import drift
from auditor.quality.randomization import VANISHED, Randomization, layers_of
from auditor.quality.scores import ZERO_MAP

IMAGES = (0, 1, 2, 3, 4, 5)
CHECK = Randomization(seed=3)


def seeded(make, seed: int = 0) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return make().eval().requires_grad_(False)


def normalized() -> nn.Module:
    return seeded(
        lambda: nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.Conv2d(4, 4, 3, padding=1),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(576, 10),
        )
    )


class Attentive(nn.Module):
    """Registered out of order; with a scale of its own, attention, and a head never called."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(12, 10)
        self.unused = nn.Linear(3, 3)
        self.attention = nn.MultiheadAttention(12, 2, batch_first=True)
        self.norm = nn.LayerNorm(12)
        self.embed = nn.Linear(12, 12)
        self.scale = nn.Parameter(torch.ones(12, 1))

    def forward(self, x: Tensor) -> Tensor:
        rows = self.norm(self.embed(self.scale * x[:, 0]))
        return self.head(self.attention(rows, rows, rows, need_weights=False)[0].mean(dim=1))


def test_layers_are_found_from_the_output_backwards(pictures):
    found = layers_of(Evaluator(model=normalized(), batch=8), pictures).found
    assert [(layer.name, layer.modules) for layer in found] == [
        ("7", ("7",)),
        ("3", ("3", "4")),
        ("0", ("0", "1")),
    ]


def test_calls_decide_not_the_order_of_registration(pictures):
    found = layers_of(Evaluator(model=seeded(Attentive), batch=8), pictures).found
    assert [layer.modules for layer in found] == [
        ("head",),
        ("attention", "attention.out_proj"),
        ("embed", "norm"),
        ("", "unused"),
    ]
    assert found[-1].name == "Attentive"


def test_each_step_keeps_the_earlier_ones(model, evaluator, maps, pictures, target):
    found = CHECK(
        evaluator, SimpleGrad(), pictures, target, images=IMAGES, calibration=pictures, k=20
    )
    layers = layers_of(evaluator, pictures).found
    assert [layer.name for layer in layers] == ["4", "0"]
    changed, expected = copy.deepcopy(model), {}
    for place, layer in enumerate(layers):
        randomize_modules([changed[int(layer.name)]], seed=mix(3, place))
        moved, _ = Evaluator(model=changed, batch=16).gradients(pictures, target)
        values = drift(maps, moved, k=20)
        for metric in ("spearman", "ssim", "topk_intersection"):
            expected[f"randomized_{metric}_{layer.name}"] = values[metric]
    assert list(found.values) == list(expected)
    for name, value in expected.items():
        torch.testing.assert_close(found.values[name], value, rtol=0, atol=0)
    assert found.units == dict.fromkeys(expected, "ratio")


def test_the_gradient_depends_on_the_weights_and_an_edge_detector_does_not(
    evaluator, pictures, target
):
    def edges(model: nn.Module, x: Tensor, target: Tensor) -> Tensor:
        return x - torch.nn.functional.avg_pool2d(x, 3, stride=1, padding=1)

    blind = Custom(function=edges, name="edges")
    for method, same in ((blind, True), (SimpleGrad(), False)):
        found = CHECK(evaluator, method, pictures, target, images=IMAGES, calibration=pictures)
        last = [found.values[f"randomized_{m}_0"] for m in ("spearman", "topk_intersection")]
        for value in found.values.values():
            assert value.shape == (6,)
        for value in last:
            assert (value == 1).all() if same else value.mean() < 0.5


def test_model_and_random_state_are_left_as_they_were(model, evaluator, pictures, target):
    before, state = copy.deepcopy(model.state_dict()), torch.random.get_rng_state()
    CHECK(evaluator, SimpleGrad(), pictures, target, images=IMAGES, calibration=pictures)
    assert all(torch.equal(before[name], now) for name, now in model.state_dict().items())
    assert torch.equal(torch.random.get_rng_state(), state)


def test_statistics_are_taken_anew_only_where_weights_are(pictures, target):
    model, seen = normalized(), []
    for norm in (model[1], model[4]):
        norm.running_mean.fill_(0.25)

    def watch(model: nn.Module, x: Tensor, target: Tensor) -> Tensor:
        seen.append([(model[i].running_mean == 0.25).all().item() for i in (1, 4)])
        assert not model.training
        assert not model[4].training
        return x

    evaluator = Evaluator(model=model, batch=8)
    method = Custom(function=watch, name="watch")
    CHECK(evaluator, method, pictures, target, images=IMAGES, calibration=pictures)
    assert seen == [[True, True], [True, True], [True, False], [False, False]]
    # One image shows the layers, six are explained four times over, and six calibrate twice.
    assert evaluator.meter.forwards["audit"] == 1 + 4 * 6 + 2 * 6
    with pytest.raises(InputError, match="at least 2 images"):
        CHECK(evaluator, method, pictures, target, images=IMAGES, calibration=pictures[:1])


def test_a_classifier_keeps_its_preprocessing(classifier, pictures, target):
    evaluator = Evaluator(model=classifier, batch=8)
    found = CHECK(evaluator, SimpleGrad(), pictures, target, images=IMAGES, calibration=pictures)
    assert list(found.values)[-1] == "randomized_topk_intersection_0"
    assert len(found.values) == 6


@pytest.mark.parametrize("ability", ["layers", "reinitialization"])
def test_without_layers_there_is_a_reason(ability, model, pictures, target):
    able = Capabilities(**{ability: Ability(False, "a graph.")})
    frozen = nn.Sequential(copy.deepcopy(model))
    frozen.capabilities = able
    cases = {
        "a graph.": frozen,
        "the model is a function: it has no layers to re-initialize.": lambda x: model(x),
        "the network has no parameters.": nn.Flatten(),
    }
    for reason, made in cases.items():
        evaluator = Evaluator(model=made, batch=8)
        found = CHECK(
            evaluator, SimpleGrad(), pictures, target, images=IMAGES, calibration=pictures
        )
        assert not found.values
        assert set(found.unavailable.values()) == {reason}
        assert len(found.unavailable) == 3


def test_maps_that_cannot_be_compared_are_undefined(evaluator, maps, pictures, target):
    maps = maps.clone()
    maps[1] = 0
    silent = SimpleNamespace(calls=0)

    def vanishes(model: nn.Module, x: Tensor, target: Tensor) -> Tensor:
        silent.calls += 1
        return torch.where(torch.arange(6)[:, None, None, None] == 2, 0.0, x)

    found = CHECK(
        evaluator,
        Custom(function=vanishes, name="vanishes"),
        pictures,
        target,
        images=IMAGES,
        calibration=pictures,
        maps=maps,
    )
    assert silent.calls == 2
    for value in found.values.values():
        assert value.isnan().tolist() == [False, True, True, False, False, False]
    assert found.undefined[ZERO_MAP].tolist() == [False, True] + [False] * 4
    assert found.undefined[VANISHED].tolist() == [False, False, True] + [False] * 3


def test_small_maps_have_no_structural_similarity():
    x, target = torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(0)), torch.zeros(2)
    network = seeded(lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 3)))
    found = CHECK(
        Evaluator(model=network, batch=8),
        SimpleGrad(),
        x,
        target.long(),
        images=(0, 1),
        calibration=x,
    )
    assert set(found.values) == {"randomized_spearman_1", "randomized_topk_intersection_1"}
    assert "window" in found.unavailable["randomized_ssim_1"]
