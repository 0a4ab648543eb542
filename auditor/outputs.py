"""From whatever a network returns to logits (B, classes): tuples, probabilities, one logit."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Literal

import torch
from torch import Tensor

from auditor.errors import InputError

Scale = Literal["logits", "softmax", "sigmoid"]

SUM_TOLERANCE = 1e-4
"""How far a row of probabilities in float32 may be from one."""

PROBE_SPANS = (1.0, 10.0, 100.0, 1000.0)
"""Widths of the noise that tells probabilities from logits: of images, and far beyond."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Output:
    """How the logits are found in what the network returns.

    Attributes
    ----------
    key
        Entry of a tuple, a mapping or a dataclass; without it ``logits``, or the only tensor.
    scale
        ``softmax``: rows are probabilities p and the logits are log p. ``sigmoid``: each score is
        the probability of a label of its own, the logits are log p − log(1 − p).
    label
        The one label of several independent ones that is explained.

    Notes
    -----
    One score z, alone or chosen by ``label``, makes two classes with logits (−z/2, z/2): their
    softmax is the sigmoid of z, and the maps of both classes are the same up to their sign.
    """

    key: str | None = None
    scale: Scale = "logits"
    label: int | None = None

    def logits(self, scores: Tensor) -> Tensor:
        """Logits (B, classes) of the scores (B, classes) or (B,) that :func:`pick` finds."""
        if scores.ndim == 1:
            scores = scores[:, None]
        if self.scale == "softmax":
            scores = scores.clamp_min(torch.finfo(scores.dtype).tiny).log()
        elif self.scale == "sigmoid":
            limits = torch.finfo(scores.dtype)
            p = scores.clamp(limits.tiny, 1 - limits.eps)
            scores = p.log() - (-p).log1p()
        if self.label is not None:
            scores = scores[:, self.label, None]
        if scores.ndim == 2 and scores.shape[1] == 1:
            scores = torch.cat([-scores, scores], dim=1) / 2
        return scores


PLAIN = Output()
"""The only tensor that is returned, or the one called ``logits``, as it is."""


def pick(returned: object, key: str | None, *, name: str = "model") -> Tensor:
    """The tensor of scores in what a network returns.

    Raises
    ------
    InputError
        If there is no such entry, or several and none was chosen.
    """
    if isinstance(returned, Tensor):
        if key is not None:
            raise InputError(f"{name}: returns one tensor. Leave --output {key} out.")
        return returned
    entries = _entries(returned)
    if not entries:
        kind = type(returned).__name__
        raise InputError(f"{name}: returns a {kind} without tensors. Return the logits.")
    if key is None:
        key = "logits" if "logits" in entries else next(iter(entries))
        if len(entries) > 1 and key != "logits":
            raise InputError(
                f"{name}: returns several tensors, {_named(entries)}. Choose one: --output KEY."
            )
    if key not in entries:
        raise InputError(f"{name}: returns no {key!r} for --output, but {_named(entries)}.")
    return entries[key]


def find_scale(scores: Callable[[Tensor], Tensor], like: Tensor) -> Scale:
    """Tell probabilities from logits by their range, on a black image and on noise of all sizes.

    A softmax sums to one and a sigmoid stays in [0, 1] whatever it is given; logits do not.

    Parameters
    ----------
    scores
        Images (1, C, H, W) to scores (1, classes) or (1,), as the network returns them.
    like
        An image (1, C, H, W) of the right size.
    """
    generator = torch.Generator().manual_seed(0)
    noise = torch.rand(like.shape, generator=generator).to(like) - 0.5
    rows: list[Tensor] = []
    for image in (torch.zeros_like(like), *(0.5 + span * noise for span in PROBE_SPANS)):
        row = scores(image).flatten()
        if not row.is_floating_point():  # the preflight refuses it
            return "logits"
        if not bool(row.isfinite().all()):  # the widest noise may overflow
            continue
        if not bool(((row >= 0) & (row <= 1)).all()):
            return "logits"
        rows.append(row)
    found = torch.stack(rows) if rows else like.new_zeros(1, 1)
    if bool((found == found[0]).all()):  # says nothing at all
        return "logits"
    if found.shape[1] > 1 and bool(((found.sum(dim=1) - 1).abs() <= SUM_TOLERANCE).all()):
        return "softmax"
    return "sigmoid"


def remark(output: Output, classes: int) -> str:
    """What was done to the scores, for the preflight; empty for plain logits."""
    parts = []
    if output.key is not None:
        parts.append(f"Logits are read from {output.key!r}.")
    if output.scale == "softmax":
        parts.append(
            "The model returns probabilities: maps explain log p, not a logit, and lose precision "
            "where p is nearly 1."
        )
    elif output.scale == "sigmoid" and classes > 2:
        parts.append(
            "The model returns a probability for each label (sigmoid): maps explain log p/(1−p) of "
            "the strongest label, or of the one that --target names."
        )
    elif output.scale == "sigmoid":
        parts.append("The model returns probabilities (sigmoid): maps explain log p/(1−p).")
    return " ".join(parts)


def _entries(returned: object) -> dict[str, Tensor]:
    items: list[tuple[Any, Any]]
    if isinstance(returned, Mapping):
        items = list(returned.items())
    elif dataclasses.is_dataclass(returned):
        names = [f.name for f in dataclasses.fields(returned)]
        items = [(name, getattr(returned, name)) for name in names]
    elif isinstance(returned, list | tuple):
        names = [str(name) for name in getattr(returned, "_fields", None) or range(len(returned))]
        items = list(zip(names, returned, strict=True))
    else:
        items = []
    return {str(name): value for name, value in items if isinstance(value, Tensor)}


def _named(entries: Mapping[str, Tensor]) -> str:
    shown = [f"{name} ({'×'.join(map(str, t.shape))})" for name, t in entries.items()]
    return ", ".join(shown[:6]) + (f" and {len(shown) - 6} more" if len(shown) > 6 else "")
