"""The executor that everybody has: this process, one task after the other."""

from __future__ import annotations

from auditor.executors.jobs import Finished, Work, perform
from auditor.tasks import Bench


class Here:
    """Does work in this process, when it is waited for."""

    slots = 1

    def __init__(self) -> None:
        self._bench: Bench | None = None
        self._work: Work | None = None

    def start(self, bench: Bench) -> None:
        """Use this bench, with its meter."""
        self._bench = bench

    def submit(self, work: Work) -> None:
        """Keep it until somebody waits."""
        self._work = work

    def wait(self) -> Finished:
        """Do it now."""
        assert self._bench is not None
        assert self._work is not None
        work, self._work = self._work, None
        arrays, self._bench = perform(work, self._bench)
        return Finished(name=work.name, arrays=arrays, worker="here")

    def close(self) -> None:
        """Do nothing: nothing runs."""
