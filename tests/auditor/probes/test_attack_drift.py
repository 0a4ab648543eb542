from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from attacks import Clean, overlap
from auditor.attributions import FRESH, SEARCH, SELECT, SHOWN, Noise
from auditor.evaluation import Evaluator
from auditor.metrics.drift import UNITS, Reference
from auditor.probes.attack_drift import AttackBudget, attack_drift, search
from auditor.probes.subject import CleanMaps, Subject, clean_maps
from auditor.records import Key, Records

SHAPE = (1, 12, 12)  # larger than the window of ssim
K = 8
PLAIN = AttackBudget(gradients=34, search_samples=1, select_samples=1, samples=1)
NOISY = AttackBudget(gradients=60, search_samples=3, select_samples=5, samples=12)


def network(seed: int) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = nn.Sequential(
            nn.Conv2d(1, 8, 3),
            nn.ReLU(),
            nn.AvgPool2d(2),
            nn.Conv2d(8, 12, 3),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(108, 5),
        )
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(2)
    return model.requires_grad_(False)


def subject(model: nn.Module, count: int = 5) -> Subject:
    x = torch.rand(count, *SHAPE, generator=torch.Generator().manual_seed(2))
    target = model(x).argmax(dim=1)
    return Subject(x=x, target=target, images=tuple(range(10, 10 + count)), k=K, seed=4)


def evaluator(model: nn.Module) -> Evaluator:
    return Evaluator(model=model, batch=64, probe="attack")


def value(records: Records, metric: str, **condition: object) -> np.ndarray:
    return records[Key(probe="attack", metric=metric, **condition)]  # type: ignore[arg-type]


def test_rows_of_the_unsmoothed_map():
    model = network(0)
    images, run = subject(model), evaluator(model)
    maps = clean_maps(run, images, sigma=0, samples=1)
    records, deltas = attack_drift(
        run, images, maps, sigma=0.0, epsilons=(2.0, 8.0, 16.0), budget=PLAIN, transfer={}
    )
    names = {*UNITS, "topk_intersection_common", "infeasible"}
    assert {(k.sigma, k.epsilon, k.attack, k.metric) for k in records} == set(
        itertools.product((0.0,), (2.0, 8.0, 16.0), ("strongest", "topk", "random_signs"), names)
    )
    assert all(values.shape == (5,) for values in records.values())
    assert list(deltas) == [2.0, 8.0, 16.0]
    for epsilon, delta in deltas.items():
        assert delta.abs().max() <= torch.tensor(epsilon / 255)
        moved = images.x + delta
        assert ((moved >= 0) & (moved <= 1)).all()
        assert torch.equal(model(moved).argmax(dim=1), images.target)
        drift = Reference(maps.shown, K).drift(run.gradients(moved, images.target)[0])
        for metric, expected in drift.items():
            found = value(records, metric, sigma=0.0, epsilon=epsilon, attack="strongest")
            np.testing.assert_array_equal(found, expected.numpy())


def test_a_larger_epsilon_is_never_safer_and_the_attack_beats_random_signs():
    model = network(0)
    images, run = subject(model, 8), evaluator(model)
    maps = clean_maps(run, images, sigma=0, samples=1)
    grid = (2.0, 8.0, 16.0)
    records, _ = attack_drift(
        run, images, maps, sigma=0.0, epsilons=grid, budget=PLAIN, transfer={}
    )
    rows = [
        value(records, "topk_intersection", sigma=0.0, epsilon=e, attack="strongest") for e in grid
    ]
    assert (rows[1] <= rows[0]).all()
    assert (rows[2] <= rows[1]).all()
    signs = value(records, "topk_intersection", sigma=0.0, epsilon=16.0, attack="random_signs")
    assert rows[2].mean() < signs.mean() - 0.1


