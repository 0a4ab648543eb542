from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from skimage.metrics import structural_similarity

from auditor.metrics.drift import SSIM_SETTINGS
from auditor.metrics.views import visual
from auditor.probes.members import control_probe, twin_probe
from auditor.probes.subject import CleanMaps
from auditor.records import Key


def maps(seed: int, shape: tuple[int, ...] = (3, 2, 12, 12)) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_errors_of_a_pair_by_hand():
    """Maps of one channel and two pixels, all norms from the triangle 3, 4, 5."""
    own_plain = torch.tensor([[[[3.0, 4.0]]], [[[0.0, 0.0]]]])
    own = torch.tensor([[[[0.0, 4.0]]], [[[3.0, 4.0]]]])
    twin_plain = torch.tensor([[[[0.0, 0.0]]], [[[1.0, 0.0]]]])
    twin = torch.tensor([[[[3.0, 0.0]]], [[[3.0, 4.0]]]])
    records = twin_probe(own_plain, own, twin_plain, twin, sigma=0.1, k=1, name="other")

    def value(metric: str) -> list[float]:
        return records[Key(probe="twin", metric=metric, sigma=0.1, partner="other")].tolist()

    assert value("stability_error") == [5, 0]  # ‖(0, 4) − (3, 0)‖ and equal maps
    assert value("fidelity_error") == pytest.approx([(3 + 3) / 2, (5 + 20**0.5) / 2])
    assert value("map_norm") == [(4 + 3) / 2, 5]
    assert value("topk_intersection") == [0, 1]
    assert value("topk_iou") == [0, 1]
    assert np.isnan(value("ssim")).all()  # smaller than its window
    assert len(records) == 6


def test_similarity_of_a_pair():
    own, twin = maps(0), maps(1)
    records = twin_probe(own, own, twin, twin, sigma=0.0, k=10, name="twin")
    sizes = [m.double().abs().sum(dim=1) for m in (own, twin)]
    for row in range(3):
        top = [set(np.argsort(-m[row].numpy().ravel())[:10].tolist()) for m in sizes]
        shared = len(top[0] & top[1])
        found = {k.metric: float(v[row]) for k, v in records.items()}
        assert found["topk_intersection"] == pytest.approx(shared / 10)
        assert found["topk_iou"] == pytest.approx(shared / (20 - shared))
        pictures = [visual(m)[row].numpy() for m in sizes]
        expected = structural_similarity(*pictures, **SSIM_SETTINGS)
        assert found["ssim"] == pytest.approx(expected, abs=1e-12)
        assert found["fidelity_error"] == 0  # without smoothing


def test_the_control_is_compared_with_the_shown_map():
    own = CleanMaps(shown=maps(0), fresh=maps(5), kept=torch.ones(3))
    control = maps(1)
    records = control_probe(own, control, sigma=0.2, k=10)
    assert {k.metric for k in records} == {"topk_intersection", "ssim", "spearman"}
    assert {(k.probe, k.sigma, k.partner) for k in records} == {("control", 0.2, "reinitialized")}
    found = records[Key(probe="control", metric="spearman", sigma=0.2, partner="reinitialized")]
    flat = [m.double().abs().sum(dim=1).flatten(1).numpy() for m in (own.shown, control)]
    expected = [spearmanr(a, b).statistic for a, b in zip(*flat, strict=True)]
    assert found.tolist() == pytest.approx(expected, abs=1e-12)


def test_a_control_with_the_same_map_is_recognized():
    own = CleanMaps(shown=maps(0), fresh=maps(5), kept=torch.ones(3))
    records = control_probe(own, maps(0), sigma=0.0, k=10)
    for values in records.values():
        assert values.tolist() == pytest.approx([1, 1, 1], abs=1e-12)
