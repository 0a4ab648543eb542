from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import auditor
from auditor.attributions import SimpleGrad
from auditor.capabilities import Ability, Capabilities
from auditor.evaluation import Evaluator
from auditor.perturbations import UniformNoise
from auditor.quality.representation import last_linear
from auditor.quality.scores import CHANGED, NO_DRAW, NOT_FINITE, ZERO_MAP
from auditor.quality.stability import NO_LOGARITHM, RelativeStability

IMAGES = (0, 1, 2, 3, 4, 5)
GRADIENT = SimpleGrad()
RELATIVE = ("ris", "ros", "rrs")


class Tanh(nn.Module):
    """A smooth network in float64, so that its maps change with every draw."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.features = nn.Sequential(
                nn.Conv2d(1, 4, 3, stride=2), nn.Tanh(), nn.Flatten(), nn.Linear(100, 8)
            )
            self.head = nn.Linear(8, 10)
        self.double().requires_grad_(False)
        self.features[0].weight.mul_(4)
        self.features[3].weight.mul_(4)
        self.head.bias.zero_()  # so that several classes are close

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.tanh(self.features(x)))


@pytest.fixture
def smooth(pictures: Tensor) -> tuple[Evaluator, Tensor, Tensor]:
    """A smooth network, digits in float64, and the predicted classes."""
    x, evaluator = pictures.double(), Evaluator(model=Tanh(), batch=16)
    return evaluator, x, evaluator.logits(x).argmax(dim=1)


def relative(before: Tensor, after: Tensor, floor: float = 1e-6) -> Tensor:
    before, after = before.double().flatten(1), after.double().flatten(1)
    return ((before - after) / before.where(before != 0, floor)).norm(dim=1)


def written_anew(
    evaluator: Evaluator, x: Tensor, target: Tensor, settings: RelativeStability
) -> dict[str, Tensor]:
    """The definition, one draw at a time; nothing of it is shared with the code under test."""
    noise = UniformNoise(seed=settings.seed, radius=settings.radius, clip=False)
    ys = noise.draw(x, IMAGES, first=0, count=settings.draws).unbind(dim=1)
    model = evaluator.model
    maps, logits = evaluator.gradients(x, target)
    hidden = torch.tanh(model.features(x))
    found: dict[str, list[Tensor]] = {name: [] for name in RELATIVE}
    for y in ys:
        moved, after = evaluator.gradients(y, target)
        change = relative(maps, moved)
        lost = after.argmax(dim=1) != logits.argmax(dim=1)
        for name, gap in (
            ("ris", relative(x, y)),
            ("ros", (after - logits).norm(dim=1)),
            ("rrs", relative(hidden, torch.tanh(model.features(y)))),
        ):
            found[name].append((change / gap.clamp_min(1e-6)).masked_fill(lost, -torch.inf))
    return {name: torch.stack(values).amax(dim=0) for name, values in found.items()}


def test_equals_the_definition(smooth):
    evaluator, x, target = smooth
    settings = RelativeStability(seed=4, draws=12, radius=0.1)
    found = settings(evaluator, GRADIENT, x, target, images=IMAGES)
    expected = written_anew(evaluator, x, target, settings)
    assert found.skipped[CHANGED].sum() > 0  # so that skipping is tested
    for name, value in expected.items():
        torch.testing.assert_close(found.values[name], value)
        torch.testing.assert_close(found.values[f"log10_{name}"], value.log10())


def quantus() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import quantus

        return quantus


def test_agrees_with_quantus_on_shared_perturbations(smooth):
    """Where no draw changes the prediction: there Quantus returns NaN for the whole image."""
    evaluator, x, target = smooth
    settings = RelativeStability(seed=4, draws=8, radius=0.02)
    ys = UniformNoise(seed=4, radius=0.02, clip=False).draw(x, IMAGES, first=0, count=8)
    found = settings(evaluator, GRADIENT, x, target, images=IMAGES)
    steady = found.skipped[CHANGED] == 0
    assert steady.sum() >= 3
    peer = quantus()

    def explain(model: nn.Module, inputs: Any, targets: Any, **_: Any) -> np.ndarray:
        return evaluator.gradients(torch.as_tensor(inputs).double(), target)[0].numpy()

    network = PassDouble(evaluator.model).eval()
    for name, kind, settings_of_it in (
        ("ris", "RelativeInputStability", {}),
        ("ros", "RelativeOutputStability", {}),
        ("rrs", "RelativeRepresentationStability", {"layer_names": ["hidden"]}),
    ):
        draws = iter(ys.unbind(dim=1))
        metric = getattr(peer, kind)(
            nr_samples=8,
            perturb_func=lambda arr, indices, draws=draws, **_: next(draws).flatten(1).numpy(),
            disable_warnings=True,
            **settings_of_it,
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            theirs = metric(network, x.numpy(), target.numpy(), explain_func=explain, batch_size=6)
        # Quantus passes float32 images to the network; differences of logits lose most.
        np.testing.assert_allclose(
            found.values[name][steady], np.array(theirs)[steady.numpy()], rtol=2e-3
        )


class PassDouble(nn.Module):
    """Quantus gives float32 images and reads hooks of named layers."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model, self.hidden = model, nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.model.head(self.hidden(torch.tanh(self.model.features(x.double()))))


