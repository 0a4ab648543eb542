"""How far a map moves when nobody attacks: the changes that pictures go through every day."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from auditor.attributions import FRESH
from auditor.evaluation import Evaluator
from auditor.metrics.drift import Reference
from auditor.metrics.views import is_zero
from auditor.probes.subject import CleanMaps, Subject
from auditor.records import Records, book


def jpeg(x: Tensor, *, quality: int) -> Tensor:
    """Images (B, C, H, W) in [0, 1] after JPEG compression; C is 1 or 3."""
    levels = (255 * x).round().to(torch.uint8).permute(0, 2, 3, 1).squeeze(3).numpy()
    found = []
    for picture in levels:
        file = io.BytesIO()
        Image.fromarray(picture).save(file, "jpeg", quality=quality)
        found.append(torch.from_numpy(np.array(Image.open(file))))
    decoded = torch.stack(found).reshape(len(x), *x.shape[2:], x.shape[1])
    return decoded.permute(0, 3, 1, 2).to(x.dtype) / 255


def resized(x: Tensor) -> Tensor:
    """Images at half their size and back, bilinear with antialiasing."""
    height, width = x.shape[2:]
    small = F.interpolate(
        x, size=(max(1, height // 2), max(1, width // 2)), mode="bilinear", antialias=True
    )
    return F.interpolate(small, size=(height, width), mode="bilinear", antialias=True).clamp(0, 1)


def shifted(x: Tensor) -> Tensor:
    """Images one pixel to the right; the left column is repeated."""
    return torch.cat([x[..., :1], x[..., :-1]], dim=-1)


def shifted_back(maps: Tensor) -> Tensor:
    """Maps one pixel to the left, so that only what does not follow the picture counts."""
    return torch.cat([maps[..., 1:], maps[..., -1:]], dim=-1)


CHANGES: Mapping[str, Callable[[Tensor], Tensor]] = {
    "jpeg_75": lambda x: jpeg(x, quality=75),
    "jpeg_50": lambda x: jpeg(x, quality=50),
    "resize": resized,
    "brighter": lambda x: (1.1 * x).clamp(0, 1),
    "darker": lambda x: 0.9 * x,
    "shift": shifted,
}
"""Name → change of images (B, C, H, W) in [0, 1]; the brightness changes by a tenth."""


def natural_maps(
    evaluator: Evaluator, subject: Subject, *, sigma: float, samples: int
) -> Iterator[tuple[str, Tensor, Tensor]]:
    """Each change, the maps (B, C, H, W) of the changed images, and where (B,) the label is lost.

    Maps have fresh noise; after a shift they are moved back. A change that does not exist for these
    images (JPEG for other than 1 or 3 channels) is left out.
    """
    explain = subject.explainer(evaluator, sigma=sigma, samples=samples, stream=FRESH)
    rows = torch.arange(len(subject.x))
    for name, change in CHANGES.items():
        if name.startswith("jpeg") and subject.x.shape[1] not in (1, 3):
            continue
        moved, logits = explain(change(subject.x), rows=rows, draw=0)
        if name == "shift":
            moved = shifted_back(moved)
        yield name, moved, logits.argmax(dim=1) != subject.target


def natural_drift(
    evaluator: Evaluator, subject: Subject, maps: CleanMaps, *, sigma: float, samples: int
) -> Records:
    """All drift metrics between the map ``shown`` and that of the changed image, fresh noise.

    Images whose prediction changes have ``nan`` and are counted; a change of :func:`natural_maps`
    that does not exist has no record.
    """
    records: Records = {}
    shown = Reference(maps.shown, subject.k)
    for name, moved, lost in natural_maps(evaluator, subject, sigma=sigma, samples=samples):
        values = shown.drift(moved)
        gone = is_zero(moved) & ~is_zero(maps.shown)
        for metric in ("topk_intersection", "topk_iou", "topk_mass"):
            values[metric] = values[metric].masked_fill(gone, 0.0)
        values = {metric: v.masked_fill(lost, torch.nan) for metric, v in values.items()}
        values["infeasible"] = lost.double()
        book(records, values, probe="natural", sigma=sigma, attack=name)
    return records
