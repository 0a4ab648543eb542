"""Columns of what an attack found, filled a few images at a time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from auditor.attack_result import (
    GOALS,
    METRICS,
    STAGES,
    AttackRow,
    Column,
    NaturalRow,
    TransferRow,
)
from auditor.probes.natural import CHANGES

_NATURAL = "natural "
_LOST = "lost"
_STILL = "still "
_TRANSFER = "transfer "


class Book:
    """One value per image under each condition; ``nan`` where there is none.

    Parameters
    ----------
    epsilons
        Sizes of the attack in 1/255.
    images
        How many there are, attacked or not.
    """

    def __init__(self, epsilons: Sequence[float], images: int) -> None:
        self.epsilons, self.images = tuple(epsilons), images
        self._columns: dict[tuple[str, str], npt.NDArray[np.float64]] = {}
        self._winner: list[list[int | None]] = [[None] * images for _ in self.epsilons]

    def stage(
        self, name: str, index: int, rows: list[int], values: Mapping[str, Tensor], lost: Tensor
    ) -> None:
        """Metrics of some images at the ε of this index; nothing counts where the label is lost."""
        for metric, tensor in values.items():
            self._column(name, metric)[index, rows] = tensor.masked_fill(lost, torch.nan).numpy()
        self._column(name, _LOST)[index, rows] = lost.numpy()

    def change(
        self, name: str, rows: list[int], values: Mapping[str, Tensor], lost: Tensor
    ) -> None:
        """Metrics of some images after an everyday change, which has no ε."""
        self.stage(_NATURAL + name, 0, rows, values, lost)

    def transfer(
        self, name: str, index: int | None, rows: list[int], values: Mapping[str, Tensor]
    ) -> None:
        """Metrics of another explanation's maps at the ε of this index, or of the clean images."""
        none = torch.zeros(len(rows), dtype=torch.bool)
        stage = (_STILL if index is None else _TRANSFER) + name
        self.stage(stage, index or 0, rows, values, none)

    def winner(self, index: int, row: int, search: int | None) -> None:
        """Which search found the perturbation of an image."""
        self._winner[index][row] = search

    def rows(self) -> tuple[AttackRow, ...]:
        """What was found, by ε."""
        return tuple(
            AttackRow(
                epsilon=epsilon,
                values={stage: self._values(stage, index) for stage in STAGES},
                infeasible={stage: self._lost(stage, index) for stage in STAGES},
                largest_change=_plain(self._column("eight_bits", "largest_change")[index]),
                length=_plain(self._column("eight_bits", "length")[index]),
                winner=tuple(self._winner[index]),
            )
            for index, epsilon in enumerate(self.epsilons)
        )

    def natural(self) -> tuple[NaturalRow, ...]:
        """What everyday changes did; empty when no image was attacked."""
        return tuple(
            NaturalRow(
                change=name,
                values=self._values(_NATURAL + name, 0),
                changed=self._lost(_NATURAL + name, 0),
            )
            for name in CHANGES
            if (_NATURAL + name, _LOST) in self._columns
        )

    def transfers(self, names: Iterable[str]) -> tuple[TransferRow, ...]:
        """What was found of other explanations; the clean images first, then by ε."""
        found = []
        for name in names:
            still = self._values(_STILL + name, 0)
            found.append(TransferRow(explanation=name, epsilon=None, values=still))
            for index, epsilon in enumerate(self.epsilons):
                values = self._values(_TRANSFER + name, index)
                found.append(TransferRow(explanation=name, epsilon=epsilon, values=values))
        return tuple(found)

    def _column(self, stage: str, metric: str) -> npt.NDArray[np.float64]:
        empty = np.full((len(self.epsilons), self.images), np.nan)
        return self._columns.setdefault((stage, metric), empty)

    def _values(self, stage: str, index: int) -> dict[str, Column]:
        return {
            metric: _plain(values[index])
            for (at, metric), values in self._columns.items()
            if at == stage and metric in (*METRICS, *GOALS.values())
        }

    def _lost(self, stage: str, index: int) -> int:
        return int(np.nansum(self._column(stage, _LOST)[index]))


def _plain(values: npt.NDArray[np.float64]) -> Column:
    return tuple(float(v) if np.isfinite(v) else None for v in values)
