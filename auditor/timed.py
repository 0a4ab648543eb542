"""How much of the wall time passes inside the model's evaluations."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from torch import Tensor

from auditor.evaluation import Evaluator


@dataclass
class Clock:
    """Seconds counted so far."""

    seconds: float = 0.0

    @contextmanager
    def running(self) -> Iterator[None]:
        """Count the time that the block takes."""
        begin = time.perf_counter()
        yield
        self.seconds += time.perf_counter() - begin


@dataclass(frozen=True, kw_only=True)
class TimedEvaluator(Evaluator):
    """An evaluator that counts its time on ``clock``."""

    clock: Clock = field(default_factory=Clock, repr=False)

    def logits(self, x: Tensor) -> Tensor:
        """See :class:`auditor.evaluation.Evaluator`."""
        with self.clock.running():
            return super().logits(x)

    def gradients(self, x: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """See :class:`auditor.evaluation.Evaluator`."""
        with self.clock.running():
            return super().gradients(x, target)

    def margin_gradients(self, x: Tensor, target: Tensor) -> Tensor:
        """See :class:`auditor.evaluation.Evaluator`."""
        with self.clock.running():
            return super().margin_gradients(x, target)

    def pullbacks(self, x: Tensor, target: Tensor, v: Tensor) -> Tensor:
        """See :class:`auditor.evaluation.Evaluator`."""
        with self.clock.running():
            return super().pullbacks(x, target, v)
