"""Progress on the terminal: what runs, how far it is, and the time left."""

from __future__ import annotations

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)


class Bar:
    """A progress bar on stderr, counted in gradients of the audited model."""

    def __init__(self, console: Console) -> None:
        self._progress = Progress(
            TextColumn("{task.description:<28.28}"),
            BarColumn(bar_width=18),
            TaskProgressColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(elapsed_when_finished=False),
            console=console,
            speed_estimate_period=120,
        )
        self._bar = self._progress.add_task("Starting", total=None)

    def __enter__(self) -> Bar:
        self._progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            total = self._progress.tasks[0].completed or 1
            self._progress.update(self._bar, description="Done", total=total)
        self._progress.stop()

    def start(self, total: float) -> None:
        """Begin, with the predicted total."""
        self._progress.update(self._bar, total=total)

    def advance(self, gradients: float) -> None:
        """Some work was done, or found done on resuming."""
        self._progress.advance(self._bar, gradients)

    def task(self, name: str) -> None:
        """A task begins."""
        self._progress.update(self._bar, description=name)
