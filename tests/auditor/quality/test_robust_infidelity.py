from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from auditor.attributions import Custom, Method, SimpleGrad
from auditor.evaluation import Evaluator
from auditor.perturbations import NoisyBaseline, SquareRemoval, UniformNoise
from auditor.quality.infidelity import Infidelity
from auditor.quality.robust_infidelity import RobustInfidelity
from auditor.quality.scores import NOT_FINITE

IMAGES = (0, 1, 2, 3, 4, 5)
NOISE = NoisyBaseline(seed=1)
SQUARES = SquareRemoval(seed=1, smallest=1, largest=5)

Curve = Callable[[Tensor], Tensor]
"""A function of one pixel."""


class Pixel(nn.Module):
    """One logit, a function of the only pixel."""

    def __init__(self, curve: Curve) -> None:
        super().__init__()
        self.curve = curve

    def forward(self, x: Tensor) -> Tensor:
        return self.curve(x.flatten(1))


@dataclass(frozen=True)
class Given:
    """Perturbed images x − I for the same few I (draws,), which the test knows."""

    change: Tensor
    name: str = "given"

    def draw(self, x: Tensor, images: Sequence[int], *, first: int, count: int) -> Tensor:
        return x[:, None] - self.change[first : first + count].reshape(1, -1, 1, 1, 1)


def explanation(curve: Curve) -> Method:
    return Custom(function=lambda model, x, target: curve(x), name="curve")


def measured(f: Curve, phi: Curve, change: Tensor, *, seed: int) -> tuple[float, float, float]:
    """RINFD, its bound, and A − B(x) − B(x−I), for one pixel at .5."""
    metric = RobustInfidelity(perturbation=Given(change), seed=seed, shifts=30, draws=len(change))
    x, target = torch.full((1, 1, 1, 1), 0.5, dtype=torch.float64), torch.zeros(1, dtype=torch.long)
    evaluator = Evaluator(model=Pixel(f), batch=8)
    found = metric(evaluator, explanation(phi), x, target, images=(0,))
    a, b, c = (found.details[f"rinfd_{of}_given"] for of in ("map", "model", "model_perturbed"))
    rinfd, bound = (found.values[f"{name}_given"].item() for name in ("rinfd", "rinfd_bound"))
    return rinfd, bound, (a - b - c).item()


def brute_force(f: Curve, phi: Curve, change: Tensor) -> tuple[float, float]:
    """RINFD and A − B(x) − B(x−I) by the definitions, over a dense grid of shifts."""
    x, u = torch.tensor(0.5).double(), torch.linspace(-0.1, 0.1, 4001).double()
    told, clean = phi(x + u)[:, None] * change, phi(x) * change
    after, before = f(x + u[:, None] - change), f(x - change)
    infidelity = (told - (f(x + u)[:, None] - after)).square().mean(dim=1)
    of_map = (told - clean).abs().mean(dim=1).max()
    of_model = (f(x + u) - f(x)).abs().max() + (after - before).abs().mean(dim=1).max()
    return infidelity.max().item(), (of_map - of_model).item()


def wave(amplitude: float, frequency: float, slope: float) -> Curve:
    return lambda x: amplitude * torch.sin(frequency * x) + slope * x


size = st.floats(-3, 3, allow_subnormal=False)
rate = st.floats(0.1, 40)
waves = st.tuples(size, rate, size)
changes = st.lists(st.floats(-1, 1, allow_subnormal=False), min_size=1, max_size=4)


@settings(deadline=None)
@given(f=waves, phi=waves, change=changes, seed=st.integers(0, 99))
def test_the_corrected_bound_holds_and_the_values_are_those_of_brute_force(f, phi, change, seed):
    f, phi, change = wave(*f), wave(*phi), torch.tensor(change).double()
    truth, margin = brute_force(f, phi, change)
    # Float64, values of order 100.
    assert max(0.0, margin) ** 2 / 4 <= truth * (1 + 1e-9) + 1e-9
    rinfd, bound, drawn = measured(f, phi, change, seed=seed)
    assert bound == pytest.approx(max(0.0, drawn) ** 2 / 4, rel=1e-12)
    assert bound <= rinfd * (1 + 1e-9) + 1e-9
    # The root is a norm that changes by at most (1 + 2)·123 a unit of u: slopes are below 123. The
    # nearest point of the grid is 2.5e-5 away.
    assert math.sqrt(rinfd) <= math.sqrt(truth) + 369 * 2.5e-5


