from __future__ import annotations

import pytest

from auditor.errors import InputError
from auditor.training.adversarial import Adversarial
from auditor.training.recipe import Natural
from auditor.training.registry import RECIPES, Asked, find_recipe
from auditor.training.ssr import Ssr


@pytest.mark.parametrize(
    ("spec", "asked"),
    [
        ("natural", Asked(recipe=Natural())),
        ("ssr, beta=0.5, scale=2", Asked(recipe=Ssr(beta=0.5, scale=2.0))),
        (
            "adversarial,epsilon=8/255,steps=7,norm=l2,filter=median",
            Asked(recipe=Adversarial(epsilon=8 / 255, steps=7, norm="l2"), filter="median"),
        ),
        ("natural,filter=mean,after=2", Asked(recipe=Natural(), filter="mean", after=2)),
        ("natural,filter=mean,after=a.b", Asked(recipe=Natural(), filter="mean", after="a.b")),
    ],
)
def test_reads_what_a_user_types(spec, asked):
    assert find_recipe(spec) == asked


@pytest.mark.parametrize("name", RECIPES)
def test_the_default_settings_of_every_recipe_are_allowed(name):
    asked = find_recipe(name)
    assert asked.settings() == {"name": name, **RECIPES[name].settings}


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("", "unknown. Choose one of natural"),
        ("trades", "unknown. Choose one of natural"),
        ("natural,epsilon=1", "'epsilon=1' is no setting. Known: filter, after"),
        ("ssr,beta", "'beta' is no setting. Known: beta, scale"),
        ("ssr,beta=0.1,beta=0.2", "beta is given twice"),
        ("ssr,beta=x", "'x' is no number"),
        ("ssr,beta=1.5", "beta 1.5: out of range"),
        ("adversarial,epsilon=8", "epsilon 8: out of range"),
        ("adversarial,steps=1.5", "give a whole number"),
        ("adversarial,norm=l3", "choose linf or l2"),
        ("natural,filter=fourier", "'fourier' is unknown. Choose one of mean"),
        ("natural,after=1", "after needs filter"),
    ],
)
def test_what_is_not_understood_is_refused(spec, message):
    with pytest.raises(InputError) as caught:
        find_recipe(spec)
    assert message in str(caught.value)
