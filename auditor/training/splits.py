"""Which images each member of an ensemble learns from."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from auditor.errors import InputError

SEEDS = (10007, 5678, 12345)
"""Seeds of S0's shuffles (C.1)."""


def disjoint_splits(count: int, *, size: int, members: int, seed: int) -> tuple[Tensor, ...]:
    """Consecutive parts of ``size`` indices each, of all ``count`` in a seeded order (S0 C.1).

    Returns
    -------
    tuple
        One tensor (size,) for each member; no index is in two of them.

    Raises
    ------
    InputError
        If there are not so many images.
    """
    if size < 1 or members * size > count:
        raise InputError(
            f"{members} disjoint splits of {size} images need {members * size}, there are {count}. "
            "Ask for fewer members, or smaller splits."
        )
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    return torch.split(order[: members * size], size)


def check_splits(splits: Sequence[Tensor], y: Tensor, *, disjoint: bool) -> None:
    """Refuse splits that share images though they should not, or that miss a class.

    Parameters
    ----------
    splits
        Indices of each member's images.
    y
        Class of every image (n,).
    disjoint
        Whether no image may be in two splits.

    Raises
    ------
    InputError
        Says which splits and how many images, or which class.
    """
    for second, rows in enumerate(splits):
        for first in range(second if disjoint else 0):
            shared = int(torch.isin(splits[first], rows).sum())
            if shared:
                raise InputError(
                    f"Splits {first + 1} and {second + 1} share {shared} images, but disjoint "
                    "ones were asked for. Give each image to one split."
                )
        missing = sorted(set(y.tolist()) - set(y[rows].tolist()))
        if missing:
            named = ", ".join(map(str, missing[:5])) + (" …" if len(missing) > 5 else "")
            raise InputError(
                f"Split {second + 1} ({len(rows)} images) has no image of class {named}. "
                "Use larger splits."
            )
