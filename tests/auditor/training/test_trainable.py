from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import nn

from auditor.capabilities import EAGER, Ability
from auditor.errors import InputError
from auditor.models import from_network
from auditor.training.trainable import Trainable


@pytest.fixture
def classifier():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(16, 1))
    return from_network(network, input_shape=(1, 4, 4), mean=[0.3], std=[0.7])


def test_trains_a_copy_behind_the_same_preparation_and_reading(classifier):
    x = torch.rand(5, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    model = Trainable(classifier)
    before = classifier(x)
    assert model.training
    assert before.shape == (5, 2)  # one score makes two classes
    torch.testing.assert_close(model.eval()(x), before)
    model(x)[:, 0].sum().backward()
    with torch.no_grad():
        for weight in model.parameters():
            weight -= weight.grad
    assert (model(x) - before).abs().min() > 1e-3
    torch.testing.assert_close(classifier(x), before, rtol=0, atol=0)
    assert not any(p.requires_grad for p in classifier.parameters())


def test_a_format_that_cannot_be_trained_is_refused(classifier):
    no = Ability(able=False, reason="The file holds no weights. Give the code.")
    classifier.capabilities = dataclasses.replace(EAGER, training=no)
    with pytest.raises(InputError, match=r"cannot be trained\. The file holds no weights"):
        Trainable(classifier)
