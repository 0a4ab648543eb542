"""The command ``auditor recipes``: every training recipe, with its loss, settings and cost."""

from __future__ import annotations

import json
import textwrap

import click

from auditor.training.filters import FILTERS
from auditor.training.registry import RECIPES


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print the list as JSON.")
def recipes(*, as_json: bool) -> int:
    """List the training recipes, with loss, source, settings and cost.

    Cost is in gradients for each image and epoch: natural training takes 1.
    """
    if as_json:
        rows = [
            {
                "name": entry.name,
                "formula": entry.formula,
                "source": entry.source,
                "settings": entry.settings,
                "cost": entry.cost,
            }
            for entry in RECIPES.values()
        ]
        click.echo(json.dumps(rows, indent=1, ensure_ascii=False))
        return 0
    for entry in RECIPES.values():
        click.echo(f"{entry.name:18}cost {entry.cost}")
        settings = ", ".join(f"{k}={_short(v)}" for k, v in entry.settings.items()) or "none"
        for words in (f"{entry.formula}. {entry.source}.", f"Settings: {settings}."):
            click.echo(_paragraph(words))
        click.echo()
    words = (
        f"Any recipe with filter=NAME, one of {', '.join(FILTERS)}, gets a block that smooths a "
        "feature map (S2 3.3): x + 1×1 convolution of the filtered x, after the first block of "
        "the network, after=2 the second, or after=LAYER by name. identity and random filter "
        "nothing: they are the control."
    )
    click.echo("Smoothing block")
    click.echo(_paragraph(words))
    return 0


def _paragraph(words: str) -> str:
    return textwrap.fill(words, 80, initial_indent=" " * 4, subsequent_indent=" " * 4)


def _short(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
