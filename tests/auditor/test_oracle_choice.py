from __future__ import annotations

import dataclasses
import time

import pytest

from attacks import Boundary, Clean, Difference
from auditor.errors import InputError
from auditor.evaluation import Evaluator
from auditor.oracle_choice import ORACLES, choose_oracle
from auditor.probes.subject import Subject


@pytest.fixture
def bench(classifier, held_out):
    x = held_out[0][:4]
    evaluator = Evaluator(model=classifier, batch=8)
    target = classifier(x).argmax(dim=1)
    subject = Subject(x=x, target=target, images=(0, 1, 2, 3), k=20, seed=0)
    clean = Clean(maps=evaluator.gradients(x, target)[0], k=20)
    return subject.problem(evaluator, clean=clean).at([8 / 255]), evaluator


def slowed(monkeypatch, kind):
    step = kind.__call__

    def wait(self, *arguments):
        time.sleep(0.05)  # a step of these four images takes about a millisecond
        return step(self, *arguments)

    monkeypatch.setattr(kind, "__call__", wait)


def test_auto_takes_the_fastest(bench, monkeypatch):
    others = [type(oracle) for name, oracle in ORACLES.items() if name != "double-backward"]
    for kind in others:
        slowed(monkeypatch, kind)
    oracle, choice = choose_oracle("auto", bench[0], Boundary(), bench[1])
    assert choice.chosen == "double-backward"
    assert oracle == ORACLES["double-backward"]
    assert set(choice.gradients) == set(ORACLES)
    assert min(choice.gradients.values()) == choice.gradients["double-backward"] > 0
    assert choice.failed == {}


@pytest.mark.parametrize("name", sorted(ORACLES))
def test_what_is_asked_for_is_used(bench, name):
    found, choice = choose_oracle(name, bench[0], Boundary(), bench[1])
    assert found == ORACLES[name]
    assert (choice.asked, choice.chosen, list(choice.gradients)) == (name, name, [name])


def test_an_oracle_that_does_not_work_is_left_out_and_named(bench):
    problem = dataclasses.replace(bench[0], twin=None)
    oracle, choice = choose_oracle("auto", problem, Boundary(), bench[1])
    assert isinstance(oracle, Difference)
    assert set(choice.failed) == {"surrogate", "double-backward"}
    assert "needs a surrogate" in choice.failed["surrogate"]
    with pytest.raises(InputError, match=r"No oracle works with this model \(surrogate: "):
        choose_oracle("surrogate", problem, Boundary(), bench[1])
