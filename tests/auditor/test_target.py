"""The class that is explained means the same to an audit and to an attack."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import auditor
from auditor.attack_result import AttackResult
from auditor.attack_table import facts
from auditor.attributions import FRESH
from auditor.errors import InputError
from auditor.evaluation import Evaluator
from auditor.probes.subject import Subject
from auditor.target import ask, explained_classes

FAST = {"budget": 40, "oracle": "difference"}


def attacked(result: AttackResult) -> list[int]:
    return np.flatnonzero(result.arrays["attacked"]).tolist()


@pytest.mark.parametrize(
    ("target", "expected"),
    [("predicted", [2, 0, 1]), ("label", [2, 1, 1]), (1, [1, 1, 1]), ("1", [1, 1, 1])],
)
def test_explained_classes(target, expected):
    found = explained_classes(target, torch.tensor([2, 0, 1]), (2, 1, 1))
    assert found.dtype == torch.int64
    assert found.tolist() == expected


def test_an_index_attacks_the_images_of_that_class_alone(classifier, images):
    predicted = classifier(images.pixels).argmax(1).tolist()
    index = predicted[0]
    unlabeled = auditor.from_arrays(images.pixels)
    result = auditor.attack(classifier, unlabeled, target=index, **FAST)
    assert attacked(result) == [i for i, c in enumerate(predicted) if c == index]
    assert result.target == str(index)
    assert result.predicted == tuple(predicted)
    assert 0 < result.attacked < 12
    assert (result.another_class, result.misclassified) == (12 - result.attacked, 0)
    lines = "\n".join(facts(result))
    assert f"Explained class (--target): {index}." in lines
    assert f"({result.another_class} predicted as another class)" in lines
    assert AttackResult.from_json(result.to_json()) == result
    # As in an audit.
    audit = auditor.audit(classifier, unlabeled, target=index, **tiny_audit())
    assert sorted((*audit.images.screen, *audit.images.confirm)) == attacked(result)


def tiny_audit() -> dict:
    return {"effort": "quick", "sigmas": (0.1,), "samples": 4, "budget": 80}


def test_every_image_that_is_left_out_counts_once(classifier, images):
    """The third image's label says misclassified, whatever class is explained."""
    for target in ("label", "predicted", *range(10)):
        result = auditor.attack(
            classifier, images, target=target, attack="random-signs", epsilons=(2.0,)
        )
        left_out = result.misclassified + result.another_class + result.no_target
        assert result.attacked + left_out == 12
        assert result.misclassified == 1
        assert 2 not in attacked(result)


def test_the_next_images_map_is_that_of_the_explained_class(classifier, images):
    """What manipulation aims at: recomputed for one image, whose neighbor is of another class."""
    predicted = classifier(images.pixels).argmax(1).tolist()
    first = next(i for i in range(11) if predicted[i] != predicted[i + 1] and i != 2)
    index = predicted[first]
    levels = auditor.from_arrays((images.pixels * 255).round() / 255)
    result = auditor.attack(classifier, levels, attack="manipulation", target=index, **FAST)
    assert first in attacked(result)
    x = levels.pixels[first + 1 : first + 2]
    other = Subject(x=x, target=torch.tensor([index]), images=(first + 1,), k=20, seed=0)
    wanted, _ = other.smoothed(sigma=0, samples=1, stream=FRESH)(
        Evaluator(model=classifier, batch=1), x, other.target, images=(first + 1,), draw=0
    )
    moved = torch.from_numpy(result.arrays["map_after"][0, first])
    pair = (m.abs().flatten(-2).sum(dim=-2).double().flatten() for m in (wanted[0], moved))
    cosine = torch.nn.functional.cosine_similarity(*pair, dim=0)
    reached = result.rows[0].values["eight_bits"]["target_cosine"][first]
    assert reached == pytest.approx(float(cosine), abs=1e-5)


class Shades(nn.Module):
    """Sigmoid labels of brightness: 0 dark, 1 bright, 2 hardly depends on it."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor([-8.0, 8.0, 0.5]))
        self.share = nn.Parameter(torch.rand(144, generator=torch.Generator().manual_seed(0)))

    def forward(self, x):
        bright = (x.flatten(1) * self.share).sum(1, keepdim=True) / self.share.sum()
        return torch.sigmoid(self.scale * (bright + bright**2 - 0.7))


@pytest.fixture
def shades(images):
    model = auditor.from_network(
        Shades(),
        input_shape=(1, 12, 12),
        mean=[0.0],
        std=[1.0],
        labels=["dark", "bright", "either"],
    )
    scale = torch.linspace(0.2, 1, 12)[:, None, None, None]
    x = torch.rand(12, 1, 12, 12, generator=torch.Generator().manual_seed(5)) * scale
    return model, auditor.from_arrays(x, [0, 1] * 6)


def test_one_of_several_independent_labels_is_asked_alone(shades):
    model, images = shades
    result = auditor.attack(model, images, target=1, **FAST)
    present = (model.scores((images.pixels * 255).round() / 255)[:, 1] > 0.5).long().tolist()
    assert result.predicted == tuple(present)
    assert result.labels == (0, 1) * 6
    assert result.model.classes == 2
    assert (result.target, result.another_class) == ("1", 0)
    assert attacked(result) == [i for i in range(12) if present[i] == i % 2]


def test_a_question_to_one_label_is_for_all_members(shades):
    model, images = shades
    target, members, asked = ask(2, (model, model), images)
    assert target == "predicted"
    assert [member.labels for member in members] == [("not either", "either")] * 2
    assert (asked.labels, asked.class_names) == ((0,) * 12, ("not either", "either"))
    for target in ("predicted", "label"):
        same = ask(target, (model,), images)
        assert (same[0], same[1][0], same[2]) == (target, model, images)


@pytest.mark.parametrize("act", [auditor.attack, auditor.audit])
@pytest.mark.parametrize(
    ("target", "says"),
    [
        (10, "--target 10: model has classes 0 to 9"),
        (-1, "--target -1: model has classes 0 to 9"),
        ("best", "--target best: not understood"),
        ("label", "--target label: .* has no labels. Use --target predicted"),
    ],
)
def test_the_same_messages(act, target, says, classifier, images):
    with pytest.raises(InputError, match=says):
        act(classifier, auditor.from_arrays(images.pixels), target=target)
