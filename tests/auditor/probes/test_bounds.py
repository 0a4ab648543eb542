from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest
import torch
from torch import Tensor

from auditor.attributions.gradient import SimpleGrad
from auditor.bounds.probability import (
    attacked_cosine,
    certified_cosine,
    of_probability,
    probability_map,
)
from auditor.bounds.smoothing import bounded
from auditor.evaluation import Evaluator
from auditor.models import Classifier
from auditor.probes.attack_drift import AttackBudget
from auditor.probes.bounds import (
    CURVE,
    LOCAL,
    RATIOS,
    Depth,
    bracket,
    curvature_of_logit,
    smoothed_scores,
    worst,
)
from auditor.probes.subject import Subject
from auditor.records import Key, Records

DEPTH = Depth(
    draws=1500,
    attack=AttackBudget(gradients=240, search_samples=4, select_samples=8, samples=16),
)


def subject(classifier: Classifier, x: Tensor, **changes: object) -> Subject:
    known = Subject(
        x=x, target=classifier(x).argmax(dim=1), images=tuple(range(len(x))), k=6, seed=0
    )
    return dataclasses.replace(known, **changes)


def value(records: Records, metric: str, **condition: float) -> np.ndarray:
    return records[Key(probe="bounds", metric=metric, **condition)]


@pytest.mark.parametrize(("sigma", "first"), [(0.1, 0), (0.4, 6)])
def test_no_bracket_is_crossed(classifier, held_out, sigma, first):
    """A search for a crossing: every image, radius and σ, attacked from both kinds of start."""
    images = subject(classifier, held_out[0][first : first + 6], seed=first)
    evaluator = Evaluator(model=classifier, batch=256)
    _, direction = curvature_of_logit(evaluator, images)
    records = bracket(evaluator, images, sigma=sigma, depth=DEPTH, direction=direction)
    narrow = 0
    for ratio in RATIOS:
        at = {"sigma": sigma, "radius": ratio * sigma}
        certified, attacked = (
            value(records, f"{s}_overlap", **at) for s in ("certified", "attacked")
        )
        assert not (certified > attacked).any()
        narrow += int((attacked - certified < 1).sum())
        limit = value(records, "certified_cosine", **at)
        if not np.isnan(limit).all():
            seen = value(records, "attacked_cosine", **at)
            assert not (seen > limit).any()
    assert narrow >= 6  # a bracket from 0 to 1 could not be crossed
    overlaps = [value(records, "certified_overlap", sigma=sigma, radius=r * sigma) for r in CURVE]
    assert all((b <= a).all() for a, b in itertools.pairwise(overlaps))


def test_the_attack_stays_in_its_ball_and_keeps_the_label(classifier, held_out):
    images = subject(classifier, held_out[0][:6])
    evaluator = Evaluator(model=classifier, batch=256)
    _, direction = curvature_of_logit(evaluator, images)
    radii = [0.05, 0.2]
    for start in (direction, None):
        found = worst(
            evaluator, images, sigma=0.1, radii=radii, budget=DEPTH.attack, direction=start
        )
        for radius, delta in zip(radii, found, strict=True):
            kept = ~delta.flatten(1).isnan().any(dim=1)
            assert kept.any()
            assert (delta[kept].flatten(1).norm(dim=1) <= radius * (1 + 1e-5)).all()
            moved = images.x[kept] + delta[kept]
            assert moved.min() >= 0
            assert moved.max() <= 1
            assert (classifier(moved).argmax(dim=1) == images.target[kept]).all()


def test_local_constants_are_below_the_global_ones(classifier, held_out):
    images = subject(classifier, held_out[0][:6])
    evaluator = Evaluator(model=classifier, batch=256)
    records = smoothed_scores(evaluator, images, sigma=0.2)
    seen = value(records, "probability_lipschitz", sigma=0.2)
    assert (seen >= 0).all()
    assert (seen <= bounded(0.5, 0.2)).all()
    assert value(records, "logit_lipschitz", sigma=0.2).max() > 0


