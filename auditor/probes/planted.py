"""Planted truth for the audited model: copies of it learn which half of a picture decides."""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from torch import Tensor

from auditor.attributions.noise import SHOWN, mix
from auditor.errors import InputError
from auditor.evaluation import Evaluator, Meter
from auditor.models import Classifier
from auditor.probes.subject import Subject
from auditor.quality.planted import BLOCKS, Block, PlantedTruth, lesson, side_by_side
from auditor.records import Key, Records
from auditor.training.trainable import Trainable
from auditor.usercode import plain_errors

PROBE = "planted"
BATCH = 16
"""Pictures in a step of learning."""

RATES = (1e-3, 1e-2)
"""Adam's usual rate; the next where a copy has not learned with the one before."""

TRUTH = 1002
"""Keeps the pairs and their order apart from all other random numbers."""


def learned(
    classifier: Classifier,
    blocks: Tensor,
    classes: Tensor,
    *,
    block: Block,
    pictures: int,
    seed: int,
    meter: Meter,
    account: str,
) -> Classifier:
    """A copy of the model that has learned to tell the class of one block of a pair.

    It starts from the model's weights, and learns from ever new pairs until all of a pass were
    right, or it has seen as many ``pictures`` at each of the learning rates.

    Parameters
    ----------
    blocks
        Images of half the model's width, (n, C, H, W/2), with their classes (n,).

    Raises
    ------
    InputError
        If the model cannot be trained.
    """
    for rate in RATES:
        student, seen, right = Trainable(classifier), 0, 0
        optimizer = torch.optim.Adam(student.parameters(), lr=rate)
        with torch.random.fork_rng(), plain_errors(f"{classifier.name}: cannot be trained"):
            while seen < pictures and right < len(blocks):
                stream = mix(seed, TRUTH, BLOCKS.index(block), seen)
                torch.manual_seed(stream)
                pairs = side_by_side(blocks, seed=stream, labels=classes)
                right = lesson(student, optimizer, pairs, block=block, batch=BATCH)
                seen += len(blocks)
                meter.add(account, gradients=len(blocks))
        if right == len(blocks):
            break
    copied = copy.deepcopy(classifier)
    copied.network = student.network.eval().requires_grad_(False)
    return copied


def halved(x: Tensor) -> Tensor:
    """Images (n, C, H, W) pressed to half their width, so that two fill one picture.

    Raises
    ------
    InputError
        If the width is odd.
    """
    height, width = x.shape[2:]
    if width % 2:
        raise InputError(f"Two pictures side by side do not fill an odd width of {width} pixels.")
    size = (height, width // 2)
    return F.interpolate(x, size=size, mode="bilinear", antialias=True, align_corners=False)


def planted(
    classifier: Classifier,
    subject: Subject,
    *,
    sigmas: tuple[float, ...],
    samples: int,
    pictures: int,
    batch: int,
    device: str,
    meter: Meter,
    account: str,
) -> Records:
    """Share of the map inside the half that decides, at some σ (:class:`PlantedTruth`).

    The audited model's own classes of the images are learned, by two copies: of one the left half
    of a picture decides, of the other the right half. Which half does is the planted evidence.

    Parameters
    ----------
    pictures
        Most that each copy may learn from.
    samples
        Noise draws per smoothed map.

    Raises
    ------
    InputError
        If the model cannot learn, or has nothing to learn from these images.

    References
    ----------
    S4 Figure 10, as in :mod:`auditor.quality.planted`.
    """
    if bool((subject.target == subject.target[0]).all()):
        raise InputError("All images are of one class: nothing in them decides.")
    blocks = halved(subject.x)
    copies = [
        learned(
            classifier,
            blocks,
            subject.target,
            block=block,
            pictures=pictures,
            seed=subject.seed,
            meter=meter,
            account=account,
        )
        for block in BLOCKS
    ]
    left, right = (
        Evaluator(model=model, batch=batch, device=device, probe=account, meter=meter)
        for model in copies
    )
    pairs = side_by_side(blocks, seed=mix(subject.seed, TRUTH))
    records: Records = {}
    for sigma in sigmas:
        draws = samples if sigma else 1
        method = subject.smoothed(sigma=sigma, samples=draws, stream=SHOWN)
        found = PlantedTruth(k=subject.k)((left, right), method, pairs, images=subject.images)
        for metric, values in found.values.items():
            records[Key(probe=PROBE, metric=metric, sigma=sigma)] = values.double().numpy()
    return records
