"""The command ``auditor retrain``: learn a model's task anew, for audits to compare with."""

from __future__ import annotations

import contextlib
import dataclasses
import typing
from pathlib import Path
from typing import Any

import click
import torch
from rich.console import Console
from rich.table import Table

from auditor.ensembles import MANIFEST, SETTINGS, manifest
from auditor.errors import InputError
from auditor.options import (
    choose_device,
    command_line,
    compute_options,
    input_options,
    load_input,
)
from auditor.progress import Bar
from auditor.store import RunFolder, write_atomically
from auditor.training.ensemble import S0_CIFAR, S0_IMAGENET, Member
from auditor.training.fit import Epoch, Training
from auditor.training.registry import find_recipe
from auditor.training.retrain import Fit, Group, Task, Variant
from auditor.training.retrain import retrain as retrain_all
from auditor.training.splits import SEEDS

TRAINED = [setting for setting in SETTINGS if setting != "da"]
PRESETS = {"cifar": S0_CIFAR, "imagenet": S0_IMAGENET}
USUAL = dataclasses.replace(S0_CIFAR, epochs=10, batch=64, learning_rate=0.02)


@click.command()
@input_options
@click.option(
    "--setting",
    "settings",
    multiple=True,
    default=["dt"],
    type=click.Choice(TRAINED),
    help="What the members differ in: dt disjoint data, seed chance alone, dr the recipe; finetune "
    "starts from the given weights. Repeatable.  [default: dt]",
)
@click.option("--members", type=int, default=2, show_default=True, metavar="M")
@click.option("--size", type=int, metavar="N", help="Images of each member.  [default: all]")
@click.option(
    "--shuffle",
    "seeds",
    multiple=True,
    type=int,
    default=[SEEDS[0]],
    metavar="SEED",
    help=f"One ensemble for each; those of S0 are {', '.join(map(str, SEEDS))}. Repeatable.  "
    f"[default: {SEEDS[0]}]",
)
@click.option(
    "--s0",
    type=click.Choice(list(PRESETS)),
    help="S0's training: 100 epochs of CIFAR-10, or 80 of ImageNet.",
)
@click.option(
    "--training",
    metavar="KEY=VALUE,...",
    help="Change the training: epochs, batch, optimizer, learning_rate, momentum, weight_decay, "
    f"schedule.  [default: {USUAL.epochs} epochs of SGD, cosine from {USUAL.learning_rate}]",
)
@click.option(
    "--variant",
    "variants",
    multiple=True,
    metavar="KEY=VALUE,...",
    help="For dr: one more member, whose training differs from the first one's so. Repeatable.",
)
@click.option(
    "--recipe", default="natural", show_default=True, metavar="SPEC", help="See: auditor recipes."
)
@click.option("--train", metavar="FILE.py:FIT", help="Your own fit(split, seed) -> model.")
@click.option(
    "--run",
    "run",
    type=Path,
    default=Path("auditor-members"),
    show_default=True,
    metavar="FOLDER",
    help="Where weights go; for auditor audit --members.",
)
@click.option("--resume", is_flag=True, help="Continue the training in the folder.")
@compute_options
@click.option("--quiet", is_flag=True, help="Print nothing but errors.")
def retrain(*, run: Path, threads: int | None, quiet: bool, **asked: Any) -> int:
    """Train networks anew as the model was, to tell how much of a map is the luck of training.

    Images need labels; a tenth is held out, and accuracy is measured on it. The folder gets the
    weights of every member and members.json; members that are there are not trained again.
    """
    if threads is not None:
        torch.set_num_threads(threads)
    found = train_members(run=run, quiet=quiet, **asked)
    if not quiet:
        Console(highlight=False).print(_table(found))
        click.echo(f"Members: {run}. Compare: auditor audit --members {run} ...")
    return 0


