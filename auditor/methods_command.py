"""The command ``auditor methods``: every attribution method, with its source and its cost."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator
from typing import Any

import click

from auditor.attributions.path import made_of_gradients
from auditor.attributions.registry import METHODS, Entry


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print the list as JSON.")
def methods(*, as_json: bool) -> int:
    """List the attribution methods, with formula, source, cost and options.

    Name one with --method, e.g. --method integrated_gradients,points=50. Cost is that of a map
    before an audit smooths it, in gradients of the model.
    """
    if as_json:
        rows = [_row(entry) for entry in METHODS.values()]
        click.echo(json.dumps(rows, indent=1, ensure_ascii=False))
    else:
        click.echo("\n".join(line for entry in METHODS.values() for line in _lines(entry)))
    return 0


def _row(entry: Entry) -> dict[str, Any]:
    method = entry.make()
    return {
        "name": entry.name,
        "formula": entry.formula,
        "source": entry.source,
        "gradients": method.price,
        "attacked": _attacked(entry),
        "options": {
            name: round(value, 4) if isinstance(value, float) else value
            for name, value in entry.defaults().items()
        },
        "needs": entry.needs,
    }


def _lines(entry: Entry) -> Iterator[str]:
    row = _row(entry)
    cost = f"{row['gradients']:,} gradient{'s' if row['gradients'] > 1 else ''}"
    yield f"{entry.name:29}{cost}, attacked by {row['attacked']}"
    needs = f" Needs {entry.needs}." if entry.needs else ""
    yield _wrapped(f"{entry.formula}. {entry.source}.{needs}")
    if entry.options:
        yield _wrapped(
            ", ".join(f"{key}={value or '(found)'}" for key, value in row["options"].items())
        )
    yield ""


def _wrapped(text: str) -> str:
    return textwrap.fill(text, 80, initial_indent=" " * 6, subsequent_indent=" " * 6)


def _attacked(entry: Entry) -> str:
    """Where attacks get their directions from."""
    method = entry.make()
    if method.is_gradient:
        return "differences of maps"
    if made_of_gradients(method):
        return "differences of gradients"
    return "its derivative" if method.differentiable else "random search"
