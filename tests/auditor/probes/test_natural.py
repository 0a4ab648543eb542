from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from auditor.attributions import FRESH
from auditor.evaluation import Evaluator
from auditor.metrics.drift import Reference
from auditor.probes.natural import CHANGES, jpeg, natural_drift, resized, shifted, shifted_back
from auditor.probes.subject import Subject, clean_maps
from auditor.records import Key

K = 8


def pictures(channels: int = 1, count: int = 4, size: int = 16) -> torch.Tensor:
    """Smooth pictures whose borders are flat."""
    coarse = torch.rand(count, channels, 4, 4, generator=torch.Generator().manual_seed(1))
    x = nn.functional.interpolate(coarse, size=(size, size), mode="bicubic").clamp(0, 1)
    return 0.1 + 0.8 * x


def test_jpeg_keeps_the_picture_and_loses_more_at_lower_quality():
    for channels in (1, 3):
        x = pictures(channels, size=32)
        errors = [(jpeg(x, quality=quality) - x).abs().mean() for quality in (95, 75, 50)]
        assert errors == sorted(errors)
        assert errors[0] > 0
        assert errors[-1] < 0.05
        assert jpeg(x, quality=75).shape == x.shape


def test_jpeg_keeps_channels_apart():
    """A flat color survives but for the rounding of its conversion to luma and chroma."""
    color = torch.tensor([0.8, 0.4, 0.2]).reshape(1, 3, 1, 1).expand(1, 3, 16, 16)
    torch.testing.assert_close(jpeg(color, quality=75), color, rtol=0, atol=4 / 255)


def test_brightness_changes_by_a_tenth_and_stays_in_range():
    x = torch.tensor([0.0, 0.5, 1.0]).reshape(1, 1, 1, 3)
    assert CHANGES["brighter"](x).flatten().tolist() == pytest.approx([0, 0.55, 1])
    assert CHANGES["darker"](x).flatten().tolist() == pytest.approx([0, 0.45, 0.9])


@pytest.mark.parametrize("size", [(16, 16), (15, 9)])
def test_resizing_loses_detail_and_no_flat_area(size):
    flat = torch.full((1, 1, *size), 0.3)
    torch.testing.assert_close(resized(flat), flat)
    noise = torch.rand(1, 1, *size, generator=torch.Generator().manual_seed(0))
    assert resized(noise).shape == noise.shape
    assert resized(noise).std() < 0.7 * noise.std()


def test_a_shift_and_back_changes_the_border_alone():
    x = torch.rand(2, 3, 5, 6, generator=torch.Generator().manual_seed(0))
    assert torch.equal(shifted(x)[..., 1:], x[..., :-1])
    assert torch.equal(shifted_back(shifted(x))[..., :-1], x[..., :-1])


def network(channels: int) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(
            nn.Conv2d(channels, 8, 3),
            nn.Tanh(),
            nn.Conv2d(8, 8, 3),
            nn.Tanh(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(8, 3),
        )
    return model.requires_grad_(False)


@pytest.mark.parametrize(("channels", "sigma"), [(1, 0.0), (3, 0.1), (2, 0.0)])
def test_drift_is_that_of_the_changed_picture(channels, sigma):
    model, x = network(channels), pictures(channels)
    subject = Subject(x=x, target=model(x).argmax(dim=1), images=tuple(range(len(x))), k=K, seed=0)
    run = Evaluator(model=model, batch=16)
    samples = 6 if sigma else 1
    maps = clean_maps(run, subject, sigma=sigma, samples=samples)
    records = natural_drift(run, subject, maps, sigma=sigma, samples=samples)
    tried = {key.attack for key in records}
    jpegs = {"jpeg_75", "jpeg_50"}
    assert tried == set(CHANGES) - (jpegs if channels == 2 else set())
    explain = subject.explainer(run, sigma=sigma, samples=samples, stream=FRESH)
    moved, logits = explain(0.9 * x, rows=torch.arange(len(x)), draw=0)
    kept = (logits.argmax(dim=1) == subject.target).numpy()
    for metric, expected in Reference(maps.shown, K).drift(moved).items():
        key = Key(probe="natural", metric=metric, sigma=sigma, attack="darker")
        np.testing.assert_array_equal(records[key][kept], expected.numpy()[kept])
        assert np.isnan(records[key][~kept]).all()
    lost = records[Key(probe="natural", metric="infeasible", sigma=sigma, attack="darker")]
    np.testing.assert_array_equal(lost, (~kept).astype(float))


class Energy(nn.Module):
    """Sums of squared responses: shifts commute with it as long as the border is black."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.register_buffer("weight", torch.randn(3, 1, 3, 3, generator=generator))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.conv2d(x, self.weight, padding=1).square().sum(dim=(2, 3))


def test_a_map_that_follows_the_picture_survives_a_shift():
    x = nn.functional.pad(pictures(1, size=26), (3, 3, 3, 3))
    model = Energy()
    subject = Subject(x=x, target=model(x).argmax(dim=1), images=(0, 1, 2, 3), k=40, seed=0)
    run = Evaluator(model=model, batch=16)
    maps = clean_maps(run, subject, sigma=0, samples=1)
    records = natural_drift(run, subject, maps, sigma=0.0, samples=1)
    at = {"probe": "natural", "sigma": 0.0, "attack": "shift"}
    assert records[Key(metric="topk_intersection", **at)].tolist() == [1, 1, 1, 1]
    still = Reference(maps.shown, 40).drift(run.gradients(shifted(x), subject.target)[0])
    assert still["topk_intersection"].mean() < 1  # it is the moving back that makes it so
