from __future__ import annotations

import pytest
import torch
from torch import nn

import auditor
from auditor.models import from_network
from auditor.quality import gini
from auditor.training.harden import MEASURED, measurements, prepare
from auditor.training.pgd import Pgd
from auditor.training.registry import find_recipe


class Threshold(nn.Module):
    """Class 1 where the first pixel is above one half: robust by the distance from it."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([8.0, 2.0, 0.0, 0.0]))

    def forward(self, x):
        score = (x - 0.5).flatten(1) @ self.weight
        return torch.stack([-score, score], dim=1)


def test_measures_what_a_linear_model_must_have():
    first = torch.tensor([0.1, 0.45, 0.55, 0.9, 0.9])
    x = torch.full((5, 1, 2, 2), 0.5)
    x[:, 0, 0, 0] = first
    y = torch.tensor([0, 0, 1, 1, 0])  # the last label is wrong
    found = measurements(Threshold(), x, y, attack=Pgd(epsilon=0.1, steps=20), seed=0, batch=2)
    assert found["benign_accuracy"] == pytest.approx(4 / 5)
    # An attack moves the score by 0.1·(8 + 2): 0.45 and 0.55 are 0.4 away, 0.1 and 0.9 are 3.2.
    assert found["pgd_accuracy"] == pytest.approx(2 / 5)
    assert found["gini"] == pytest.approx(gini(torch.tensor([[[8.0, 2.0], [0.0, 0.0]]])).item())
    assert found["without_map"] == 0


def test_a_map_that_vanishes_is_counted():
    model = Threshold()
    nn.init.zeros_(model.weight)
    x, y = torch.rand(3, 1, 2, 2), torch.zeros(3, dtype=torch.long)
    found = measurements(model, x, y, attack=Pgd(steps=1), seed=0)
    assert found["gini"] is None
    assert found["without_map"] == 3


def test_every_image_is_trained_on_or_held_out():
    images = auditor.from_arrays(torch.rand(2000, 1, 2, 2), torch.arange(2000) % 2)
    classifier = from_network(Threshold(), input_shape=(1, 2, 2), mean=[0.0], std=[1.0])
    found = [
        prepare(classifier, images, asked=find_recipe("natural"), seed=seed) for seed in (0, 0, 1)
    ]
    first = found[0]
    assert len(first.fitted) == 1600
    assert len(first.held_out) == MEASURED
    assert not set(first.fitted.tolist()) & set(first.held_out.tolist())
    assert torch.equal(first.fitted, found[1].fitted)
    assert not torch.equal(first.fitted, found[2].fitted)
