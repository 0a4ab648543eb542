"""A tiny ReLU network on real digits, trained twice in a second, and a user's project around it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from sklearn.datasets import load_digits
from torch import Tensor, nn

import auditor
from auditor import cli
from auditor.engine import audit
from auditor.images import ImageSet
from auditor.models import Classifier
from auditor.results import AuditResult

SHAPE = (1, 12, 12)  # 8×8 digits with a margin of two: SSIM needs 11 pixels
TINY = {"effort": "quick", "sigmas": (0.05, 0.2), "samples": 6, "budget": 120}

FACTORY = """
import torch
from torch import nn


def network():
    return nn.Sequential(
        nn.Conv2d(1, 6, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(216, 10),
    )


class Spoiled(nn.Module):
    def __init__(self, spoil):
        super().__init__()
        self.network, self.spoil = network(), spoil

    def forward(self, x):
        return self.spoil(self.network(x))


def no_gradient():
    return Spoiled(lambda logits: logits.detach())


def changing():
    return Spoiled(lambda logits: logits + torch.rand_like(logits))
"""


def network() -> nn.Module:
    space: dict[str, object] = {}
    exec(FACTORY, space)
    return space["network"]()


def train(x: Tensor, y: Tensor, *, seed: int) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = network()
        optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
        for _ in range(4):
            for rows in torch.randperm(len(x)).split(64):
                optimizer.zero_grad()
                nn.functional.cross_entropy(model(x[rows]), y[rows]).backward()
                optimizer.step()
    return model.eval()


@pytest.fixture(scope="session")
def digits() -> tuple[Tensor, Tensor]:
    """All 1,797 digits in shuffled order: pixels in sixteenths of [0, 1], labels."""
    data = load_digits()
    order = np.random.default_rng(0).permutation(len(data.target))
    x = torch.from_numpy(data.images[order]).float()[:, None] / 16
    return nn.functional.pad(x, (2, 2, 2, 2)), torch.from_numpy(data.target[order]).long()


@pytest.fixture(scope="session")
def networks(digits: tuple[Tensor, Tensor]) -> tuple[nn.Module, nn.Module]:
    """The audited network and its twin, from disjoint digits."""
    x, y = digits
    return train(x[:800], y[:800], seed=0), train(x[800:1600], y[800:1600], seed=1)


def wrap(network: nn.Module, name: str = "model") -> Classifier:
    return auditor.from_network(network, input_shape=SHAPE, mean=[0.0], std=[1.0], name=name)


@pytest.fixture(scope="session")
def classifier(networks: tuple[nn.Module, nn.Module]) -> Classifier:
    return wrap(networks[0])


@pytest.fixture(scope="session")
def twin(networks: tuple[nn.Module, nn.Module]) -> Classifier:
    return wrap(networks[1], "twin")


@pytest.fixture(scope="session")
def held_out(digits: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Digits that neither network was trained on."""
    return digits[0][1600:], digits[1][1600:]


@pytest.fixture(scope="session")
def images(held_out: tuple[Tensor, Tensor], classifier: Classifier) -> ImageSet:
    """Twelve held-out digits; the third is the only one whose label says misclassified."""
    x, _ = held_out
    labels = classifier(x[:12]).argmax(dim=1)
    labels[2] = (labels[2] + 1) % 10
    return auditor.from_arrays(x[:12], labels)


@pytest.fixture(scope="session")
def tiny() -> dict[str, object]:
    """Settings of an audit that takes a second."""
    return dict(TINY)


@pytest.fixture(scope="session")
def audited(classifier: Classifier, twin: Classifier, images: ImageSet) -> AuditResult:
    """The audit of the tiny network with its twin."""
    return audit(classifier, images, twins=[twin], **TINY)


@pytest.fixture(scope="session")
def project(
    tmp_path_factory: pytest.TempPathFactory,
    networks: tuple[nn.Module, nn.Module],
    held_out: tuple[Tensor, Tensor],
) -> Path:
    """A user's folder: ``net.py``, weights of both networks, 40 and 12 digits with labels."""
    folder = tmp_path_factory.mktemp("project")
    (folder / "net.py").write_text(FACTORY)
    for name, trained in zip(("model", "twin"), networks, strict=True):
        save_file(trained.state_dict(), folder / f"{name}.safetensors")
    x, y = held_out
    np.savez(folder / "digits.npz", x=x[:40].numpy(), y=y[:40].numpy())
    np.savez(folder / "few.npz", x=x[:12].numpy(), y=y[:12].numpy())
    return folder


@pytest.fixture
def here(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the files of the project, in which commands run."""
    for file in project.iterdir():
        if file.is_file():
            (tmp_path / file.name).symlink_to(file)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def run(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[[list[str]], tuple[object, str, str]]:
    """Run a command line in this process: exit code, stdout and stderr."""

    def call(line: list[str]) -> tuple[object, str, str]:
        monkeypatch.setattr(sys, "argv", ["auditor", *line])
        with pytest.raises(SystemExit) as caught:
            cli.main()
        out, err = capsys.readouterr()
        return caught.value.code, out, err

    return call