# The published bound, (A − B(x) − B(x−I))²/4, by (f, Φ, I): where the model moves more than its
# map, it grows with the model's sensitivity, which has nothing to do with infidelity.
REFUTED = {
    "a linear model and its gradient": (lambda x: 3 * x, lambda x: 3 + 0 * x, (0.5, -0.2)),
    "a wave and almost its integrated gradient": (
        lambda x: torch.sin(20 * x),
        lambda x: (torch.sin(20 * x) - torch.sin(20 * (x - 0.01))) / 0.01,
        (0.01,),
    ),
}


@pytest.mark.parametrize("case", REFUTED)
def test_the_published_bound_fails_where_the_model_moves_more_than_the_map(case):
    f, phi, change = REFUTED[case]
    change = torch.tensor(change).double()
    truth, margin = brute_force(f, phi, change)
    assert margin < 0
    assert margin**2 / 4 > truth + 0.01
    rinfd, bound, _ = measured(f, phi, change, seed=0)
    assert bound == 0 <= rinfd <= truth + 1e-12


def test_the_published_bound_fails_only_where_the_map_moves_less():
    generator = torch.Generator().manual_seed(0)
    failed, checked = 0, 0
    for _ in range(200):
        numbers = torch.rand(2, 3, generator=generator, dtype=torch.float64)
        scale = torch.tensor([3.0, 40, 3]).double()
        f, phi = (wave(*row.tolist()) for row in numbers * scale)
        change = torch.rand(3, generator=generator, dtype=torch.float64)
        truth, margin = brute_force(f, phi, change)
        checked += margin > 0
        if margin**2 / 4 > truth:
            failed += 1
            assert margin < 0
    assert failed >= 5
    assert checked >= 5


def test_a_moving_map_of_a_flat_model_meets_the_bound():
    # f = 0, I = 1 and Φ(.5) = 0: the infidelity is Φ², and A = max |Φ| is almost sin(1).
    rinfd, bound, margin = measured(
        lambda x: 0 * x, lambda x: torch.sin(10 * (x - 0.5)), torch.ones(1).double(), seed=0
    )
    assert 0.9 * math.sin(1) < margin <= math.sin(1)
    assert rinfd == pytest.approx(margin**2)
    assert bound == pytest.approx(margin**2 / 4)


@pytest.mark.parametrize("perturbation", [NOISE, SQUARES], ids=repr)
def test_is_the_worst_infidelity_around_the_image(perturbation, evaluator, maps, pictures, target):
    metric = RobustInfidelity(perturbation=perturbation, seed=3, shifts=4, draws=30)
    found = metric(evaluator, SimpleGrad(), pictures, target, images=IMAGES, maps=maps)
    plain = Infidelity(perturbation=perturbation, draws=30)

    class Shifted:
        """Keeps I = x − x′ of the image at x + u."""

        name = perturbation.name

        def draw(self, y: Tensor, images: Sequence[int], *, first: int, count: int) -> Tensor:
            drawn = perturbation.draw(pictures, images, first=first, count=count)
            return y[:, None] - (pictures[:, None] - drawn)

    name = perturbation.name
    clean = plain(evaluator, maps, pictures, target, images=IMAGES).values[f"infd_{name}"]
    each = [clean]
    noise = UniformNoise(seed=3, radius=0.1, clip=True)
    for shift in range(4):
        y = noise.draw(pictures, IMAGES, first=shift, count=1)[:, 0]
        moved, _ = evaluator.gradients(y, target)
        there = Infidelity(perturbation=Shifted(), draws=30)
        each.append(there(evaluator, moved, y, target, images=IMAGES).values[f"infd_{name}"])
    # Float32 logits of order 10.
    torch.testing.assert_close(
        found.values[f"rinfd_{name}"], torch.stack(each).amax(dim=0), rtol=1e-4, atol=1e-5
    )
    assert (found.values[f"rinfd_bound_{name}"] <= found.values[f"rinfd_{name}"]).all()
    assert (found.values[f"rinfd_{name}"] >= clean - 1e-5).all()
    assert found.units == dict.fromkeys(found.values, "logit²")


