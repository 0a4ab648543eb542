from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest
import torch
from rich.console import Console

import auditor
from attacks import overlap
from auditor.attack_result import GOALS, METRICS, STAGES, AttackResult
from auditor.attack_table import area_over_epsilon, transfer_table
from auditor.attributions import FRESH, SHOWN, SimpleGrad
from auditor.eight_bits import from_levels
from auditor.errors import InputError
from auditor.evaluation import Evaluator
from auditor.probes.natural import CHANGES, shifted_back
from auditor.probes.subject import Subject

FAST = {"budget": 40, "oracle": "difference"}


@pytest.fixture(scope="module")
def found(classifier, images):
    """The attack that most tests look at: the third image is misclassified."""
    return auditor.attack(classifier, images, epsilons=(16.0, 1.0, 4.5), **FAST)


def gradient_map(classifier, levels, target):
    """The plain map (1, C, H, W) of one image of levels, by autograd alone."""
    x = from_levels(torch.from_numpy(levels))[None].requires_grad_()
    return torch.autograd.grad(classifier(x)[0, target], x)[0]


def test_the_numbers_belong_to_the_files(classifier, found):
    """Recompute overlap, label and pixel error from the 8-bit images alone."""
    arrays = found.arrays
    assert [row.epsilon for row in found.rows] == [1.0, 4.5, 16.0]
    for index, row in enumerate(found.rows):
        for image, target in enumerate(found.predicted):
            value = row.values["eight_bits"]["topk_intersection"][image]
            if not arrays["kept"][index, image]:
                assert value is row.largest_change[image] is None
                continue
            clean, moved = arrays["clean"][image], arrays["perturbed"][index, image]
            change = np.abs(moved.astype(int) - clean)
            assert row.largest_change[image] == change.max() <= row.epsilon
            assert row.length[image] == pytest.approx(np.sqrt((change**2).sum()))
            assert classifier(from_levels(torch.from_numpy(moved))[None]).argmax() == target
            before, after = (gradient_map(classifier, x, target) for x in (clean, moved))
            # Batched and single convolutions differ by rounding, which moves ties by a pixel.
            k = found.k
            top = before.flatten().abs() >= before.flatten().abs().topk(k).values[-1]
            if int(top.sum()) == k:
                assert value == pytest.approx(float(overlap(after, top[None])), abs=1.01 / k)
            np.testing.assert_allclose(
                arrays["map_after"][index, image], after[0].numpy(), rtol=1e-4, atol=1e-5
            )


def test_it_moves_maps_farther_than_random_signs_and_more_with_epsilon(found):
    overlaps = [row.mean("eight_bits", "topk_intersection") for row in found.rows]
    assert overlaps == sorted(overlaps, reverse=True)
    last = found.rows[-1]
    assert overlaps[-1] < last.mean("random_signs", "topk_intersection")
    assert last.mean("attacked", "topk_intersection") <= overlaps[-1]
    for row in found.rows:
        assert row.mean("no_attack", "topk_intersection") == 1
        assert row.mean("no_attack", "center_shift") == 0


def test_no_image_is_reported_safer_at_a_larger_epsilon(found):
    """Also after rounding, where the search itself promises nothing."""
    for stage in ("attacked", "eight_bits"):
        columns = [row.values[stage]["topk_intersection"] for row in found.rows]
        for smaller, larger in itertools.pairwise(columns):
            for a, b in zip(smaller, larger, strict=True):
                # The batch of the final scoring differs: a tie may fall the other way.
                assert a is None or (b is not None and b <= a + 1.01 / found.k)


def test_misclassified_and_infeasible_are_counted_apart(classifier, found, images):
    assert (found.attacked, found.misclassified, found.no_target) == (11, 1, 0)
    for row in found.rows:
        for stage in STAGES:
            columns = row.values[stage]
            assert set(columns) == set(METRICS)
            known = [value is not None for value in columns["topk_intersection"]]
            assert known[2] is False
            assert sum(known) == 11 - row.infeasible[stage]
        assert row.winner[2] is None


def test_every_attack_carries_what_happens_when_nobody_attacks(classifier, found):
    """Recompute overlap and label from the clean 8-bit images alone."""
    assert [row.change for row in found.natural] == list(CHANGES)
    changed = 0
    for row in found.natural:
        assert set(row.values) == set(METRICS)
        lost = 0
        for image, target in enumerate(found.predicted):
            value = row.values["topk_intersection"][image]
            if not found.arrays["attacked"][image]:
                assert value is None
                continue
            clean = found.arrays["clean"][image]
            x = CHANGES[row.change](from_levels(torch.from_numpy(clean))[None])
            if classifier(x).argmax() != target:
                lost += 1
                assert all(column[image] is None for column in row.values.values())
                continue
            leaf = x.clone().requires_grad_()
            after = torch.autograd.grad(classifier(leaf)[0, target], leaf)[0]
            if row.change == "shift":
                after = shifted_back(after)
            top = gradient_map(classifier, clean, target).flatten().abs()
            top = top >= top.topk(found.k).values[-1]
            if int(top.sum()) == found.k:  # no tie, which rounding may decide
                assert value == pytest.approx(float(overlap(after, top[None])), abs=1.01 / found.k)
        assert row.changed == lost
        changed += lost
    assert 0 < changed < len(CHANGES) * found.attacked


