"""The executor that a user asks for."""

from __future__ import annotations

from auditor.errors import InputError
from auditor.executors.here import Here
from auditor.executors.jobs import Executor
from auditor.executors.on_ray import Ray
from auditor.executors.processes import Processes, check_cores


def choose_executor(
    *, kind: str = "processes", workers: int = 1, threads: int | None = None
) -> Executor:
    """Choose this process for one worker, else worker processes of ``threads`` threads (1) each.

    ``kind`` is ``processes``, ``ray``, or ``ray:ADDRESS``.

    Raises
    ------
    InputError
        If they would have more threads than there are cores, or the kind is unknown.
    """
    if workers < 1:
        raise InputError(f"workers {workers}: give at least 1.")
    name, _, address = kind.partition(":")
    if name == "ray":
        if not address:
            check_cores(workers, threads or 1)
        return Ray(workers, threads=threads or 1, address=address or None)
    if kind != "processes":
        raise InputError(f"--executor {kind}: not understood. Write processes, ray or ray:ADDRESS.")
    if workers == 1:
        return Here()
    check_cores(workers, threads or 1)
    return Processes(workers, threads=threads or 1)