def test_local_constant_of_a_quadratic_is_its_largest_eigenvalue():
    """f = ½xᵀQx: the map is Qx, whatever σ; its Lipschitz constant is the largest |λ| of Q."""
    generator = torch.Generator().manual_seed(0)
    q, _ = torch.linalg.qr(torch.randn(9, 9, generator=generator))
    matrix = (q * torch.tensor([-5.0, 2, 1, 1, 0.5, 0.2, 0.1, 0, 0])) @ q.T

    def model(x: Tensor) -> Tensor:
        flat = x.flatten(1)
        score = (flat @ matrix * flat).sum(dim=1) / 2
        return torch.stack([score, torch.zeros_like(score)], dim=1)

    x = torch.rand(2, 1, 3, 3, generator=generator)
    found = LOCAL(
        Evaluator(model=model, batch=64),
        x,
        torch.zeros(2, dtype=torch.long),
        images=(0, 1),
        sigma=0.3,
        seed=0,
        generators=[torch.Generator().manual_seed(i) for i in range(2)],
    )
    assert found.tolist() == pytest.approx([5.0, 5.0], rel=1e-2)
    assert (found <= 5 * (1 + 1e-4)).all()


def test_the_map_of_a_probability_and_its_limits():
    """p = Φ-like: two logits ±⟨w, x⟩/2, at a point where p_σ and its map are known by symmetry."""
    w = torch.tensor([3.0, -4.0, 0.0, 0.0]).reshape(1, 1, 2, 2)

    def model(x: Tensor) -> Tensor:
        score = ((x - 0.5) * w).sum(dim=(1, 2, 3))
        return torch.stack([score, -score], dim=1) / 2

    x = torch.full((1, 1, 2, 2), 0.5)
    evaluator = Evaluator(model=model, batch=512)
    target = torch.zeros(1, dtype=torch.long)
    found = probability_map(evaluator, x, target, images=(0,), sigma=0.5, draws=4000, seed=0)
    assert found.low.item() < 0.5 < found.high.item()
    along = torch.randn(200_000, generator=torch.Generator().manual_seed(1)) * 2.5
    p = torch.sigmoid(along)
    truth = (p * (1 - p)).mean() * w
    assert (found.mean - truth).norm() <= found.error.item()
    soft = of_probability(evaluator).gradients(x, target)[0]
    assert torch.allclose(soft, 0.25 * w)
    # Certified at a tiny radius, and the map at a shifted image turns by nothing.
    assert certified_cosine(found, radius=1e-3, sigma=0.5).item() < 0.01
    moved = probability_map(
        evaluator, x + 1e-3, target, images=(0,), sigma=0.5, draws=4000, seed=0, stream=8
    )
    assert attacked_cosine(found, moved).item() <= 1e-3
    assert certified_cosine(found, radius=5.0, sigma=0.5).isnan().item()


def test_an_explanation_that_is_no_gradient_is_certified_too(classifier, held_out):
    class Product(SimpleGrad):
        name = "product"
        is_gradient = False
        differentiable = False

        def __call__(self, evaluator, x, target, *, images, draw):
            maps, logits = super().__call__(evaluator, x, target, images=images, draw=draw)
            return maps * x, logits

    images = subject(classifier, held_out[0][:3], method=Product())
    records = bracket(
        Evaluator(model=classifier, batch=256),
        images,
        sigma=0.2,
        depth=dataclasses.replace(DEPTH, draws=200),
        direction=None,
        cosine=False,
    )
    at = {"sigma": 0.2, "radius": 0.05}
    assert not (
        value(records, "certified_overlap", **at) > value(records, "attacked_overlap", **at)
    ).any()
    assert Key(probe="bounds", metric="certified_cosine", **at) not in records


def test_a_top_k_of_more_than_half_of_the_pixels_is_promised_nothing(classifier, held_out):
    images = subject(classifier, held_out[0][:2], k=100)
    records = bracket(
        Evaluator(model=classifier, batch=256),
        images,
        sigma=0.2,
        depth=dataclasses.replace(DEPTH, draws=50),
        direction=None,
        cosine=False,
    )
    assert not value(records, "certified_overlap", sigma=0.2, radius=0.05).any()
    assert (value(records, "attacked_overlap", sigma=0.2, radius=0.05) > 0).all()
