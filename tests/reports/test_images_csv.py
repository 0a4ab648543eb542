"""The table of images: a row for each, every measurement in a column of its own."""

from __future__ import annotations

import csv
import dataclasses
import io

import pytest

from reports import images_csv


def rows(result):
    return list(csv.DictReader(io.StringIO(images_csv(result), newline="")))


def test_every_image_and_every_measurement_is_there(result):
    table = rows(result)
    assert [row["image"] for row in table] == list(result.images.names)
    names = list(table[0])
    assert names[:5] == ["image", "predicted", "label", "half", "subgroup"]
    assert len(set(names)) == len(names) == 5 + len(result.measurements)
    for name, m in zip(names[5:], result.measurements, strict=True):
        for row, value in zip(table, m.values, strict=True):
            assert (row[name] == "") == (value is None)
            if value is not None:
                assert float(row[name]) == pytest.approx(value, rel=1e-5)


def test_columns_are_named_by_their_conditions(result):
    names = set(rows(result)[0])
    assert "smoothing self_overlap sigma=0.0675 (ratio)" in names
    assert "attack topk_intersection strongest sigma=0.27 epsilon=8 (ratio)" in names
    assert "twin ssim sigma=0 partner=twin.safetensors (ratio)" in names
    two = dataclasses.replace(result.measurements[0], method="grad_cam")
    both = dataclasses.replace(result, measurements=(*result.measurements, two))
    assert "smoothing self_overlap sigma=0 method=grad_cam (ratio)" in set(rows(both)[0])


def test_halves_classes_and_subgroups_are_words(result):
    table = rows(result)
    assert {row["half"] for row in table} == {"screen", "confirm", "misclassified"}
    assert table[3]["predicted"] == table[3]["label"] == "3"
    images = dataclasses.replace(
        result.images, labels=None, class_names=(), subgroups=("night",) * len(table)
    )
    bare = rows(dataclasses.replace(result, images=images))[3]
    assert (bare["predicted"], bare["label"], bare["subgroup"]) == ("class 3", "", "night")


@pytest.mark.parametrize("name", ["=1+1", "+1", "-1", "@x", "\t=1", 'a,"b"\n', "图像", "\udc80"])
def test_names_from_outside_stay_text(make_result, name):
    made = make_result(images=1)
    result = dataclasses.replace(made, images=dataclasses.replace(made.images, names=(name,)))
    (row,) = rows(result)
    assert row["image"] == (f"'{name}" if name[0] in "=+-@\t" else name)
