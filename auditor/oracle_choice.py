"""Which direction oracle an attack uses: the cheapest, measured on its first steps, or as asked."""

from __future__ import annotations

import time
from collections.abc import Mapping

from torch import Tensor

from attacks import (
    Difference,
    DoubleBackward,
    Objective,
    Oracle,
    Problem,
    SurrogateDifference,
    fastest,
)
from auditor.attack_result import OracleChoice
from auditor.errors import InputError
from auditor.evaluation import Evaluator
from auditor.usercode import describe

ORACLES: Mapping[str, Oracle] = {
    "difference": Difference(),
    "surrogate": SurrogateDifference(),
    "double-backward": DoubleBackward(),
}
ASKED = ("auto", *ORACLES)
REPEATS = 5
"""Timed steps of each oracle; the fastest counts, so that other work on the machine does not."""

_NAMES = {type(oracle).__name__: name for name, oracle in ORACLES.items()}


def choose_oracle(
    asked: str, problem: Problem, objective: Objective, evaluator: Evaluator
) -> tuple[Oracle, OracleChoice]:
    """The oracle to use, and what its steps and those of the others take.

    Parameters
    ----------
    asked
        One of `ASKED`; ``auto`` takes the one whose steps take the least time.
    problem
        A few images to measure on.
    evaluator
        Tells what one gradient of them takes.

    Raises
    ------
    InputError
        If the oracle asked for does not work with this model.
    """
    usable: list[Oracle] = []
    failed: dict[str, str] = {}
    for name, oracle in ORACLES.items():
        if asked not in ("auto", name):
            continue
        try:
            fastest(problem, objective, [oracle], repeats=1)
        except Exception as error:  # a user's model may refuse a surrogate or a second derivative
            failed[name] = describe(error)
        else:
            usable.append(oracle)
    if not usable:
        reason = "; ".join(f"{name}: {why}" for name, why in failed.items())
        raise InputError(f"No oracle works with this model ({reason}). Try --oracle auto.")
    best, seconds = fastest(problem, objective, usable, repeats=REPEATS)
    unit = _seconds(evaluator, problem.x, problem.target)
    chosen = _NAMES[type(best).__name__]
    return (
        best,
        OracleChoice(
            asked=asked,
            chosen=chosen,
            gradients={_NAMES[name]: taken / unit for name, taken in seconds.items()},
            failed=failed,
        ),
    )


def _seconds(evaluator: Evaluator, x: Tensor, target: Tensor) -> float:
    taken = []
    for _ in range(REPEATS):
        begin = time.perf_counter()
        evaluator.gradients(x, target)
        taken.append(time.perf_counter() - begin)
    return min(taken)
