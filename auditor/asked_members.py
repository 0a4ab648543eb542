"""Members that an audit trains itself: ``--retrain`` holds the options of ``auditor retrain``."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from auditor.errors import InputError
from auditor.glance import GLANCE
from auditor.retrain_command import retrain, train_members
from auditor.store import MEMBERS, REQUEST

_OF_THE_AUDIT = (
    *("model", "weights", "mean", "std", "input_size", "preprocess", "labels", "output"),
    *("trust_pickle", "device"),
)
_OF_THE_RUN = ("run", "resume", "threads", "quiet")


def check_retraining(text: str) -> dict[str, Any]:
    """The options of a training, as ``auditor retrain`` reads them but for those of the audit.

    Raises
    ------
    InputError
        If it would not understand them, or an option is the audit's.
    """
    try:
        # The model is the audit's; retrain alone could not do without it. And a command
        # remembers the names of its help option from its first context.
        words = ["--model", "", *shlex.split(text)]
        context = retrain.make_context("retrain", words, help_option_names=["-h", "--help"])
    except click.exceptions.Exit:
        raise InputError(f"--retrain {text}: for help see auditor retrain --help.") from None
    except (ValueError, click.ClickException) as error:
        why = error.format_message() if isinstance(error, click.ClickException) else error
        raise InputError(f"--retrain {text}: {why} See auditor retrain --help.") from error
    for name in (*_OF_THE_AUDIT, *_OF_THE_RUN):
        given = context.get_parameter_source(name) == ParameterSource.COMMANDLINE
        if given and (name != "model" or context.params["model"]):
            option = name.replace("_", "-")
            raise InputError(f"--retrain: --{option} is the audit's own. Leave it out there.")
    return {name: value for name, value in context.params.items() if name not in _OF_THE_RUN}


def retrained(options: dict[str, Any], asked: dict[str, Any], *, run: Path, quiet: bool) -> Path:
    """Train the members, each once, in the folder of the audit's run; returns their folder.

    Raises
    ------
    InputError
        If they cannot be trained as asked.
    IncompleteRunError
        If a training diverges.
    """
    if asked["effort"] == GLANCE:
        raise InputError("effort glance compares no members. Leave out --retrain, or use more.")
    folder = run / MEMBERS
    resume = os.path.isfile(folder / REQUEST)
    shared = {name: asked[name] for name in _OF_THE_AUDIT}
    train_members(**options | shared, run=folder, resume=resume, quiet=quiet)
    return folder
