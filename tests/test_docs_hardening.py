"""What docs/hardening.md and the advice say of the recipes is complete, and its example runs."""

from __future__ import annotations

import re
from pathlib import Path

import torch

from auditor import advice
from auditor.training.architectures import ARCHITECTURES
from auditor.training.filters import FILTERS
from auditor.training.registry import RECIPES, find_recipe

TEXT = (Path(__file__).parent.parent / "docs" / "hardening.md").read_text()


def test_every_recipe_filter_and_network_is_explained():
    rows = set(re.findall(r"^\| `(\w+)`", TEXT, re.MULTILINE))
    assert rows == set(RECIPES)
    assert [name for name in (*FILTERS, *ARCHITECTURES) if f"`{name}`" not in TEXT] == []


def test_recipes_of_its_commands_are_understood():
    named = re.findall(r"--recipe (\S+)", TEXT)
    assert named
    assert [find_recipe(spec).recipe.name for spec in named]


def test_the_example_runs(capsys):
    (code,) = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    with torch.random.fork_rng():
        exec(compile(code, "docs/hardening.md", "exec"), {})
    assert capsys.readouterr().out.startswith("2 [")


def test_the_advice_names_recipes_that_exist():
    text = " ".join((*advice._GATES.values(), *advice._FAILED.values()))
    named = re.findall(r"--recipe ([\w, ]+)\)", text)
    recipes = [word for words in named for word in re.split(r", | or ", words)]
    assert "adversarial" in recipes
    assert set(recipes) <= set(RECIPES)
