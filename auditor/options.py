"""Options that several commands share, and what becomes of them: a model and its images."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click
import torch

from auditor.attributions.registry import find_method
from auditor.ensembles import Ensemble, of_twins, read_members
from auditor.errors import InputError
from auditor.images import ImageSet, load_images
from auditor.loading import load_model, load_twin
from auditor.models import Classifier
from auditor.specs import parse_floats, parse_size, parse_twin

Command = Callable[..., Any]


def input_options(command: Command) -> Command:
    """Take the options of the model and its images, for :func:`load_input`."""
    return _all(
        command,
        click.option(
            "--model",
            required=True,
            metavar="SPEC",
            help="package.module:factory, path/file.py:factory, torchvision:NAME, timm:NAME, "
            "a file (.pt2, .ts, .onnx), or a Hugging Face folder.",
        ),
        click.option("--weights", type=Path, metavar="FILE", help="Safetensors, or a state dict."),
        click.option(
            "--images",
            type=Path,
            required=True,
            metavar="PATH",
            help="Folder (class folders, or flat with an optional labels.csv or .json), or "
            ".npz, .npy, IDX or CIFAR files.",
        ),
        click.option(
            "--mean", metavar="A,B,C", help="The model's normalization; fractions are fine."
        ),
        click.option("--std", metavar="A,B,C", help="The same; both in units of [0, 1] pixels."),
        click.option("--input-size", metavar="SIZE", help="224, 224x224 or 3x224x224."),
        click.option(
            "--preprocess",
            metavar="SPEC",
            help="Instead of these: path/file.py:fn or torchvision:WEIGHTS (docs/images.md).",
        ),
        click.option("--labels", type=Path, metavar="FILE", help="Class names, one on each line."),
        click.option("--output", metavar="KEY", help="Which of several outputs holds the logits."),
        click.option(
            "--trust-pickle", is_flag=True, help="Allow files that could run code when loaded."
        ),
        click.option(
            "--max-images", type=int, metavar="N", help="Choose N images by a seeded rule."
        ),
    )


_EXPLAIN = click.option(
    "--explain",
    metavar="FILE.py:FN",
    help="Instead, your own explanation, fn(model, x, target) -> map.",
)


def explain_option(command: Command) -> Command:
    """Take ``--method`` and ``--explain``, for :func:`explanation`."""
    method = click.option(
        "--method",
        metavar="NAME[,key=value...]",
        help="How maps are made; auditor methods lists all.  [default: simple_grad]",
    )
    return _all(command, method, _EXPLAIN)


def methods_option(command: Command) -> Command:
    """Take ``--method``, of which there may be ``several``, and ``--explain``."""
    method = click.option(
        "--method",
        "several",
        multiple=True,
        metavar="NAME[,key=value...]",
        help="How maps are made; auditor methods lists all. Repeatable: the best one is found "
        "together with its sigma.  [default: simple_grad]",
    )
    return _all(command, method, _EXPLAIN)


def explanation(*, method: str | None, explain: str | None) -> object:
    """What ``--method`` or ``--explain`` names, for ``explain`` of the Python interface.

    Raises
    ------
    InputError
        If both are given, or there is no such method.
    """
    if method is None:
        return explain
    if explain is not None:
        raise InputError("--method and --explain both say how maps are made. Leave one out.")
    return find_method(method)


def target_option(command: Command) -> Command:
    """Take ``--target``, as :func:`auditor.specs.parse_target` reads it."""
    return click.option(
        "--target",
        default="predicted",
        show_default=True,
        metavar="predicted|label|INDEX",
        help="The class that is explained.",
    )(command)


def compute_options(command: Command) -> Command:
    """Take ``--seed``, ``--device``, ``--threads`` and ``--batch``."""
    return _all(
        command,
        click.option(
            "--seed",
            type=click.IntRange(min=0),
            metavar="N",
            help="Seed of everything random.  [default: 0]",
        ),
        click.option(
            "--device",
            default="auto",
            show_default=True,
            metavar="cpu|cuda|mps|auto",
            help="Where to compute.",
        ),
        click.option("--threads", type=click.IntRange(min=1), metavar="N", help="CPU threads."),
        click.option("--batch", type=int, metavar="N", help="Images in one call of the model."),
    )


def precision_options(command: Command) -> Command:
    """Take ``--dtype`` and ``--memory``."""
    return _all(
        command,
        click.option(
            "--dtype",
            default="float32",
            show_default=True,
            metavar="float32|float64",
            help="What the network computes in.",
        ),
        click.option(
            "--memory", metavar="SIZE", help="Cap the batch so that all workers fit into 4G, 800M."
        ),
    )


def executor_options(command: Command) -> Command:
    """Take ``--workers`` and ``--executor``."""
    return _all(
        command,
        click.option(
            "--executor",
            default="processes",
            show_default=True,
            metavar="processes|ray[:ADDRESS]",
            help="Where workers run: on this machine, or on a Ray cluster.",
        ),
        click.option(
            "--workers",
            type=click.IntRange(min=1),
            default=1,
            show_default=True,
            metavar="N",
            help="Processes that measure at the same time, of one thread each unless --threads.",
        ),
    )


def load_input(
    *,
    model: str,
    weights: Path | None,
    images: Path,
    mean: str | None,
    std: str | None,
    input_size: str | None,
    preprocess: str | None,
    labels: Path | None,
    output: str | None,
    trust_pickle: bool,
    max_images: int | None,
    seed: int | None,
    device: str,
    dtype: str = "float32",
) -> tuple[Classifier, ImageSet]:
    """Load what the options of :func:`input_options` name.

    Raises
    ------
    InputError
        If model, weights or images cannot be used.
    """
    classifier = load_model(
        model,
        weights=weights,
        mean=parse_floats(mean) if mean is not None else None,
        std=parse_floats(std) if std is not None else None,
        input_size=parse_size(input_size) if input_size is not None else None,
        preprocess=preprocess,
        labels=labels,
        output=output,
        trust_pickle=trust_pickle,
        device=device,
        dtype=dtype,
    )
    return classifier, load_images(
        images,
        input_shape=classifier.input_shape,
        max_images=max_images,
        seed=seed or 0,
        class_names=classifier.labels,
        preprocess=classifier.preprocess,
    )


def load_twins(
    twins: Sequence[str],
    folders: Sequence[Path],
    *,
    like: Classifier,
    trust_pickle: bool,
    device: str,
    dtype: str = "float32",
) -> tuple[list[Classifier], tuple[Ensemble, ...]]:
    """Load what ``--twin`` and ``--members`` name, and the ensembles that they form.

    Raises
    ------
    InputError
        If one of them cannot be used.
    """
    ensembles = of_twins([parse_twin(twin).get("setting") for twin in twins])
    loaded = [
        load_twin(twin, like=like, trust_pickle=trust_pickle, device=device, dtype=dtype)
        for twin in twins
    ]
    for folder in folders:
        members, more = read_members(folder, like=like, first=1 + len(loaded))
        loaded += members
        ensembles += more
    return loaded, ensembles


def choose_device(name: str) -> str:
    """The device to compute on; ``auto`` takes a GPU when there is one.

    Raises
    ------
    InputError
        If there is no such device here.
    """
    present = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if name == "auto":
        return next(device for device, here in present.items() if here)
    if not present.get(name.partition(":")[0], False):
        here = ", ".join(device for device, found in present.items() if found)
        raise InputError(f"--device {name}: there is none here. Available: {here}.")
    return name


def command_line() -> str:
    """What was typed, to be kept with the results."""
    return shlex.join(["auditor", *sys.argv[1:]])


def _all(command: Command, *options: Callable[[Command], Command]) -> Command:
    for option in reversed(options):  # the decorator nearest to the function is listed last
        command = option(command)
    return command
