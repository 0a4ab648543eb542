from __future__ import annotations

import pytest
import torch

from attacks import (
    Annealed,
    Apgd,
    Difference,
    DoubleBackward,
    FixedSign,
    Manipulation,
    MassCenter,
    Search,
    Strongest,
    SurrogateDifference,
    TargetRegion,
)
from auditor.attack_plan import (
    ATTACKS,
    TARGETED,
    as_targets,
    describe_searches,
    make_request,
    no_target,
)
from auditor.errors import InputError
from auditor.oracle_choice import ORACLES
from auditor.probes.suite import strongest
from auditor.settings import plan_settings
from profiles import load_profile

SHAPE = (1, 12, 12)
USUAL = {
    "attack": "strongest",
    "input_shape": SHAPE,
    "epsilons": (8.0,),
    "norm": "linf",
    "sigma": 0.0,
    "samples": None,
    "steps": None,
    "budget": None,
    "k": None,
    "rule": None,
    "oracle": "difference",
    "toward": None,
    "seed": 0,
}
MASK = torch.eye(12)


def request(**changes):
    return make_request(**(USUAL | changes))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"attack": "magic"}, "attack 'magic' is unknown. Choose one of strongest, topk"),
        ({"norm": "l1"}, "norm 'l1' is unknown"),
        ({"rule": "adam"}, "rule 'adam' is unknown"),
        ({"oracle": "delphi"}, "oracle 'delphi' is unknown"),
        ({"epsilons": ()}, "At least one epsilon"),
        ({"epsilons": (8.0, 0.0)}, r"epsilon 0 is out of range: give values in \(0, 255\]"),
        ({"epsilons": (-1.0,)}, "epsilon -1 is out of range"),
        ({"epsilons": (256.0,)}, "epsilon 256 is out of range"),
        ({"epsilons": (3061.0,), "norm": "l2"}, r"give values in \(0, 3060\]"),
        ({"sigma": -0.1}, "sigma -0.1 is out of range"),
        ({"sigma": float("nan")}, "sigma nan is out of range"),
        ({"samples": 10}, "give a sigma > 0"),
        ({"samples": 1, "sigma": 0.1}, "samples 1 is too small"),
        ({"k": 0}, "k 0 is out of range"),
        ({"k": 145}, "k 145 is out of range: a map has 144 pixels"),
        ({"seed": 2**63}, "seed 9223372036854775808 is out of range"),
        ({"steps": 10, "budget": 100}, "give one of them"),
        ({"steps": 0}, "steps 0 is too small"),
        ({"budget": 5}, "budget 5 is too small for one step of strongest: give at least 6"),
        ({"budget": 2, "attack": "rank"}, "budget 2 is too small for one step of rank"),
        ({"budget": 4, "attack": "rank", "oracle": "auto"}, "give at least 5 gradients"),
        ({"budget": 70, "sigma": 0.1}, "budget 70 is too small"),
        ({"toward": MASK}, "strongest draws maps to nothing"),
        ({"attack": "region"}, "region needs a mask"),
        ({"attack": "region", "toward": torch.ones(12, 12)}, "holds every pixel"),
        ({"attack": "region", "toward": torch.zeros(12, 12)}, "zero everywhere"),
        ({"attack": "manipulation", "toward": torch.zeros(12, 12)}, "zero everywhere"),
        ({"attack": "manipulation", "toward": -MASK}, "negative"),
        ({"attack": "manipulation", "toward": MASK / 0}, "not finite"),
        ({"attack": "manipulation", "toward": torch.ones(11, 12)}, "is 11×12, maps are 12×12"),
        ({"attack": "manipulation", "toward": torch.ones(())}, "is a number, maps are 12×12"),
    ],
    ids=lambda value: None if isinstance(value, dict) else value[:40],
)
def test_bad_requests(changes, says):
    with pytest.raises(InputError, match=says) as caught:
        request(**changes)
    assert len(str(caught.value).splitlines()) <= 2


@pytest.mark.parametrize("sigma", [0.0, 0.1])
def test_the_usual_budget_is_that_of_a_standard_audit(sigma):
    settings, _ = plan_settings(
        effort="standard", profile=load_profile("compliance"), input_shape=SHAPE, origin="test"
    )
    asked = request(sigma=sigma)
    assert asked.budget == (settings.smooth_budget if sigma else settings.budget)
    assert asked.samples == (settings.samples if sigma else 1)
    if sigma:
        assert asked.search_samples == settings.search_samples
        assert asked.select_samples == settings.select_samples
    assert asked.k == settings.k


@pytest.mark.parametrize("attack", [name for name in ATTACKS if name != "random-signs"])
@pytest.mark.parametrize("sigma", [0.0, 0.1])
@pytest.mark.parametrize("oracle", sorted(ORACLES))
def test_steps_are_those_of_every_search(attack, sigma, oracle):
    target = MASK if attack in TARGETED else None
    asked = request(attack=attack, sigma=sigma, oracle=oracle, steps=7, toward=target)
    attacker = asked.attacker(asked.toward, ORACLES[oracle])
    words = describe_searches(attacker, asked.spend(attacker), asked.fees)
    assert words
    assert all(line.endswith(": 7 steps") for line in words)


@pytest.mark.parametrize(
    ("attack", "kind"),
    [("mass-center", MassCenter), ("manipulation", Manipulation), ("region", TargetRegion)],
)
def test_the_objective_belongs_to_the_attack(attack, kind):
    asked = request(attack=attack, toward=MASK if attack in TARGETED else None)
    found = asked.attacker(asked.toward, Difference())
    assert isinstance(found, Search)
    assert isinstance(found.objective, kind)


def test_what_is_not_asked_for_stays_as_it_is_tuned():
    for rule in (None, "annealed"):
        assert request(rule=rule).attacker(None, Difference()) == strongest(sigma=0.0)


@pytest.mark.parametrize(("rule", "kind"), [("apgd", Apgd), ("fixed", FixedSign)])
@pytest.mark.parametrize("oracle", [SurrogateDifference(), DoubleBackward()])
def test_a_rule_and_an_oracle_reach_every_search(rule, kind, oracle):
    found = request(rule=rule).attacker(None, oracle)
    assert isinstance(found, Strongest)
    assert found.polish is not None
    for search in (*found.members, found.polish):
        assert isinstance(search.rule, kind)
        assert search.oracle == oracle
    plain = request().attacker(None, oracle)
    assert isinstance(plain, Strongest)
    assert isinstance(plain.members[0].rule, Annealed)


def test_a_mask_is_what_is_brighter_than_half():
    picture = torch.linspace(0, 0.8, 144).reshape(12, 12)
    asked = request(attack="region", toward=picture)
    assert asked.toward is not None
    assert torch.equal(asked.toward[0], picture > 0.4)


def test_a_map_that_shows_nothing_is_no_target():
    maps = torch.stack([MASK, 0 * MASK, MASK * torch.nan])
    assert no_target(maps).tolist() == [False, True, True]
    targets = as_targets(maps)
    assert torch.allclose(targets.sum(dim=(1, 2)), torch.ones(3))
    assert torch.equal(targets[0] > 0, MASK > 0)
