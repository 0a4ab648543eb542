"""How long the tests of faults go on: seconds in CI, many minutes by ``make faults``."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn

import auditor
from auditor.engine import execute
from auditor.plan import Plan, make_plan
from auditor.store import RunFolder

from .audits import comparable


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--long", action="store_true", help="Inject faults for many minutes.")


@pytest.fixture(scope="session")
def long(request: pytest.FixtureRequest) -> bool:
    return bool(request.config.getoption("--long", default=False))


@pytest.fixture(scope="session")
def plan() -> Plan:
    """Six digits, each a part of its own, at three σ: 19 tasks in less than a second."""
    x = torch.from_numpy(load_digits().images[:6]).float()[:, None] / 16
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(576, 10)
        )
    model = auditor.from_network(network, input_shape=(1, 12, 12), mean=[0.0], std=[1.0])
    images = auditor.from_arrays(nn.functional.pad(x, (2, 2, 2, 2)))
    planned = make_plan(model, images, effort="glance", sigmas=(0.1, 0.2), samples=3)
    return dataclasses.replace(planned, settings=dataclasses.replace(planned.settings, chunk=1))


@pytest.fixture(scope="session")
def undisturbed(plan: Plan, tmp_path_factory: pytest.TempPathFactory) -> dict:
    """The same audit without a fault."""
    folder = tmp_path_factory.mktemp("undisturbed")
    execute(plan, RunFolder(folder), command="")
    return comparable(folder)