def test_the_bookkeeping(found):
    assert 20 < found.gradients <= found.budget * 1.5  # bringing labels back comes on top
    assert {cost.probe for cost in found.costs} == {"attack", "oracle", "scoring", "natural"}
    (natural,) = (cost.gradients for cost in found.costs if cost.probe == "natural")
    assert natural == len(CHANGES) * found.attacked  # whatever the number of ε
    assert 0 < found.model_share < 1
    assert found.oracle is not None
    assert found.oracle.chosen == "difference"
    winners = {w for row in found.rows for w in row.winner if w is not None}
    assert winners <= set(range(len(found.searches)))
    assert found.rounded_images == 12  # sixteenths are no levels
    assert 0.1 < found.largest_rounding <= 0.5


def test_json_holds_everything_but_the_arrays(found):
    again = AttackResult.from_json(found.to_json())
    assert again == found
    assert again.arrays == {}
    for text in ("", "[]", "{}", '{"schema_version": 1}', '{"schema_version": 2}'):
        with pytest.raises(InputError, match=r"attack\.json: "):
            AttackResult.from_json(text)


def test_the_result_does_not_depend_on_the_batch(classifier, images, found):
    """At most one image in ten may differ, by rounding that crosses a tie or a kink."""
    other = auditor.attack(classifier, images, epsilons=(16.0, 1.0, 4.5), batch=5, **FAST)
    assert other.predicted == found.predicted
    assert np.array_equal(other.arrays["clean"], found.arrays["clean"])
    same = [
        a == b
        for one, two in zip(found.rows, other.rows, strict=True)
        for a, b in zip(
            one.values["eight_bits"]["topk_intersection"],
            two.values["eight_bits"]["topk_intersection"],
            strict=True,
        )
    ]
    assert np.mean(same) >= 0.9


def test_the_l2_ball_bounds_the_length(classifier, images):
    result = auditor.attack(classifier, images, norm="l2", epsilons=(20.0, 80.0), **FAST)
    for row in result.rows:
        lengths = [length for length in row.length if length is not None]
        assert lengths
        assert max(lengths) <= row.epsilon + 1e-4
        assert max(lengths) > 0.8 * row.epsilon  # it uses what it is given
        signs = row.mean("random_signs", "topk_intersection")
        assert row.mean("eight_bits", "topk_intersection") < signs


@pytest.mark.parametrize(
    ("attack", "metric", "sign"),
    [
        ("topk", "topk_intersection", -1),
        ("mass-center", "center_shift", 1),
        ("cosine", "cosine", -1),
        ("rank", "spearman", -1),
        ("manipulation", "target_cosine", 1),
        ("region", "region_share", 1),
    ],
)
def test_each_attack_moves_its_own_metric(classifier, images, attack, metric, sign):
    corner = torch.zeros(12, 12)
    corner[:6, :6] = 1
    result = auditor.attack(
        classifier,
        images,
        attack=attack,
        toward=corner if attack == "region" else None,
        epsilons=(16.0,),
        **FAST,
    )
    row = result.rows[0]
    reached, control = (row.mean(stage, metric) for stage in ("eight_bits", "random_signs"))
    assert sign * (reached - control) > 0
    assert sign * (reached - row.mean("no_attack", metric)) > 0
    brighter = {row.change: row for row in result.natural}["brighter"].mean(metric)
    assert sign * (reached - brighter) > 0
    assert bool(result.toward) == (attack in GOALS)


def test_manipulation_towards_a_given_map(classifier, images):
    wanted = torch.zeros(12, 12)
    wanted[2:5, 2:5] = 1
    result = auditor.attack(
        classifier, images, attack="manipulation", toward=wanted, toward_name="a square", **FAST
    )
    row = result.rows[0]
    assert result.toward == "a square"
    raw = torch.from_numpy(result.arrays["map_after"][0, 0]).abs().sum(dim=0).double().flatten()
    cosine = torch.nn.functional.cosine_similarity(raw, wanted.double().flatten(), dim=0)
    assert row.values["eight_bits"]["target_cosine"][0] == pytest.approx(float(cosine), abs=1e-6)


def test_random_signs_search_nothing(classifier, images):
    result = auditor.attack(classifier, images, attack="random-signs", epsilons=(8.0,))
    row = result.rows[0]
    assert (result.budget, result.gradients, result.searches, result.oracle) == (0, 0, (), None)
    assert row.values["eight_bits"] == row.values["random_signs"]
    assert len(result.natural) == len(CHANGES)
    assert max(c for c in row.largest_change if c is not None) == 8