def smoothed_audit(
    model: nn.Module, images: Subject, sigma: float = 0.1, budget: AttackBudget = NOISY
):
    run = evaluator(model)
    plain = clean_maps(run, images, sigma=0, samples=1)
    _, transfer = attack_drift(
        run, images, plain, sigma=0.0, epsilons=(8.0,), budget=PLAIN, transfer={}
    )
    maps = clean_maps(run, images, sigma=sigma, samples=budget.samples)
    records, deltas = attack_drift(
        run, images, maps, sigma=sigma, epsilons=(8.0,), budget=budget, transfer=transfer
    )
    return run, maps, records, deltas, transfer


def test_smoothed_maps_are_scored_with_fresh_noise_against_the_shown_map():
    model = network(1)
    images = subject(model)
    run, maps, records, deltas, transfer = smoothed_audit(model, images)
    assert {k.attack for k in records} == {"strongest", "topk", "transfer", "random_signs"}
    fresh = images.smoothed(sigma=0.1, samples=NOISY.samples, stream=FRESH)
    for attack, delta in (("strongest", deltas[8.0]), ("transfer", transfer[8.0])):
        moved, _ = fresh(run, images.x + delta, images.target, images=images.images, draw=0)
        where = {"sigma": 0.1, "epsilon": 8.0, "attack": attack}
        for metric, expected in Reference(maps.shown, K).drift(moved).items():
            np.testing.assert_array_equal(value(records, metric, **where), expected.numpy())
        common = Reference(maps.fresh, K).drift(moved)["topk_intersection"]
        np.testing.assert_array_equal(
            value(records, "topk_intersection_common", **where), common.numpy()
        )


