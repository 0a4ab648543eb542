"""Which task goes out when: as soon as what it needs is on disk and there is room for it."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence

from auditor.executors.jobs import Executor, Finished, Job, Work
from auditor.store import Arrays, RunFolder


def schedule(
    jobs: Sequence[Job],
    *,
    executor: Executor,
    folder: RunFolder,
    send: Callable[[Job], Work],
    receive: Callable[[Finished], None],
) -> Iterator[tuple[Job, Arrays]]:
    """Do jobs that are not on disk yet; yields all of them in their own order, with their arrays.

    Each result is on disk before it is passed on. Perturbations (``delta|``) stay there.

    Parameters
    ----------
    send
        Told that a job goes out; makes the work of it.
    receive
        Told what came back and is on disk now.
    """
    waiting = {job.name: job for job in jobs if not folder.done(job.name)}
    running: set[str] = set()
    ready: dict[str, Arrays] = {}

    def fill() -> None:
        able = (job for job in waiting.values() if all(map(folder.done, job.needs)))
        # No more are looked at than can go: there may be a hundred thousand.
        for job in list(itertools.islice(able, executor.slots - len(running))):
            running.add(waiting.pop(job.name).name)
            executor.submit(send(job))

    for job in jobs:
        while job.name in waiting or job.name in running:
            fill()
            if not running:
                raise RuntimeError(f"{job.name} needs {job.needs}, which nobody makes")
            finished = executor.wait()
            folder.save(finished.name, finished.arrays)
            receive(finished)
            running.remove(finished.name)
            ready[finished.name] = _without_perturbations(finished.arrays)
            del finished  # a task's perturbations are in memory until the next begins, no longer
        if job.name in ready:
            yield job, ready.pop(job.name)
        else:
            yield job, _without_perturbations(folder.load(job.name))


def _without_perturbations(arrays: Arrays) -> Arrays:
    return {name: values for name, values in arrays.items() if not name.startswith("delta|")}