def test_a_smoothed_map_is_scored_with_noise_of_its_own(classifier, images):
    result = auditor.attack(classifier, images, sigma=0.1, samples=8, budget=120, **{"seed": 3})
    row = result.rows[0]
    floor = row.mean("no_attack", "topk_intersection")
    assert floor < 1  # two draws of the same map
    assert row.mean("eight_bits", "topk_intersection") < floor
    rows = tuple(np.flatnonzero(result.arrays["kept"][0]).tolist())
    target = torch.tensor(result.predicted)[list(rows)]
    for stream, name in ((SHOWN, "map_before"), (FRESH, "map_after")):
        whole = result.arrays["clean"] if stream == SHOWN else result.arrays["perturbed"][0]
        x = from_levels(torch.from_numpy(whole[list(rows)]))
        subject = Subject(x=x, target=target, images=rows, k=20, seed=3)
        method = subject.smoothed(sigma=0.1, samples=8, stream=stream)
        run = Evaluator(model=classifier, batch=64)
        maps, _ = method(run, x, target, images=rows, draw=0)
        held = result.arrays[name] if stream == SHOWN else result.arrays[name][0]
        np.testing.assert_allclose(held[list(rows)], maps.numpy(), rtol=1e-4, atol=1e-5)


def test_an_epsilon_below_a_level_cannot_be_held(classifier, images):
    row = auditor.attack(classifier, images, epsilons=(0.4,), **FAST).rows[0]
    assert row.mean("attacked", "topk_intersection") < 1
    assert row.mean("eight_bits", "topk_intersection") == 1
    assert {c for c in row.largest_change if c is not None} == {0}


def test_images_whose_label_nothing_keeps_are_infeasible(classifier, images):
    row = auditor.attack(classifier, images, attack="random-signs", epsilons=(255.0,)).rows[0]
    for stage in ("attacked", "eight_bits", "random_signs"):
        values = row.values[stage]["topk_intersection"]
        assert 0 < row.infeasible[stage] < 12  # whole pictures of noise
        assert sum(value is None for value in values) == row.infeasible[stage] + 1


def test_nothing_to_attack(classifier, images):
    predicted = classifier(images.pixels).argmax(dim=1)
    wrong = dataclasses.replace(images, labels=tuple(((predicted + 1) % 10).tolist()))
    result = auditor.attack(classifier, wrong, epsilons=(2.0, 4.0, 8.0, 16.0), **FAST)
    assert (result.attacked, result.misclassified, result.oracle) == (0, 12, None)
    assert result.rows[0].mean("eight_bits", "topk_intersection") is None
    assert result.natural == result.transfer == ()
    assert area_over_epsilon(result) is None
    assert AttackResult.from_json(result.to_json()) == result


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"batch": 0}, "batch 0 is too small"),
        ({"attack": "manipulation"}, "needs a second image"),
        ({"attack": "magic"}, "is unknown"),
        ({"transfer_to": (SimpleGrad(), SimpleGrad())}, "simple_grad is given twice"),
    ],
)
def test_bad_input(classifier, held_out, changes, says):
    single = auditor.from_arrays(held_out[0][:1])
    with pytest.raises(InputError, match=says):
        auditor.attack(classifier, single, **changes)


def test_images_of_another_size(classifier):
    other = auditor.from_arrays(torch.rand(2, 1, 9, 9))
    with pytest.raises(InputError, match="Images are 1×9×9, model takes 1×12×12"):
        auditor.attack(classifier, other)


def squared(model, x, target):
    """Another explanation: of the same image it ranks the pixels otherwise."""
    leaf = x.clone().requires_grad_()
    score = model(leaf).gather(1, target[:, None]).sum()
    return torch.autograd.grad(score, leaf)[0] * x


def test_what_was_found_is_tried_on_other_explanations(classifier, images):
    """Of the attacked explanation it repeats what is known; another moves less."""
    others = (auditor.Custom(function=squared, name="times input"), SimpleGrad())
    result = auditor.attack(classifier, images, epsilons=(2.0, 8.0), transfer_to=others, **FAST)
    other, same = result.transfer[:3], result.transfer[3:]
    assert [row.explanation for row in result.transfer] == ["times input"] * 3 + ["simple_grad"] * 3
    assert [row.epsilon for row in other] == [None, 2.0, 8.0]
    for row in (other[0], same[0]):
        assert row.mean("topk_intersection") == row.mean("spearman") == 1
    for moved, row in zip(same[1:], result.rows, strict=True):
        for metric in METRICS:
            assert moved.mean(metric) == pytest.approx(row.mean("eight_bits", metric), abs=1e-6)
    adaptive = result.rows[1].mean("eight_bits", "topk_intersection")
    assert adaptive < other[2].mean("topk_intersection") < 1
    assert AttackResult.from_json(result.to_json()) == result
    assert max(map(len, printed(result))) <= 80


def printed(result):
    console = Console(width=80, highlight=False)
    with console.capture() as capture:
        console.print(transfer_table(result))
    return capture.get().splitlines()
