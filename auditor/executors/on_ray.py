"""A Ray cluster (extra ``ray``): actors that load the models once, then do one task after another.

Machines of the cluster need the auditor, and the model's files at the same path. Results come back
to this process, which alone writes the run folder.
"""

from __future__ import annotations

import os
import socket
from collections import deque
from typing import Any

import torch

from auditor.errors import IncompleteRunError, InputError
from auditor.executors.jobs import Finished, Work, book_spent, perform
from auditor.executors.parcel import pack, unpack
from auditor.executors.processes import TRIES, Failed, caught
from auditor.formats.needed import needed
from auditor.store import Arrays
from auditor.tasks import Bench


class Ray:
    """Does work on the workers of a Ray cluster.

    Parameters
    ----------
    workers
        How many actors, each of which takes ``threads`` CPUs of the cluster.
    address
        Of a running cluster; without one, a cluster on this machine starts and ends with the run.
    """

    def __init__(self, workers: int, *, threads: int = 1, address: str | None = None) -> None:
        self.slots = workers
        self.lost = 0
        self._threads = threads
        self._address = address
        self._actors: list[Any] = []
        self._names: dict[int, str] = {}
        self._idle: list[int] = []
        self._queue: deque[Work] = deque()
        self._running: dict[Any, tuple[int, Work | None]] = {}
        self._tries: dict[str, int] = {}

    def start(self, bench: Bench) -> None:
        """Connect to the cluster, and place the models on its workers."""
        self._bench = bench
        parcel = pack(bench)
        self._ray = needed("ray", extra="ray")
        here = {} if self._address else {"num_cpus": self.slots * self._threads}
        try:
            self._ray.init(
                address=self._address or "local",
                include_dashboard=None if self._address else False,
                log_to_driver=False,
                logging_level="error",
                **here,
            )
        except Exception as error:  # Ray raises many things when there is no cluster
            first = str(error).strip().partition("\n")[0]
            raise InputError(
                f"--executor ray{':' if self._address else ''}{self._address or ''}: "
                f"no cluster ({first}). Start one with ray start, or leave the address out."
            ) from error
        self._parcel = self._ray.put(parcel)
        self._kind = self._ray.remote(num_cpus=self._threads, max_restarts=0)(_Actor)
        self._actors = [None] * self.slots
        for number in range(self.slots):
            self._place(number)

    def submit(self, work: Work) -> None:
        """Give it to a worker that has none, or keep it until there is one."""
        self._queue.append(work)
        self._distribute()

    def wait(self) -> Finished:
        """The next work that comes back."""
        while True:
            self._distribute()
            (reference, *_), _ = self._ray.wait(list(self._running), num_returns=1)
            number, work = self._running.pop(reference)
            try:
                said: Arrays | Failed | str = self._ray.get(reference)
            except self._ray.exceptions.RayError as error:
                self._replace(number, work, error)
                continue
            if isinstance(said, Failed):
                raise said.again()
            self._idle.append(number)
            if isinstance(said, str) or work is None:
                self._names[number] = f"ray {said}"
                continue
            # What Ray hands over cannot be written to.
            arrays = {name: values.copy() for name, values in said.items()}
            book_spent(arrays, self._bench.meter)
            return Finished(
                name=work.name,
                arrays=arrays,
                worker=self._names[number],
                lost=self._tries.pop(work.name, 0),
            )

    def close(self) -> None:
        """Let go of the workers, and end a cluster that was started for this run."""
        if not self._actors:
            return
        for actor in self._actors:
            if actor is not None:
                self._ray.kill(actor)
        self._actors = []
        self._ray.shutdown()

    def _place(self, number: int) -> None:
        self._actors[number] = self._kind.remote()
        self._running[self._actors[number].load.remote(self._parcel, self._threads)] = number, None

    def _distribute(self) -> None:
        while self._queue and self._idle:
            number, work = self._idle.pop(0), self._queue.popleft()
            self._running[self._actors[number].perform.remote(work)] = number, work

    def _replace(self, number: int, work: Work | None, error: Exception) -> None:
        self.lost += 1
        what = work.name if work is not None else "loading the models"
        self._tries[what] = self._tries.get(what, 0) + 1
        if self._tries[what] == TRIES:
            first = str(error).strip().partition("\n")[0]
            raise IncompleteRunError(
                f"{what}: {TRIES} workers were lost over it ({first}). "
                "Use fewer workers or a smaller --batch, then --resume."
            )
        if work is not None:
            self._queue.appendleft(work)
        self._place(number)


class _Actor:
    """What runs on a worker of the cluster."""

    def load(self, parcel: bytes, threads: int) -> Failed | str:
        """Load the models; tells which machine and process has them."""
        torch.set_num_threads(threads)
        try:
            self._bench = unpack(parcel)
        except Exception as error:  # raised again by the process that waits
            return caught(error)
        return f"{socket.gethostname()} {os.getpid()}"

    def perform(self, work: Work) -> Arrays | Failed:
        """Do one task."""
        try:
            arrays, self._bench = perform(work, self._bench)
            return arrays
        except Exception as error:  # raised again by the process that waits
            return caught(error)
