from __future__ import annotations

import pytest
import torch
from torch import nn

from attacks import overlap, top_set
from auditor.attributions import FRESH, SHOWN, MedianFiltered, SimpleGrad
from auditor.evaluation import Evaluator
from auditor.probes.subject import Subject
from auditor.probes.transfer import corners, method_matrix, transfer_matrix
from auditor.records import Key

SHAPE = (1, 12, 12)


@pytest.mark.parametrize(
    ("grid", "expected"),
    [
        ((0.0,), (0.0,)),
        ((0.0, 0.1), (0.0, 0.1)),
        ((0.0, 0.1, 0.2, 0.3), (0.0, 0.1, 0.2, 0.3)),
        ((0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6), (0.0, 0.2, 0.4, 0.6)),
    ],
)
def test_the_ends_of_the_grid_are_always_tried(grid, expected):
    assert corners(grid) == expected


def test_each_cell_is_the_overlap_at_one_sigma_under_what_was_found_at_another():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Conv2d(1, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(600, 4))
    model.requires_grad_(False)
    x = torch.rand(3, *SHAPE, generator=torch.Generator().manual_seed(1))
    target = model(x).argmax(dim=1)
    subject = Subject(x=x, target=target, images=(4, 5, 6), k=8, seed=3)
    run = Evaluator(model=model, batch=32)
    generator = torch.Generator().manual_seed(2)
    deltas = {
        sigma: (torch.rand(x.shape, generator=generator) - 0.5) / 10 for sigma in (0.0, 0.1, 0.3)
    }
    deltas[0.1][1] = torch.nan
    records = transfer_matrix(run, subject, deltas=deltas, samples=6, epsilon=4.0)
    assert len(records) == 2 * 9
    rows = torch.arange(3)
    for shown_at in deltas:
        draws = {"sigma": shown_at, "samples": 6 if shown_at else 1}
        before, _ = subject.explainer(run, stream=SHOWN, **draws)(x, rows=rows, draw=0)
        for found_at, delta in deltas.items():
            key = Key(
                probe="transfer_matrix",
                metric="topk_intersection",
                sigma=shown_at,
                epsilon=4.0,
                partner=f"σ = {found_at:g}",
            )
            moved = x + delta.nan_to_num()
            after, _ = subject.explainer(run, stream=FRESH, **draws)(moved, rows=rows, draw=0)
            expected = overlap(after, top_set(before, 8))
            if found_at == 0.1:
                expected[1] = torch.nan
            torch.testing.assert_close(torch.from_numpy(records[key]), expected, equal_nan=True)


def test_each_cell_is_one_method_under_what_was_found_for_another(held_out, classifier):
    x = held_out[0][:3]
    target = classifier(x).argmax(dim=1)
    subject = Subject(x=x, target=target, images=(4, 5, 6), k=8, seed=3)
    run = Evaluator(model=classifier, batch=32)
    generator = torch.Generator().manual_seed(2)
    small = (torch.rand(x.shape, generator=generator) - 0.5) / 100
    deltas = {"plain": small, "far": 1 - 2 * x, "none": 0 * x}
    deltas["plain"][1] = torch.nan
    methods = {"plain": SimpleGrad(), "twice": MedianFiltered(method=SimpleGrad())}
    found = method_matrix(run, subject, methods=methods, deltas=deltas)
    assert set(found) == {(a, b) for a in deltas for b in methods}
    for (found_for, shown), values in found.items():
        method, delta = methods[shown], deltas[found_for]
        before, _ = method(run, x, target, images=(4, 5, 6), draw=0)
        moved = x + delta.nan_to_num()
        after, logits = method(run, moved, target, images=(4, 5, 6), draw=0)
        expected = overlap(after, top_set(before, 8))
        expected[logits.argmax(dim=1) != target] = torch.nan
        if found_for == "plain":
            expected[1] = torch.nan
        torch.testing.assert_close(values["topk_intersection"], expected, equal_nan=True)
    assert found["far", "plain"]["topk_intersection"].isnan().any()  # the label is lost
    assert (found["none", "twice"]["topk_intersection"] == 1).all()
