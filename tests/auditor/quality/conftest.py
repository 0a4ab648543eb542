"""What the tests of map quality share: ten digits, a tiny ReLU network, its gradients."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from auditor.evaluation import Evaluator


@pytest.fixture(scope="session")
def pictures(held_out: tuple[Tensor, Tensor]) -> Tensor:
    """Six held-out digits, not black anywhere: their 12×12 pixels lie in [.1, .9]."""
    return 0.1 + 0.8 * held_out[0][:6]


@pytest.fixture(scope="session")
def model(networks: tuple[nn.Module, nn.Module]) -> nn.Module:
    return networks[0].requires_grad_(False)


@pytest.fixture(scope="session")
def target(model: nn.Module, pictures: Tensor) -> Tensor:
    with torch.no_grad():
        return model(pictures).argmax(dim=1)


@pytest.fixture
def evaluator(model: nn.Module) -> Evaluator:
    return Evaluator(model=model, batch=16)


@pytest.fixture(scope="session")
def maps(model: nn.Module, pictures: Tensor, target: Tensor) -> Tensor:
    """Gradients of the explained logits."""
    return Evaluator(model=model, batch=16).gradients(pictures, target)[0]
