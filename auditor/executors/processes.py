"""Worker processes on this machine: each loads the models once, then does one task after another.

Workers are spawned, not forked, so that they share no state of threads or GPUs with this process.
A worker that is lost (killed, out of memory) is replaced, and its task given to another one.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
import traceback
from collections import deque
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any

import torch

from auditor.errors import AuditorError, IncompleteRunError, InputError
from auditor.executors.jobs import Finished, Work, book_spent, perform
from auditor.executors.parcel import pack, unpack
from auditor.store import Arrays
from auditor.tasks import Bench

TRIES = 4
"""How many workers may be lost over one task, or before any work is done, until the run stops."""


@dataclass(frozen=True)
class Failed:
    """What a worker says of an error: the user's own to be raised again, or a fault's traceback."""

    error: AuditorError | None
    trace: str

    def again(self) -> Exception:
        """The error, in this process."""
        return self.error or RuntimeError(f"in a worker process:\n{self.trace}")


def caught(error: Exception) -> Failed:
    """An error in a form that can be sent."""
    if isinstance(error, AuditorError):
        return Failed(error, "")
    return Failed(None, "".join(traceback.format_exception(error)))


def check_cores(workers: int, threads: int) -> None:
    """Refuse more threads than there are cores: that is several times slower, not faster.

    Raises
    ------
    InputError
        If workers × threads exceeds them.
    """
    cores = available_cores()
    if workers * threads > cores:
        raise InputError(
            f"--workers {workers} with {threads} thread{'s' if threads > 1 else ''} each: more "
            f"than the {cores} cores here. Give fewer."
        )


def available_cores() -> int:
    """Cores that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on every system
        return os.cpu_count() or 1


class _Worker:
    """One worker as its parent sees it: a process, a pipe to it, and the work it has."""

    def __init__(self, number: int, parcel: bytes, threads: int) -> None:
        context = multiprocessing.get_context("spawn")
        self.number = number
        self.work: Work | None = None
        self.ready = False
        self.pipe, theirs = context.Pipe()
        self.process: SpawnProcess = context.Process(
            target=_serve, args=(theirs, threads), name=f"auditor-{number}", daemon=True
        )
        # Ctrl-C reaches the parent, which decides; a worker never sees it, not even as it starts.
        resource_tracker.ensure_running()  # its start would undo the blocking
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            self.process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        theirs.close()
        # A pipe holds little, and the worker reads when it has started, after seconds.
        threading.Thread(target=self._send, args=(parcel,), daemon=True).start()

    def give(self, work: Work) -> None:
        self.work = work
        with contextlib.suppress(OSError):  # it is gone: the next wait notices
            self.pipe.send(work)

    def _send(self, parcel: bytes) -> None:
        with contextlib.suppress(OSError):
            self.pipe.send_bytes(parcel)


class Processes:
    """Does work in several processes of one machine.

    Parameters
    ----------
    workers
        How many.
    threads
        Of each; more threads than cores in all are several times slower.
    """

    def __init__(self, workers: int, *, threads: int = 1) -> None:
        self.slots = workers
        self.lost = 0
        self._threads = threads
        self._workers: list[_Worker] = []
        self._queue: deque[Work] = deque()
        self._tries: dict[str, int] = {}
        self._parcel = b""

    def start(self, bench: Bench) -> None:
        """Spawn the workers, which load the models while this process goes on."""
        self._bench = bench
        self._parcel = pack(bench)
        self._workers = [_Worker(n, self._parcel, self._threads) for n in range(self.slots)]

    def submit(self, work: Work) -> None:
        """Give it to a worker that has none, or keep it until there is one."""
        self._queue.append(work)
        self._distribute()

    def wait(self) -> Finished:
        """The next work that comes back."""
        while True:
            self._distribute()
            pipes: dict[Any, _Worker] = {worker.pipe: worker for worker in self._workers}
            for pipe in wait(list(pipes)):
                worker = pipes[pipe]
                try:
                    said = worker.pipe.recv()
                except (EOFError, OSError):
                    self._replace(worker)
                    continue
                if isinstance(said, Failed):
                    raise said.again()
                if worker.work is None:
                    worker.ready = True
                    continue
                work, worker.work = worker.work, None
                book_spent(said, self._bench.meter)
                return Finished(
                    name=work.name,
                    arrays=said,
                    worker=str(worker.number),
                    lost=self._tries.pop(work.name, 0),
                )

    def close(self) -> None:
        """Kill what still works; what it worked at is done again on resuming."""
        for worker in self._workers:
            worker.process.kill()
            worker.process.join()
            worker.pipe.close()
        self._workers = []

    def _distribute(self) -> None:
        for worker in self._workers:
            if self._queue and worker.ready and worker.work is None:
                worker.give(self._queue.popleft())

    def _replace(self, worker: _Worker) -> None:
        worker.process.join()
        worker.pipe.close()
        self.lost += 1
        what = worker.work.name if worker.work is not None else "loading the models"
        self._tries[what] = self._tries.get(what, 0) + 1
        if self._tries[what] == TRIES:
            raise IncompleteRunError(
                f"{what}: {TRIES} worker processes were lost over it ({_ending(worker.process)}). "
                "Use fewer workers or a smaller --batch, then --resume."
            )
        if worker.work is not None:
            self._queue.appendleft(worker.work)
        place = self._workers.index(worker)
        self._workers[place] = _Worker(worker.number, self._parcel, self._threads)


def _ending(process: SpawnProcess) -> str:
    code = process.exitcode or 0
    if code == -signal.SIGKILL:
        return "killed, as a system does that is out of memory"
    return f"signal {-code}" if code < 0 else f"exit code {code}"


def _serve(pipe: Connection, threads: int) -> None:
    """Load what the parent sends, then do its work until it is gone."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(threads)
    answer: Arrays | Failed | None
    with contextlib.suppress(EOFError, OSError):  # the parent is gone
        try:
            bench = unpack(pipe.recv_bytes())
        except Exception as error:
            pipe.send(caught(error))
            return
        pipe.send(None)
        while True:
            work: Work = pipe.recv()
            try:
                answer, bench = perform(work, bench)
            except Exception as error:
                answer = caught(error)
            pipe.send(answer)
            del work, answer


def _end_with_parent() -> None:
    """End at once when the parent has: a killed audit must not leave its workers behind."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