def test_one_changed_prediction_makes_quantus_nan_and_is_counted_here(smooth):
    """The trap of design section 4: the maximum over draws with a NaN is NaN."""
    evaluator, x, target = smooth
    settings = RelativeStability(seed=4, draws=12, radius=0.1)
    found = settings(evaluator, GRADIENT, x, target, images=IMAGES)
    changed = found.skipped[CHANGED] > 0
    assert changed.any()
    assert found.values["ris"].isfinite().all()
    ys = UniformNoise(seed=4, radius=0.1, clip=False).draw(x, IMAGES, first=0, count=12)
    draws = iter(ys.unbind(dim=1))
    metric = quantus().RelativeInputStability(
        nr_samples=12,
        perturb_func=lambda arr, indices, **_: next(draws).flatten(1).numpy(),
        disable_warnings=True,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = metric(
            PassDouble(evaluator.model).eval(),
            x.numpy(),
            target.numpy(),
            explain_func=lambda model, inputs, targets, **_: evaluator.gradients(
                torch.as_tensor(inputs).double(), target
            )[0].numpy(),
        )
    assert np.isnan(theirs).tolist() == changed.tolist()


@given(st.integers(1, 40), st.lists(st.integers(0, 5), min_size=1, max_size=6, unique=True))
def test_batches_and_company_do_not_matter(model, pictures, target, batch, rows):
    settings = RelativeStability(seed=4, draws=7)
    whole = settings(Evaluator(model=model, batch=42), GRADIENT, pictures, target, images=IMAGES)
    part = settings(
        Evaluator(model=model, batch=batch),
        GRADIENT,
        pictures[rows],
        target[rows],
        images=[IMAGES[row] for row in rows],
    )
    assert part.skipped[CHANGED].equal(whole.skipped[CHANGED][rows])
    for name, value in whole.values.items():
        # Float32 gradients of other batches, divided by pixels of the map that are near zero.
        torch.testing.assert_close(
            part.values[name], value[rows], rtol=1e-2, atol=1e-2, equal_nan=True
        )


def test_every_evaluation_is_shared_and_skipped_draws_are_not_explained(smooth):
    evaluator, x, target = smooth
    settings = RelativeStability(seed=4, draws=12, radius=0.1)
    found = settings(evaluator, GRADIENT, x, target, images=IMAGES)
    evaluator.meter.gradients.clear()
    evaluator.meter.forwards.clear()
    settings(evaluator, GRADIENT, x, target, images=IMAGES)
    kept = 6 * 12 - int(found.skipped[CHANGED].sum())
    assert evaluator.meter.gradients == {"audit": 6 + kept}
    assert evaluator.meter.forwards == {"audit": 1 + 6 + 6 * 12}  # the first finds the layer


def test_images_without_a_value_are_counted(smooth):
    evaluator, x, target = smooth
    clean, _ = evaluator.gradients(x, target)
    clean[0], clean[1, 0, 0, 0] = 0, torch.nan
    settings = RelativeStability(seed=4, draws=3, radius=0.002)
    found = settings(evaluator, GRADIENT, x, target, images=IMAGES, maps=clean)
    assert found.undefined[ZERO_MAP].tolist() == [True] + [False] * 5
    assert found.undefined[NOT_FINITE].tolist() == [False, True] + [False] * 4
    for value in found.values.values():
        assert value.isnan().tolist() == [True, True] + [False] * 4


def test_an_image_whose_draws_all_change_the_prediction_has_no_value(pictures):
    class Unsteady(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            known = (x[:, None] - pictures.double()).abs().flatten(2).amax(dim=2) == 0
            changed = known.any(dim=1)[:, None]
            total = x.flatten(1).pow(2).sum(dim=1, keepdim=True)
            return torch.cat([total * changed, total * ~changed], dim=1)

    x, target = pictures.double(), torch.zeros(6, dtype=torch.long)
    found = RelativeStability(seed=0, draws=3)(
        Evaluator(model=Unsteady(), batch=9), GRADIENT, x, target, images=IMAGES
    )
    assert found.skipped[CHANGED].tolist() == [3] * 6
    assert found.undefined[NO_DRAW].all()
    assert found.values["ris"].isnan().all()


def test_a_map_that_never_changes_has_no_logarithm(pictures, target):
    model = nn.Sequential(nn.Flatten(), nn.Linear(144, 10)).double().requires_grad_(False)
    evaluator, x = Evaluator(model=model, batch=9), pictures.double()
    target = evaluator.logits(x).argmax(dim=1)
    found = RelativeStability(seed=0, draws=3)(evaluator, GRADIENT, x, target, images=IMAGES)
    for name in RELATIVE:
        assert (found.values[name] == 0).all()
        assert found.values[f"log10_{name}"].isnan().all()
    assert found.undefined[NO_LOGARITHM].all()
    assert not found.undefined[NO_DRAW].any()


class Fixed:
    """The map is the image: one black pixel of it has nothing to divide by."""

    name = "fixed"

    def __call__(
        self, evaluator: Evaluator, x: Tensor, target: Tensor, *, images: Sequence[int], draw: int
    ) -> tuple[Tensor, Tensor]:
        return x, evaluator.logits(x)


def test_a_zero_pixel_is_guarded(smooth):
    evaluator, x, target = smooth
    x, settings = x.clone(), RelativeStability(seed=4, draws=5, radius=0.002)
    found = settings(evaluator, Fixed(), x, target, images=IMAGES)
    torch.testing.assert_close(found.values["ris"], torch.ones(6).double())  # map = image
    x[:, :, 0, 0] = 0
    found = settings(evaluator, Fixed(), x, target, images=IMAGES)
    torch.testing.assert_close(found.values["ris"], torch.ones(6).double())
    assert (found.values["rrs"] > 100).all()  # up to .002 over 1e-6 in one pixel


@pytest.mark.parametrize(
    ("build", "reason"),
    [
        (lambda: lambda x: x.flatten(1)[:, :2], "a function"),
        (lambda: nn.Sequential(nn.Conv2d(1, 3, 12), nn.Flatten()), "calls no linear layer"),
        (
            lambda: nn.Sequential(nn.Flatten(), nn.Unflatten(1, (12, 12)), Rows()),
            "not called once for each image",
        ),
    ],
    ids=["function", "convolution", "rows"],
)
def test_without_a_linear_layer_only_rrs_is_missing(build, reason, pictures):
    model = build()
    if isinstance(model, nn.Module):
        model.requires_grad_(False)
    evaluator = Evaluator(model=model, batch=9)
    target = evaluator.logits(pictures).argmax(dim=1)
    found = RelativeStability(seed=0, draws=3)(evaluator, Fixed(), pictures, target, images=IMAGES)
    assert set(found.values) == {"ris", "ros", "log10_ris", "log10_ros"}
    assert set(found.unavailable) == {"rrs", "log10_rrs"}
    assert all(reason in text for text in found.unavailable.values())


class Rows(nn.Module):
    """A linear layer over the rows of all images, as windowed attention has them."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x.flatten(0, 1)).reshape(len(x), -1)


def test_a_format_without_layers_says_so(networks, pictures):
    wrapped = auditor.from_network(networks[0], input_shape=(1, 12, 12), mean=[0.0], std=[1.0])
    found = last_linear(Evaluator(model=wrapped, batch=9), pictures)
    assert found.layer is wrapped.network[-1]
    wrapped.capabilities = dataclasses.replace(
        Capabilities(), layers=Ability(able=False, reason="this format hides its layers.")
    )
    found = last_linear(Evaluator(model=wrapped, batch=9), pictures)
    assert found.layer is None
    assert found.reason == "this format hides its layers."


def test_hooks_are_taken_away(smooth):
    evaluator, x, target = smooth
    RelativeStability(seed=0, draws=2)(evaluator, GRADIENT, x, target, images=IMAGES)
    assert not any(module._forward_pre_hooks for module in evaluator.model.modules())
