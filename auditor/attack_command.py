"""The command ``auditor attack``: one attack alone, and the pictures that it makes."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import click
import torch
from rich.console import Console

from auditor.attack_files import check_folder, read_target, write_attack
from auditor.attack_plan import ATTACKS, NORMS, RULES
from auditor.attack_result import STAGES, AttackResult
from auditor.attack_table import WIDTH, area_over_epsilon, attack_table, facts, transfer_table
from auditor.attacking import attack as run_attack
from auditor.errors import IncompleteRunError, InputError
from auditor.options import (
    choose_device,
    command_line,
    compute_options,
    explain_option,
    explanation,
    input_options,
    load_input,
    target_option,
)
from auditor.oracle_choice import ASKED
from auditor.progress import Bar
from auditor.specs import parse_floats, parse_target

EXIT_CODES = """
\b
Exit codes:
  0  the attack is finished, whatever it found
  2  wrong usage or input
  3  the attack could not be completed; nothing was written
"""


@click.command(epilog=EXIT_CODES)
@input_options
@click.option(
    "--attack",
    type=click.Choice(ATTACKS),
    default="strongest",
    show_default=True,
    metavar="NAME",
    help=f"{', '.join(ATTACKS)}. Strongest: the worst top-k overlap of several searches.",
)
@click.option(
    "--epsilon",
    default="8",
    show_default=True,
    metavar="E,...",
    help="Sizes in 1/255: of each pixel value for linf, of the length of the whole change for l2.",
)
@click.option("--norm", type=click.Choice(list(NORMS)), default="linf", show_default=True)
@click.option(
    "--sigma",
    type=float,
    default=0.0,
    metavar="S",
    help="Attack the map smoothed by S, in pixel units of [0, 1]; scored with fresh noise.",
)
@click.option("--samples", type=int, metavar="N", help="Noise draws per smoothed map.")
@click.option("--steps", type=int, metavar="N", help="Steps of every search.")
@click.option(
    "--budget",
    type=int,
    metavar="N",
    help="Instead of steps: gradients for each image and epsilon.",
)
@click.option(
    "--rule", type=click.Choice(list(RULES)), help="Step rule.  [default: each search's own]"
)
@click.option(
    "--oracle",
    type=click.Choice(ASKED),
    default="auto",
    show_default=True,
    help="Where directions come from; auto: the fastest, measured on the first steps.",
)
@target_option
@explain_option
@click.option(
    "--transfer-to",
    multiple=True,
    metavar="METHOD",
    help="Also compare this explanation's maps under the perturbations found; NAME or FILE.py:FN. "
    "May be repeated.",
)
@click.option(
    "--toward",
    type=Path,
    metavar="FILE",
    help="Target of manipulation, mask of region: a picture, or an .npy of the map's size. "
    "Without it manipulation aims at the next image's map.",
)
@click.option("-k", "--top-k", "k", type=int, metavar="K", help="Top pixels that are compared.")
@click.option(
    "--out",
    type=Path,
    default=Path("attack-out"),
    show_default=True,
    metavar="FOLDER",
    help="Where pictures, maps and numbers go.",
)
@click.option("--overwrite", is_flag=True, help="Replace an earlier attack in the folder.")
@compute_options
@click.option("--quiet", is_flag=True, help="Print nothing but errors.")
@click.option("--json", "as_json", is_flag=True, help="Print the means as JSON.")
def attack(
    *,
    epsilon: str,
    target: str,
    method: str | None,
    explain: str | None,
    toward: Path | None,
    out: Path,
    overwrite: bool,
    seed: int | None,
    device: str,
    threads: int | None,
    batch: int | None,
    trust_pickle: bool,
    quiet: bool,
    as_json: bool,
    **given: Any,
) -> int:
    """Move a model's maps by one attack while its prediction stays.

    Images are rounded to 8 bits before the attack, perturbed images after it, and both are written
    as PNG: what a file holds is what counts.
    """
    names = ("attack", "norm", "sigma", "samples", "steps", "budget", "rule", "oracle", "k")
    asked = {name: given.pop(name) for name in (*names, "transfer_to")}
    if threads is not None:
        torch.set_num_threads(threads)
    device = choose_device(device)
    check_folder(out, overwrite=overwrite)
    epsilons, explained = parse_floats(epsilon), parse_target(target)
    classifier, images = load_input(trust_pickle=trust_pickle, seed=seed, device=device, **given)
    channels, height, width = classifier.input_shape
    if channels not in (1, 3):
        raise InputError(f"PNG files hold 1 or 3 channels, {classifier.name} takes {channels}.")
    stderr = Console(stderr=True, quiet=quiet, highlight=False)
    for name, reason in images.unreadable:
        stderr.print(f"Skipped {name}: {reason}", style="yellow", markup=False)
    try:
        with contextlib.ExitStack() as stack:
            result = run_attack(
                classifier,
                images,
                epsilons=epsilons,
                target=explained,
                explain=explanation(method=method, explain=explain),
                toward=None if toward is None else read_target(toward, (height, width)),
                toward_name=None if toward is None else str(toward),
                seed=seed or 0,
                device=device,
                batch=batch,
                command=command_line(),
                progress=None if quiet else stack.enter_context(Bar(stderr)),
                **asked,
            )
        files = write_attack(result, out)
    except KeyboardInterrupt:
        raise IncompleteRunError("Stopped. Nothing was written.") from None
    if as_json:
        click.echo(json.dumps(_answer(result, out), indent=1))
    elif not quiet:
        console = Console(highlight=False, width=WIDTH, markup=False)
        console.print(attack_table(result))
        if result.transfer:
            console.print(transfer_table(result))
        for line in facts(result):
            console.print(line)
        console.print(f"Files: {files} in {out}")
    return 0


def _answer(result: AttackResult, out: Path) -> dict[str, Any]:
    return {
        "attack": result.attack,
        "norm": result.norm,
        "sigma": result.sigma,
        "k": result.k,
        "attacked": result.attacked,
        "misclassified": result.misclassified,
        "another_class": result.another_class,
        "gradients": result.gradients,
        "auc_over_eps": area_over_epsilon(result),
        "epsilons": [
            {
                "epsilon": row.epsilon,
                "infeasible": row.infeasible,
                **{
                    stage: {metric: row.mean(stage, metric) for metric in row.values[stage]}
                    for stage in STAGES
                },
            }
            for row in result.rows
        ],
        "natural": {
            row.change: {"changed": row.changed} | {m: row.mean(m) for m in row.values}
            for row in result.natural
        },
        "transfer": [
            {"explanation": row.explanation, "epsilon": row.epsilon}
            | {metric: row.mean(metric) for metric in row.values}
            for row in result.transfer
        ],
        "folder": str(out),
    }
