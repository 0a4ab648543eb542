from __future__ import annotations

import dataclasses
import re

import pytest
from rich.console import Console

import auditor
from auditor.attack_result import AttackResult
from auditor.attack_table import WIDTH, area_over_epsilon, attack_table, facts


def printed(result: AttackResult) -> list[str]:
    console = Console(width=200, highlight=False)
    with console.capture() as capture:
        console.print(attack_table(result))
    return capture.get().splitlines()


@pytest.fixture(scope="module")
def result(classifier, images):
    """An attack with a target has the most columns."""
    return auditor.attack(
        classifier,
        images,
        attack="manipulation",
        sigma=0.1,
        samples=4,
        budget=60,
        oracle="difference",
        epsilons=(4.0, 8.0),
    )


def test_the_rows_are_everyday_changes_then_the_attack_by_epsilon(result):
    lines = printed(result)
    cells = [[cell.strip() for cell in line.split("│")[1:-1]] for line in lines if "│" in line]
    assert [row[0] for row in cells] == [
        *("no attack", "JPEG, quality 75", "JPEG, quality 50", "half size and back"),
        *("brightness +10%", "brightness −10%", "shift by one pixel"),
        *("ε = 4: attacked", "in 8 bits", "random signs"),
        *("ε = 8: attacked", "in 8 bits", "random signs"),
    ]
    metrics = ("target_cosine", "topk_intersection", "center_shift", "cosine", "spearman")
    jpeg, signs = result.natural[0], result.rows[1]
    assert cells[1][1:] == [f"{jpeg.mean(m):.3f}" for m in metrics] + [str(jpeg.changed)]
    assert cells[-1][1:] == [
        *(f"{signs.mean('random_signs', m):.3f}" for m in metrics),
        str(signs.infeasible["random_signs"]),
    ]


def test_images_whose_prediction_changed_are_counted(found_changes):
    lines = printed(found_changes)
    (line,) = [line for line in lines if "half size and back" in line]
    row = next(row for row in found_changes.natural if row.change == "resize")
    assert row.changed > 0
    assert line.rstrip("│ ").endswith(f" {row.changed}")


@pytest.fixture(scope="module")
def found_changes(classifier, images):
    return auditor.attack(classifier, images, attack="random-signs")


def test_large_numbers_fit_eighty_columns(result):
    """A map of 320 by 320 pixels, and the largest ℓ2 ball around a photograph of 224."""
    far = {"center_shift": (123.4567,) * 12}
    natural = [dataclasses.replace(row, values=row.values | far) for row in result.natural]
    rows = [dataclasses.replace(row, epsilon=98935.5) for row in result.rows]
    large = dataclasses.replace(result, k=2000, norm="l2", rows=rows, natural=tuple(natural))
    lines = printed(large)
    assert {len(line) for line in lines[1:]} == {WIDTH}
    assert not [line for line in lines if "…" in line]
    text = re.sub(r"\s+", " ", " ".join(lines))
    for whole in ("123.457", "ε = 98935.5: attacked", "shift by one pixel", "top-2000"):
        assert whole in text


def test_the_area_over_epsilon_counts_images_known_at_each(classifier, images):
    found = auditor.attack(
        classifier, images, attack="random-signs", epsilons=(2.0, 4.0, 8.0, 16.0, 255.0)
    )
    columns = [row.values["eight_bits"]["topk_intersection"] for row in found.rows[:4]]
    each = [
        a / 2 + b + c + d / 2
        for a, b, c, d in zip(*columns, strict=True)
        if None not in (a, b, c, d)
    ]
    area = area_over_epsilon(found)
    assert area == pytest.approx(sum(each) / len(each))
    assert 0 < area < 3
    assert any(f"8, 16: {area:.3f} (at most 3)" in line for line in facts(found))
    assert area_over_epsilon(dataclasses.replace(found, rows=found.rows[1:])) is None