def train_members(
    *,
    settings: tuple[str, ...],
    members: int,
    size: int | None,
    seeds: tuple[int, ...],
    s0: str | None,
    training: str | None,
    variants: tuple[str, ...],
    recipe: str,
    train: str | None,
    run: Path,
    resume: bool,
    seed: int | None,
    device: str,
    batch: int | None,
    trust_pickle: bool,
    quiet: bool,
    **given: Any,
) -> list[dict[str, Any]]:
    """Train what the options ask for, into a folder that ``auditor audit --members`` reads.

    Returns what :func:`auditor.ensembles.manifest` takes.

    Raises
    ------
    InputError
        If the options, the model or its images do not allow it.
    IncompleteRunError
        If a training diverges.
    """
    device = choose_device(device)
    plan = _variants(training, variants, s0=s0, batch=batch, recipe=recipe)
    own = None if train is None else Fit(train)
    folder = RunFolder.check(run, resume=resume)
    torch.manual_seed(seed or 0)  # a factory without weights draws its first ones
    classifier, images = load_input(seed=seed, trust_pickle=trust_pickle, device=device, **given)
    task = Task.of(classifier, images)
    groups = tuple(
        task.group(setting, members=members, size=size, seed=shuffle, variants=plan)
        for setting in dict.fromkeys(settings)
        for shuffle in dict.fromkeys(seeds)
    )
    request = {
        "members": [member.digest("") for group in groups for member in group.members],
        "settings": [group.name for group in groups],
        "train": None if own is None else own.name,
        "images": images.manifest_sha256,
        "model": classifier.sha256(),
    }
    folder.open(request, {"command": command_line()})
    stderr = Console(stderr=True, quiet=quiet, highlight=False)
    for name, reason in images.unreadable:
        stderr.print(f"Skipped {name}: {reason}", style="yellow", markup=False)
    with contextlib.ExitStack() as stack:
        bar = stack.enter_context(Bar(stderr))
        bar.start(_passes(groups))

        def watch(member: Member, epoch: Epoch) -> None:
            bar.task(member.name)
            if epoch.loss is not None:
                stderr.print(_line(member, epoch))

        found = retrain_all(task, groups, run, own=own, watch=watch, advance=bar.advance)
    write_atomically(run / MANIFEST, manifest(found))
    return found


def _passes(groups: tuple[Group, ...]) -> int:
    members = [member for group in groups for member in group.members]
    return sum(member.training.epochs * len(member.rows) for member in members)


def _line(member: Member, epoch: Epoch) -> str:
    right = epoch.measured["accuracy"]
    assert right is not None
    return (
        f"{member.name}: epoch {epoch.number} of {member.training.epochs}, loss {epoch.loss:.3f}, "
        f"accuracy {right:.3f}"
    )


def _table(found: list[dict[str, Any]]) -> Table:
    table = Table("Ensemble", "Member")
    table.add_column("Images", justify="right")
    table.add_column("Accuracy", justify="right")
    for group in found:
        for place, member in enumerate(group["members"]):
            table.add_row(
                group["name"] if place == 0 else "",
                Path(member["weights"]).stem,
                f"{member['images']:,}",
                f"{member['accuracy']:.3f}",
            )
    return table


def _variants(
    training: str | None,
    others: tuple[str, ...],
    *,
    s0: str | None,
    batch: int | None,
    recipe: str,
) -> tuple[Variant, ...]:
    """The training of all members, and those that ``dr`` compares with it."""
    first = USUAL if s0 is None else PRESETS[s0]
    if batch is not None:
        first = dataclasses.replace(first, batch=batch)
    if training is not None:
        first = _changed(first, training, "--training")
    asked = find_recipe(recipe)
    if asked.filter:
        raise InputError(f"--recipe {recipe}: members have the model's architecture. No filter.")
    return tuple(
        Variant(training=one, recipe=asked.recipe)
        for one in (first, *(_changed(first, text, "--variant") for text in others))
    )


def _changed(training: Training, text: str, option: str) -> Training:
    kinds = typing.get_type_hints(Training)
    values: dict[str, Any] = {}
    for part in text.split(","):
        key, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals or key not in kinds:
            raise InputError(f"{option} {text}: {part!r} unknown. Known: {', '.join(kinds)}.")
        try:
            values[key] = kinds[key](value) if kinds[key] in (int, float) else value
        except ValueError:
            raise InputError(f"{option} {text}: {value!r} is no number. Give one.") from None
    if values.get("optimizer", "sgd") not in ("sgd", "adam"):
        raise InputError(f"{option} {text}: optimizer is adam or sgd.")
    if values.get("schedule", "cosine") not in ("cosine", "constant", "step"):
        raise InputError(f"{option} {text}: schedule is cosine, constant or step.")
    return dataclasses.replace(training, **values)
