from __future__ import annotations

import dataclasses
import io

from pypdf import PdfReader

from auditor.subgroups import by_subgroup
from reports.pdf import render


def words(result) -> str:
    reader = PdfReader(io.BytesIO(render(result)))
    return " ".join(" ".join(page.extract_text() for page in reader.pages).split())


def grouped(result, groups):
    found = by_subgroup(
        result.measurements, groups, sigma=result.recommendation.considered, epsilon=8.0, seed=0
    )
    images = dataclasses.replace(result.images, subgroups=groups)
    return dataclasses.replace(result, images=images, subgroups=found)


def test_a_table_by_subgroup(make_result):
    result = make_result()
    groups = tuple("day" if i % 2 else "<night> & fog" for i in range(len(result.images.names)))
    text = words(grouped(result, groups))
    assert "By subgroup" in text
    assert "<night> & fog: 8, day: 8" in text
    assert "Attacked overlap, σ = 0.0675, ε = 8/255" in text
    assert "n = " in text
    assert "By subgroup" not in words(result)


def test_many_subgroups_are_counted(make_result):
    result = make_result(images=45)
    text = words(grouped(result, tuple(f"group {i:02d}" for i in range(45))))
    assert "Only the first 40 of 45 subgroups are printed" in text
