"""The command ``auditor profiles``: list, explain and begin application profiles."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from pathlib import Path

import click

from auditor.errors import InputError
from auditor.store import write_atomically
from profiles import Criterion, Objective, Profile, ProfileError, available, load_profile
from profiles.schema import KEYS

WIDTH = 80


@click.group()
def profiles() -> None:
    """List and explain application profiles, or begin one of your own."""


@profiles.command(name="list")
def list_command() -> int:
    """List the profiles that come with the auditor."""
    for name in available():
        click.echo(f"{name:12}{load_profile(name).title}")
    click.echo("\nauditor profiles show NAME says when to use one.")
    return 0


@profiles.command()
@click.argument("name", metavar="NAME|FILE")
@click.option("--toml", is_flag=True, help="Print the file itself.")
def show(*, name: str, toml: bool) -> int:
    """Say when to use a profile, what it demands, and where its limits come from."""
    profile = read_profile(name)
    click.echo(profile.text.rstrip() if toml else "\n".join(_described(profile)))
    return 0


@profiles.command()
@click.argument("file", type=Path)
@click.option(
    "--like",
    default="compliance",
    show_default=True,
    metavar="NAME|FILE",
    help="Profile to begin with.",
)
def new(*, file: Path, like: str) -> int:
    """Write a commented profile to FILE, to be edited; it is usable as it stands."""
    if file.suffix != ".toml":
        raise InputError(f"{file}: a profile is a TOML file. Give it a name that ends in .toml.")
    if file.stem in available():
        raise InputError(f"{file}: the name is that of a profile of ours. Choose another name.")
    if file.exists():
        raise InputError(f"{file}: exists. Choose another name, or edit it.")
    if not file.absolute().parent.is_dir():
        raise InputError(f"{file}: there is no folder {file.parent}. Make it first.")
    source = read_profile(like)
    # A name of letters, digits and the like needs no escapes in TOML.
    name = re.sub(r"[^\w.-]", "-", file.stem)
    text = re.sub(r"(?m)^name = .*$", f'name = "{name}"', source.text, count=1)
    write_atomically(file, f"{_reference()}\n{text}".encode())
    click.echo(f"{file}: like {source.name}. Edit it, then use it as --profile {file}")
    return 0


def read_profile(name: str) -> Profile:
    """A profile by name or file; what is wrong with it is the user's to mend."""
    try:
        return load_profile(name)
    except ProfileError as error:
        raise InputError(str(error)) from error


def _described(profile: Profile) -> Iterator[str]:
    yield f"{profile.title} ({profile.name})"
    yield ""
    yield _wrapped(profile.summary, indent="")
    yield ""
    yield f"Confidence of every interval: {profile.confidence:g}, unless a criterion says otherwise"
    large = profile.threat.epsilon_large
    size = f"Attack: {profile.threat.epsilon:g}/255"
    yield f"{size}, from 128×128 pixels on {large:g}/255" if large else size
    yield _wrapped(profile.threat.because)
    yield ""
    yield f"Objective: {profile.objective.direction} {_quantity(profile.objective)}"
    yield _wrapped(profile.objective.because)
    yield f"    A difference of {profile.objective.indifference:g} does not matter."
    yield ""
    yield "Criteria"
    for criterion in profile.criteria:
        yield f"  {criterion.title}"
        yield _wrapped(_demand(criterion))
        yield _wrapped(f"({criterion.basis}) {criterion.because}")
    yield ""
    gates = profile.gates
    yield "Gates, before any criterion"
    yield f"  maps that have not vanished >= {gates.map_present:g}"
    yield f"  overlap of two maps made with different noise >= {gates.self_overlap:g}"
    yield f"  noise draws that keep the class >= {gates.label_kept:g}"
    yield f"  overlap with a re-initialized network's map < chance + {gates.reinitialized_margin:g}"
    yield _wrapped(gates.because)
    yield ""
    yield f"SHA-256 {profile.sha256}"


def _demand(criterion: Criterion) -> str:
    words = f"{_quantity(criterion)} {criterion.comparison} {criterion.bound:g}"
    if criterion.compared_to:
        words += " (difference to no smoothing)"
    if criterion.method:
        words += f", for {criterion.method}"
    if criterion.confidence:
        words += f", at confidence {criterion.confidence:g}"
    return f"{words}; {criterion.images} images in each half"


def _quantity(quantity: Criterion | Objective) -> str:
    return f"{quantity.probe} {quantity.metric}"


def _wrapped(text: str, *, indent: str = "    ") -> str:
    return textwrap.fill(text, WIDTH, initial_indent=indent, subsequent_indent=indent)


def _reference() -> str:
    """Every section and key, as TOML comments."""
    lines = ["# A profile of your own. Sections and keys:"]
    for section, keys in KEYS.items():
        many = "[[{}]], one or more times" if section == "criteria" else "[{}]"
        lines += ["#", f"# {many.format(section)}" if section else "# at the top"]
        for key, words in keys.items():
            lines += textwrap.wrap(
                f"{key}: {words}", WIDTH, initial_indent="#   ", subsequent_indent="#       "
            )
    return "\n".join(lines) + "\n#\n# auditor metrics explains the metrics of the probe quality.\n"
