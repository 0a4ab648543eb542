from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from auditor.attributions import FRESH, SHOWN, Noise
from auditor.evaluation import Evaluator
from auditor.metrics.drift import UNITS, Reference
from auditor.probes.smoothing import map_error, norms, smoothing
from auditor.probes.subject import CleanMaps, Subject, clean_maps
from auditor.records import Key


def test_values_by_hand():
    """Two pixels, norms from the triangle 3, 4, 5; the third image has no unsmoothed map."""
    plain = torch.tensor([[[[3.0, 4.0]]], [[[0.0, 2.0]]], [[[0.0, 0.0]]]])
    shown = torch.tensor([[[[0.0, 1.0]]], [[[4.0, 3.0]]], [[[3.0, 4.0]]]])
    fresh = torch.tensor([[[[0.5, 1.0]]], [[[1.0, 2.0]]], [[[1.0, 2.0]]]])
    maps = CleanMaps(shown=shown, fresh=fresh, kept=torch.tensor([1.0, 0.25, 0.5]))
    records = smoothing(plain, maps, sigma=0.2, k=1)

    def value(metric: str) -> list[float]:
        return records[Key(probe="smoothing", metric=metric, sigma=0.2)].tolist()

    assert value("self_overlap") == [1, 0, 1]
    assert value("label_kept") == [1, 0.25, 0.5]
    # ‖(−.5, 0)‖ / √2 ‖(.25, 1)‖; ‖(3, 1)‖ / √2 ‖(2.5, 2.5)‖; ‖(2, 2)‖ / √2 ‖(2, 3)‖.
    assert value("map_error") == pytest.approx(
        [0.5 / (2 * 1.0625) ** 0.5, (10 / 25) ** 0.5, 2 / 13**0.5]
    )
    assert value("norm_ratio")[:2] == pytest.approx([1 / 5, 5 / 2])
    assert np.isnan(value("norm_ratio")[2])
    assert value("fidelity_error") == pytest.approx([18**0.5, 17**0.5, 5])
    assert value("map_norm") == pytest.approx([1, 5, 5])
    assert value("topk_intersection")[:2] == [1, 0]
    assert value("l2") == value("fidelity_error")


def test_all_drift_metrics_compare_the_smoothed_with_the_unsmoothed_map():
    generator = torch.Generator().manual_seed(0)
    plain, shown, fresh = (torch.randn(4, 2, 12, 12, generator=generator) for _ in range(3))
    maps = CleanMaps(shown=shown, fresh=fresh, kept=torch.ones(4))
    records = smoothing(plain, maps, sigma=0.1, k=10)
    validity = {"self_overlap", "label_kept", "map_error", "norm_ratio", "fidelity_error"}
    assert {k.metric for k in records} == {*UNITS, *validity, "map_norm"}
    for metric, expected in Reference(plain, 10).drift(shown).items():
        found = records[Key(probe="smoothing", metric=metric, sigma=0.1)]
        np.testing.assert_array_equal(found, expected.numpy())


def test_the_error_of_a_map_that_is_zero_is_undefined():
    nothing = torch.zeros(1, 1, 2, 2)
    assert map_error(nothing, nothing).isnan().all()
    assert map_error(nothing + 1, nothing + 1).item() == 0


@pytest.mark.parametrize("samples", [16, 64])
def test_the_error_of_a_map_is_its_spread_over_repetitions(networks, held_out, samples):
    """Against the standard deviation of 40 maps about the mean of all of them."""
    model, x = networks[0], held_out[0][:12]
    target = model(x).argmax(dim=1)
    found, maps = [], []
    for seed in range(20):
        images = Subject(x=x, target=target, images=tuple(range(12)), k=5, seed=seed)
        both = clean_maps(Evaluator(model=model, batch=512), images, sigma=0.1, samples=samples)
        found.append(map_error(both.shown, both.fresh))
        maps += [both.shown.double(), both.fresh.double()]
    spread = torch.stack(maps).var(dim=0).flatten(1).sum(dim=1).sqrt()
    expected = spread / norms(torch.stack(maps).mean(dim=0))
    # Root mean squares over 20 pairs of 144 dependent pixels: a few percent, and up to 2% because
    # the mean of two maps is a little longer than that of all.
    measured = torch.stack(found).square().mean(dim=0).sqrt()
    assert measured.tolist() == pytest.approx(expected.tolist(), rel=0.15)


def test_norms_are_taken_in_double_precision():
    """The squares of these values overflow float32."""
    maps = torch.full((1, 1, 2, 2), 1e30)
    assert norms(maps).item() == pytest.approx(2e30)


class Step(nn.Module):
    """Class 0 where the mean of the image is above one half; its logit is 3·mean."""

    def forward(self, x: Tensor) -> Tensor:
        mean = x.flatten(1).mean(dim=1)
        return torch.stack([3 * mean, torch.full_like(mean, 1.5)], dim=1)


def subject() -> Subject:
    levels = torch.tensor([0.51, 0.9, 0.55])[:, None, None, None]
    return Subject(
        x=levels.expand(3, 1, 3, 3).contiguous(),
        target=torch.zeros(3, dtype=torch.int64),
        images=(4, 0, 2),
        k=2,
        seed=1,
    )


def test_label_kept_counts_both_streams():
    images = subject()
    maps = clean_maps(Evaluator(model=Step(), batch=8), images, sigma=0.2, samples=30)
    means = torch.cat(
        [
            Noise(seed=1, stream=stream, samples=30).draw(
                images.images, (1, 3, 3), first=0, count=30
            )
            for stream in (SHOWN, FRESH)
        ],
        dim=1,
    ).mean(dim=(2, 3, 4))
    expected = (images.x.mean(dim=(1, 2, 3))[:, None] + 0.2 * means > 0.5).double().mean(dim=1)
    assert maps.kept.tolist() == pytest.approx(expected.tolist(), abs=1e-12)
    assert 0 < maps.kept[0] < 1
    torch.testing.assert_close(maps.shown, torch.full((3, 1, 3, 3), 1 / 3))


def test_without_noise_there_is_one_map():
    evaluator = Evaluator(model=Step(), batch=8)
    maps = clean_maps(evaluator, subject(), sigma=0.0, samples=30)
    assert torch.equal(maps.shown, maps.fresh)
    assert maps.kept.tolist() == [1, 1, 1]
    assert evaluator.meter.gradients == {"audit": 3}
