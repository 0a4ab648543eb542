from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from auditor.evaluation import Evaluator, Meter

SHAPE = (3, 5, 5)


class Watched(nn.Module):
    """A network that remembers how many images it was given at a time."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.body = nn.Sequential(
                nn.Conv2d(3, 4, 3), nn.Tanh(), nn.Flatten(), nn.Linear(36, 6)
            ).double()
        self.sizes: list[int] = []

    def forward(self, x: Tensor) -> Tensor:
        self.sizes.append(len(x))
        return self.body(x)


def images(count: int = 7) -> Tensor:
    return torch.rand(
        count, *SHAPE, generator=torch.Generator().manual_seed(0), dtype=torch.float64
    )


TARGET = torch.tensor([0, 5, 2, 2, 1, 3, 4])


def differences(score, image: Tensor, h: float = 1e-5) -> Tensor:
    """Central finite differences of a scalar function of one image."""
    found = torch.zeros_like(image).flatten()
    for pixel in range(image.numel()):
        step = torch.zeros(image.numel(), dtype=image.dtype)
        step[pixel] = h
        step = step.view_as(image)
        found[pixel] = (score(image + step) - score(image - step)) / (2 * h)
    return found.view_as(image)


@pytest.mark.parametrize("batch", [1, 3, 7, 100])
def test_batches_are_bounded_and_do_not_change_the_result(batch):
    model, x = Watched().requires_grad_(False), images()
    whole = Evaluator(model=model, batch=7)
    logits, (maps, seen), margins = (
        whole.logits(x),
        whole.gradients(x, TARGET),
        whole.margin_gradients(x, TARGET),
    )
    model.sizes.clear()
    parts = Evaluator(model=model, batch=batch)
    # Float64, only the order of sums differs.
    torch.testing.assert_close(parts.logits(x), logits, rtol=0, atol=1e-12)
    found, also = parts.gradients(x, TARGET)
    torch.testing.assert_close(found, maps, rtol=0, atol=1e-12)
    torch.testing.assert_close(also, seen, rtol=0, atol=1e-12)
    torch.testing.assert_close(parts.margin_gradients(x, TARGET), margins, rtol=0, atol=1e-12)
    assert max(model.sizes) == min(batch, 7)
    assert sum(model.sizes) == 21


def test_gradients_equal_finite_differences():
    model, x = Watched().requires_grad_(False), images()
    maps, logits = Evaluator(model=model, batch=4).gradients(x, TARGET)
    for image, label, gradient in zip(x, TARGET.tolist(), maps, strict=True):
        expected = differences(lambda p, c=label: model(p[None])[0, c], image)
        # Truncation and rounding are both about 1e-10 at h = 1e-5.
        torch.testing.assert_close(gradient, expected, rtol=1e-7, atol=1e-9)
    torch.testing.assert_close(logits, model(x))


def test_margin_gradients_equal_finite_differences():
    model, x = Watched().requires_grad_(False), images()
    found = Evaluator(model=model, batch=4).margin_gradients(x, TARGET)

    def margin(image: Tensor, label: int) -> Tensor:
        values = model(image[None])[0]
        return values[label] - max(v for c, v in enumerate(values) if c != label)

    for image, label, gradient in zip(x, TARGET.tolist(), found, strict=True):
        expected = differences(lambda p, c=label: margin(p, c), image)
        torch.testing.assert_close(gradient, expected, rtol=1e-7, atol=1e-9)
    labels = model(x).argmax(dim=1)
    assert (labels == TARGET).any()
    assert (labels != TARGET).any()


def test_evaluations_are_counted_by_probe_and_announced():
    costs: list[float] = []
    meter = Meter(watch=costs.append)
    model, x = Watched(), images()
    one = Evaluator(model=model, batch=2, probe="attack", meter=meter)
    other = Evaluator(model=model, batch=2, probe="twin", meter=meter)
    one.logits(x)
    one.gradients(x, TARGET)
    one.margin_gradients(x[:2], TARGET[:2])
    other.gradients(x[:3], TARGET[:3])
    assert meter.forwards == {"attack": 7, "twin": 0}
    assert meter.gradients == {"attack": 9, "twin": 3}
    assert costs == pytest.approx([7 / 3, 7, 2, 3])


def test_evaluators_do_not_share_a_meter_by_accident():
    model = Watched()
    Evaluator(model=model, batch=2).logits(images())
    assert Evaluator(model=model, batch=2).meter.forwards == {}


def test_inputs_and_parameters_are_left_alone():
    model, x = Watched(), images()
    before = x.clone()
    evaluator = Evaluator(model=model, batch=3)
    with torch.no_grad():  # gradients are taken whatever the caller's mode
        maps, logits = evaluator.gradients(x, TARGET)
        margins = evaluator.margin_gradients(x, TARGET)
    assert torch.equal(x, before)
    assert not x.requires_grad
    for result in (maps, logits, margins, evaluator.logits(x)):
        assert not result.requires_grad
    assert all(p.grad is None for p in model.parameters())


class Inplace(nn.Module):
    """A careless model that changes its input."""

    def forward(self, x: Tensor) -> Tensor:
        return (x * 1).relu_().flatten(1)[:, :2]


def test_a_model_that_works_in_place_is_fine():
    x = images(3) - 0.5
    maps, _ = Evaluator(model=Inplace(), batch=2).gradients(x, torch.zeros(3, dtype=torch.int64))
    assert torch.equal(maps.flatten(1)[:, 0], (x.flatten(1)[:, 0] > 0).double())


def test_differencing_is_the_hessian_product_up_to_its_length_squared():
    evaluator = Evaluator(model=Watched(), batch=4)
    x, v = images(), torch.randn(images().shape, dtype=torch.float64)
    v[2] = 0
    exact = evaluator.pullbacks(x, TARGET, v)
    errors = []
    for length in (2e-2, 1e-2):
        found = evaluator.differencing(torch.full((7,), length)).pullbacks(x, TARGET, v)
        assert not found[2].any()
        errors.append((found - exact).norm())
    assert errors[0] < 1e-3 * exact.norm()
    assert 3.5 < errors[0] / errors[1] < 4.5


def test_lengths_belong_to_images_with_all_their_points():
    evaluator = Evaluator(model=Watched(), batch=4)
    x, v = images(6), torch.randn(images(6).shape, dtype=torch.float64)
    target, lengths = TARGET[:6], torch.tensor([0.1, 0.3])
    together = evaluator.differencing(lengths).pullbacks(x, target, v)
    apart = [
        evaluator.differencing(lengths[i : i + 1]).pullbacks(x[part], target[part], v[part])
        for i, part in enumerate((slice(0, 3), slice(3, 6)))
    ]
    torch.testing.assert_close(together, torch.cat(apart))