def test_noise_is_searched_then_selected_then_scored(monkeypatch):
    """The streams in the order they are drawn; the noise that scores is not seen before."""
    model = network(1)
    images, run = subject(model), evaluator(model)
    maps = clean_maps(run, images, sigma=0.1, samples=NOISY.samples)
    drawn: list[tuple[int, int, int]] = []
    honest = Noise.draw

    def spy(noise: Noise, images, shape, *, first: int, count: int) -> Tensor:
        drawn.append((noise.stream, first, count))
        return honest(noise, images, shape, first=first, count=count)

    monkeypatch.setattr(Noise, "draw", spy)
    attack_drift(
        run,
        images,
        maps,
        sigma=0.1,
        epsilons=(8.0,),
        budget=NOISY,
        transfer={8.0: torch.zeros_like(images.x)},
    )
    order = [stream for stream, _ in itertools.groupby(drawn, key=lambda d: d[0])]
    # The transferred candidate is judged, then the search runs, then its candidates are judged.
    assert order == [SELECT, SEARCH, SELECT, FRESH]
    assert SHOWN not in order
    steps = {first // NOISY.search_samples for stream, first, _ in drawn if stream == SEARCH}
    assert steps == set(range(max(steps) + 1))
    for stream, samples in ((SELECT, NOISY.select_samples), (FRESH, NOISY.samples)):
        used = {(first, count) for s, first, count in drawn if s == stream}
        assert max(first + count for first, count in used) == samples


def test_transferred_perturbations_compete():
    """Under the noise that selects, the winner is at least as strong as the transfer."""
    model = network(1)
    images = subject(model, 10)
    strong = dataclasses.replace(NOISY, gradients=400)
    run, maps, _, transfer, _ = smoothed_audit(model, images, budget=strong)
    _, deltas = attack_drift(
        run, images, maps, sigma=0.1, epsilons=(8.0,), budget=NOISY, transfer=transfer
    )
    clean = Clean(maps=maps.shown, k=K)
    select = images.smoothed(sigma=0.1, samples=NOISY.select_samples, stream=SELECT)

    def selected(delta: Tensor) -> Tensor:
        moved, _ = select(run, images.x + delta, images.target, images=images.images, draw=0)
        return overlap(moved, clean.top)

    assert (selected(deltas[8.0]) <= selected(transfer[8.0])).all()
    wins = (deltas[8.0] == transfer[8.0]).flatten(1).all(dim=1)
    assert wins.sum() > 5


class Fragile(nn.Module):
    """Changes its mind as soon as one of the images is perturbed."""

    def __init__(self, clean: Tensor, fragile: int) -> None:
        super().__init__()
        self.body, self.clean, self.fragile = network(2), clean, fragile

    def forward(self, x: Tensor) -> Tensor:
        logits = self.body(x)
        near = (x - self.clean[self.fragile]).abs().flatten(1).amax(dim=1)
        moved = (near > 1e-4) & (near < 0.1)
        return torch.where(moved[:, None], logits.roll(1, 1), logits)


@pytest.mark.parametrize("sigma", [0.0, 0.05])
def test_images_that_lose_their_label_everywhere_are_excluded_at_every_epsilon(sigma):
    """Never a zero perturbation that would count as robust, not even as the next ε's candidate."""
    plain = subject(network(2))
    model = Fragile(plain.x, fragile=3)
    changed = model(plain.x + 0.01).argmax(dim=1) != plain.target
    assert changed.tolist() == [False, False, False, True, False]
    run = evaluator(model)
    maps = clean_maps(run, plain, sigma=sigma, samples=NOISY.samples)
    missing = torch.zeros_like(plain.x)
    missing[3] = torch.nan
    records, deltas = attack_drift(
        run,
        plain,
        maps,
        sigma=sigma,
        epsilons=(4.0, 8.0),
        budget=NOISY,
        transfer={4.0: missing, 8.0: missing},
    )
    for key, values in records.items():
        if key.metric == "infeasible":
            assert values.tolist() == [0, 0, 0, 1, 0], key
        else:
            assert np.isnan(values).tolist() == [False, False, False, True, False], key
    for delta in deltas.values():
        assert delta.flatten(1).isnan().all(dim=1).tolist() == [False, False, False, True, False]


class Bumps(nn.Module):
    """Class 0 wins by a constant; its gradient is zero outside of a half-space through x."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.register_buffer("weight", torch.randn(144, generator=generator))

    def forward(self, x: Tensor) -> Tensor:
        rise = torch.relu((x.flatten(1) - 0.5) @ self.weight + 0.01)
        return torch.stack([5 + rise, torch.zeros_like(rise)], dim=1)


def test_a_map_that_is_turned_to_zeros_keeps_nothing():
    model = Bumps()
    x = torch.full((6, *SHAPE), 0.5)
    images = Subject(
        x=x, target=torch.zeros(6, dtype=torch.int64), images=tuple(range(6)), k=K, seed=0
    )
    run = evaluator(model)
    maps = clean_maps(run, images, sigma=0, samples=1)
    records, deltas = attack_drift(
        run, images, maps, sigma=0.0, epsilons=(8.0,), budget=PLAIN, transfer={}
    )
    where = {"sigma": 0.0, "epsilon": 8.0}
    moved, _ = run.gradients(x + deltas[8.0], images.target)
    gone = (moved == 0).flatten(1).all(dim=1)
    assert gone.any()
    for metric in ("topk_intersection", "topk_intersection_common", "topk_iou", "topk_mass"):
        found = value(records, metric, attack="strongest", **where)
        # Where it is not zero the map is the clean one.
        assert ((found == 0) == gone.numpy()).all()
        assert np.isfinite(found).all()
        # Half of the random signs leave the half-space too.
        signs = value(records, metric, attack="random_signs", **where)
        assert 0 < (signs == 0).sum() < 6
        assert np.isfinite(signs).all()
    spearman = value(records, "spearman", attack="strongest", **where)
    assert (np.isnan(spearman) == gone.numpy()).all()
    assert (value(records, "infeasible", attack="strongest", **where) == 0).all()


def test_a_clean_map_of_zeros_is_no_drift():
    """Where there was no map there is nothing to keep: undefined, not zero."""
    images = Subject(
        x=torch.full((2, *SHAPE), 0.5),
        target=torch.zeros(2, dtype=torch.int64),
        images=(0, 1),
        k=K,
        seed=0,
    )
    zero = torch.zeros(2, *SHAPE)
    records, _ = attack_drift(
        evaluator(Bumps()),
        images,
        CleanMaps(shown=zero, fresh=zero, kept=torch.ones(2)),
        sigma=0.0,
        epsilons=(8.0,),
        budget=PLAIN,
        transfer={},
    )
    found = value(records, "topk_intersection", sigma=0.0, epsilon=8.0, attack="strongest")
    assert np.isnan(found).all()


def test_results_belong_to_the_image_not_to_the_batch():
    """At least 9 of 10 images agree exactly: float32 rounding may flip a tie or cross a kink."""
    model = network(3)
    images, run = subject(model, 10), evaluator(model)
    together = search(
        run,
        images,
        Clean(maps=clean_maps(run, images, sigma=0, samples=1).shown, k=K),
        sigma=0.0,
        epsilons=(4.0, 8.0),
        budget=PLAIN,
    )["strongest"][8.0]
    same = 0
    for row in range(10):
        one = Subject(
            x=images.x[[row]],
            target=images.target[[row]],
            images=(images.images[row],),
            k=K,
            seed=images.seed,
        )
        clean = Clean(maps=clean_maps(run, one, sigma=0, samples=1).shown, k=K)
        alone = search(run, one, clean, sigma=0.0, epsilons=(4.0, 8.0), budget=PLAIN)
        delta = alone["strongest"][8.0]
        scores = [
            overlap(run.gradients(one.x + d, one.target)[0], clean.top)
            for d in (delta, together[[row]])
        ]
        same += bool(torch.equal(*scores))
    assert same >= 9


def test_a_doubled_budget_has_twice_the_gradients_only():
    doubled = NOISY.doubled()
    assert doubled.gradients == 2 * NOISY.gradients
    assert (doubled.search_samples, doubled.select_samples, doubled.samples) == (3, 5, 12)


@pytest.mark.parametrize("sigma", [0.0, 0.1])
def test_other_aims_reach_further_than_random_signs_and_compete(sigma):
    """Mass-center and manipulation, at the ε asked for alone; both are candidates of strongest."""
    model = network(0)
    images, run = subject(model, 8), evaluator(model)
    budget = dataclasses.replace(NOISY, gradients=160) if sigma else PLAIN
    maps = clean_maps(run, images, sigma=sigma, samples=budget.samples)
    wanted = maps.shown.abs().sum(dim=1).roll(1, dims=0)
    wanted[2] = torch.nan
    _, plain = attack_drift(
        run, images, maps, sigma=0.0, epsilons=(4.0, 16.0), budget=PLAIN, transfer={}
    )
    records, _ = attack_drift(
        run,
        images,
        maps,
        sigma=sigma,
        epsilons=(4.0, 16.0),
        budget=budget,
        transfer=plain,
        wanted=wanted,
        aimed=(16.0,),
    )
    aims = {(k.attack, k.epsilon) for k in records} - {
        (attack, epsilon)
        for attack in ("strongest", "topk", "random_signs", "transfer")
        for epsilon in (4.0, 16.0)
    }
    assert aims == {("mass_center", 16.0), ("manipulation", 16.0)}
    at = {"sigma": sigma, "epsilon": 16.0}

    def mean(metric: str, attack: str) -> float:
        return float(np.nanmean(value(records, metric, attack=attack, **at)))

    assert mean("center_shift", "mass_center") > 1.2 * mean("center_shift", "random_signs")
    assert mean("target_cosine", "manipulation") > mean("target_cosine", "random_signs")
    reached = value(records, "target_cosine", attack="manipulation", **at)
    assert np.isnan(reached).tolist() == [False, False, True] + [False] * 5
    # An image without a target is not one that lost its label.
    assert value(records, "infeasible", attack="manipulation", **at).sum() == 0
    if sigma == 0:  # without noise the strongest is so image by image
        worst = value(records, "topk_intersection", attack="strongest", **at)
        for attack in ("topk", "mass_center", "manipulation"):
            other = value(records, "topk_intersection", attack=attack, **at)
            assert (worst <= np.nan_to_num(other, nan=1)).all(), attack