def test_the_published_bound_fails_on_a_trained_network_too(evaluator, maps, pictures, target):
    metric = RobustInfidelity(perturbation=SQUARES, seed=3, shifts=8, draws=30)
    found = metric(evaluator, SimpleGrad(), pictures, target, images=IMAGES, maps=maps)
    a, b, c = (found.details[f"rinfd_{of}_squares"] for of in ("map", "model", "model_perturbed"))
    published = (a - b - c).square() / 4
    assert (published > found.values["rinfd_squares"]).any()
    assert (found.values["rinfd_bound_squares"] <= found.values["rinfd_squares"]).all()


def test_global_maps_are_those_divided_by_their_image(evaluator, pictures, target):
    metric = RobustInfidelity(perturbation=SQUARES, seed=3, shifts=3, draws=20)
    x = pictures.clone()
    x[:, :, 3] = 0  # black pixels: nothing to divide by

    def times_input(model: nn.Module, x: Tensor, target: Tensor) -> Tensor:
        return x * evaluator.gradients(x, target)[0]

    global_ = Custom(function=times_input, name="grad_x_input")
    local = metric(evaluator, SimpleGrad(), x, target, images=IMAGES)
    found = metric(evaluator, global_, x, target, images=IMAGES, times_input=True)
    # Removal changes nothing at a black pixel, but a shift of it does not count either.
    torch.testing.assert_close(
        found.values["rinfd_squares"], local.values["rinfd_squares"], rtol=1e-4, atol=1e-4
    )


def test_batches_and_company_do_not_matter(model, pictures, target):
    metric = RobustInfidelity(perturbation=NOISE, seed=3, shifts=3, draws=7)
    whole = metric(Evaluator(model=model, batch=42), SimpleGrad(), pictures, target, images=IMAGES)
    rows = [4, 1]
    part = metric(
        Evaluator(model=model, batch=5),
        SimpleGrad(),
        pictures[rows],
        target[rows],
        images=[IMAGES[row] for row in rows],
    )
    for name, value in whole.values.items():
        # The network's float32 sums depend on the batch.
        torch.testing.assert_close(part.values[name], value[rows], rtol=1e-3, atol=1e-4)


def test_broken_maps_have_no_value_and_broken_shifts_are_counted(evaluator, maps, pictures, target):
    metric = RobustInfidelity(perturbation=SQUARES, seed=3, shifts=5, draws=10)
    maps = maps.clone()
    maps[1, 0, 0, 0] = torch.inf
    maps[2] = 0

    def breaks(model: nn.Module, x: Tensor, target: Tensor) -> Tensor:
        found = evaluator.gradients(x, target)[0]
        found[x[:, 0, 0, 0] > pictures[:, 0, 0, 0]] = torch.nan
        return found

    unlucky = Custom(function=breaks, name="breaks")
    found = metric(evaluator, unlucky, pictures, target, images=IMAGES, maps=maps)
    for value in found.values.values():
        assert value.isnan().tolist() == [False, True] + [False] * 4
    assert found.undefined[NOT_FINITE].tolist() == [False, True] + [False] * 4
    noise = UniformNoise(seed=3, radius=0.1, clip=True)
    brighter = noise.draw(pictures, IMAGES, first=0, count=5)[:, :, 0, 0, 0] > pictures[:, :, 0, 0]
    expected = brighter[:, :].sum(dim=1)
    expected[1] = 5
    assert 0 < expected[0] < 5
    assert found.skipped[NOT_FINITE].tolist() == expected.tolist()
