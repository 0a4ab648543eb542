"""The command ``auditor harden``: train a network so that its explanations become stable."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from pathlib import Path
from typing import Any

import click
import torch
from rich.console import Console
from rich.table import Table

from auditor.options import (
    choose_device,
    command_line,
    compute_options,
    input_options,
    load_input,
)
from auditor.progress import Bar
from auditor.store import RunFolder, write_atomically
from auditor.training.fit import Epoch, Training
from auditor.training.harden import WEIGHTS, prepare
from auditor.training.harden import harden as train
from auditor.training.pgd import Pgd
from auditor.training.registry import RECIPES, find_recipe

PGD_STEPS = 100
"""Steps of the attack that measures the robust accuracy (S2 4.2.4)."""
COLUMNS = {
    "benign_accuracy": "accuracy",
    "pgd_accuracy": "under PGD",
    "gini": "Gini",
}


@click.command()
@input_options
@click.option(
    "--recipe",
    required=True,
    metavar="NAME,KEY=VALUE,...",
    help=f"{', '.join(RECIPES)}; with filter=… and after=… any of them gets a smoothing block "
    "(see: auditor recipes).",
)
@click.option("--epochs", type=int, default=Training.epochs, show_default=True, metavar="N")
@click.option(
    "--optimizer",
    type=click.Choice(["adam", "sgd"]),
    default=Training.optimizer,
    show_default=True,
)
@click.option(
    "--learning-rate",
    type=float,
    default=Training.learning_rate,
    show_default=True,
    metavar="R",
)
@click.option(
    "--schedule",
    type=click.Choice(["constant", "cosine"]),
    default=Training.schedule,
    show_default=True,
    help="Of the learning rate.",
)
@click.option(
    "--weight-decay", type=float, default=Training.weight_decay, show_default=True, metavar="W"
)
@click.option(
    "--epsilon",
    type=float,
    default=25.5,
    show_default=True,
    metavar="E",
    help=f"Size of the attack of {PGD_STEPS} steps that measures, in 1/255.",
)
@click.option(
    "--run",
    "run",
    type=Path,
    default=Path("auditor-hardened"),
    show_default=True,
    metavar="FOLDER",
    help="Where weights and results go.",
)
@click.option("--resume", is_flag=True, help="Continue the training in the folder.")
@compute_options
@click.option("--quiet", is_flag=True, help="Print nothing but errors.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def harden(
    *,
    recipe: str,
    epochs: int,
    optimizer: Any,
    learning_rate: float,
    schedule: Any,
    weight_decay: float,
    epsilon: float,
    run: Path,
    resume: bool,
    seed: int | None,
    device: str,
    threads: int | None,
    batch: int | None,
    trust_pickle: bool,
    quiet: bool,
    as_json: bool,
    **given: Any,
) -> int:
    """Train a model further, by a recipe that makes its explanations stable.

    Images need labels; a fifth is held out and measured after every epoch. The run folder gets
    model.safetensors, for --weights, and harden.json, with accuracy, accuracy under attack and
    sparseness of the maps before and after.
    """
    if threads is not None:
        torch.set_num_threads(threads)
    device = choose_device(device)
    asked = find_recipe(recipe)
    training = Training(
        epochs=epochs,
        batch=Training.batch if batch is None else batch,
        optimizer=optimizer,
        learning_rate=learning_rate,
        schedule=schedule,
        weight_decay=weight_decay,
    )
    attack = Pgd(epsilon=epsilon / 255, steps=PGD_STEPS)
    folder = RunFolder.check(run, resume=resume)
    torch.manual_seed(seed or 0)  # a factory without weights draws its first ones
    classifier, images = load_input(seed=seed, trust_pickle=trust_pickle, device=device, **given)
    prepared = prepare(classifier, images, asked=asked, seed=seed or 0)
    request = {
        "recipe": recipe,
        "training": dataclasses.asdict(training),
        "epsilon": epsilon,
        "seed": seed or 0,
        "images": images.manifest_sha256,
        "model": classifier.sha256(),
    }
    fixed = folder.open(request, {"command": command_line()})
    stderr = Console(stderr=True, quiet=quiet, highlight=False)
    for name, reason in images.unreadable:
        stderr.print(f"Skipped {name}: {reason}", style="yellow", markup=False)
    with contextlib.ExitStack() as stack:
        bar = stack.enter_context(Bar(stderr))
        bar.start(epochs * len(prepared.fitted))
        bar.task(f"Training, {asked.recipe.name}")
        history = train(
            prepared,
            recipe=asked.recipe,
            training=training,
            attack=attack,
            seed=seed or 0,
            folder=run,
            watch=lambda epoch: stderr.print(_line(epoch, epochs)),
            advance=bar.advance,
        )
    block = prepared.insertion
    result = {
        **request,
        "recipe_settings": asked.settings(),
        "smoothing_block": None if block is None else dataclasses.asdict(block),
        "trained_on": len(prepared.fitted),
        "measured_on": len(prepared.held_out),
        "before": dict(history[0].measured),
        "after": dict(history[-1].measured),
        "history": [dataclasses.asdict(epoch) for epoch in history],
        "weights": WEIGHTS,
        **fixed,
    }
    text = json.dumps(result, indent=1, ensure_ascii=False)
    write_atomically(run / "harden.json", text.encode())
    if as_json:
        click.echo(text)
    elif not quiet:
        Console(highlight=False).print(_table(history))
        click.echo(
            f"{len(prepared.fitted):,} images trained on, {len(prepared.held_out)} measured."
        )
        click.echo(f"Weights: {run / WEIGHTS}")
    return 0


def _line(epoch: Epoch, epochs: int) -> str:
    loss = "" if epoch.loss is None else f"  loss {epoch.loss:.3f}"
    parts = [f"{word} {_ratio(epoch, key)}" for key, word in COLUMNS.items()]
    return f"Epoch {epoch.number} of {epochs}{loss}  {'  '.join(parts)}"


def _ratio(epoch: Epoch, key: str) -> str:
    value = epoch.measured[key]
    return "-" if value is None else f"{value:.3f}"


def _table(history: tuple[Epoch, ...]) -> Table:
    table = Table()
    table.add_column("")
    for word in COLUMNS.values():
        table.add_column(word, justify="right")
    for name, epoch in (("before", history[0]), ("after", history[-1])):
        table.add_row(name, *(_ratio(epoch, key) for key in COLUMNS))
    return table
