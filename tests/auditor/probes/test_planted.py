from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from torch import Tensor

from auditor.attributions import Custom, SimpleGrad
from auditor.capabilities import Ability
from auditor.errors import InputError
from auditor.evaluation import Meter
from auditor.models import Classifier
from auditor.probes.planted import halved, planted
from auditor.probes.subject import Subject

EDGES = Custom(function=lambda model, x, target: x.diff(dim=3, prepend=x[..., :1]), name="edges")


def measure(classifier: Classifier, x: Tensor, *, method=EDGES, pictures=0, target=None):
    meter = Meter()
    subject = Subject(
        x=x,
        target=classifier(x).argmax(dim=1) if target is None else target,
        images=tuple(range(len(x))),
        k=10,
        seed=0,
        method=method,
    )
    records = planted(
        classifier,
        subject,
        sigmas=(0.0, 0.05),
        samples=4,
        pictures=pictures,
        batch=64,
        device="cpu",
        meter=meter,
        account="x",
    )
    return {(key.metric, key.sigma): values for key, values in records.items()}, meter


def test_the_gradient_finds_what_copies_learned_and_a_map_of_edges_does_not(classifier, held_out):
    x, before = held_out[0][:40], classifier.sha256()
    found, meter = measure(classifier, x, method=SimpleGrad(), pictures=1200)
    blind, _ = measure(classifier, x, pictures=1200)
    assert set(found) == {(m, s) for m in ("planted_topk", "planted_mass") for s in (0.0, 0.05)}
    for key, values in found.items():
        counted = np.isfinite(values)
        assert counted.sum() >= 10
        assert values[counted].mean() > 0.6, key
        # Both models are shown the same picture, so what does not depend on them gets one half.
        np.testing.assert_allclose(blind[key][counted], 0.5, atol=1e-6 if key[1] == 0 else 0.2)
    # Both copies, 40 pictures at a time, and explaining them without draws and with four.
    assert meter.gradients["x"] % 40 == 0
    assert meter.gradients["x"] <= 2 * 2 * 1200 + 2 * 40 * (1 + 4)
    assert classifier.sha256() == before, "the audited model stays as it was"


def test_copies_that_learned_nothing_have_no_planted_evidence(classifier, held_out):
    found, meter = measure(classifier, held_out[0][:12])
    assert meter.gradients.get("x", 0) == 0
    assert np.isfinite(found["planted_topk", 0.0]).sum() < 10


def test_two_halves_fill_a_picture(held_out):
    x = held_out[0][:2]
    assert halved(x).shape == (2, 1, 12, 6)
    torch.testing.assert_close(
        halved(torch.full((1, 3, 4, 8), 0.25)), torch.full((1, 3, 4, 4), 0.25)
    )
    with pytest.raises(InputError, match="odd width of 11"):
        halved(x[..., :11])


def test_what_cannot_be_checked_says_why(classifier, held_out, networks):
    x = held_out[0][:12]
    with pytest.raises(InputError, match="one class"):
        measure(classifier, x, target=torch.zeros(12, dtype=torch.long))
    saved = Classifier(
        networks[0],
        mean=(0.0,),
        std=(1.0,),
        input_shape=(1, 12, 12),
        capabilities=dataclasses.replace(
            classifier.capabilities, training=Ability(False, "It is a graph.")
        ),
    )
    with pytest.raises(InputError, match=r"cannot be trained\. It is a graph\."):
        measure(saved, x)
