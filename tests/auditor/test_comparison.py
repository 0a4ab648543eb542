"""What got better or worse between two audits."""

from __future__ import annotations

import dataclasses

import pytest

from auditor.comparison import compare
from auditor.results import AuditResult
from auditor.statistics import paired_difference


def shifted(result, by, **which):
    """The same audit with the values of some measurements moved."""
    chosen = result.find(**which)
    moved = tuple(
        dataclasses.replace(m, values=tuple(None if v is None else v + by for v in m.values))
        if m in chosen
        else m
        for m in result.measurements
    )
    return dataclasses.replace(result, measurements=moved)


def with_status(result, verdict, *statuses):
    old = result.recommendation
    criteria = tuple(
        dataclasses.replace(c, status=s) for c, s in zip(old.criteria, statuses, strict=False)
    )
    answer = dataclasses.replace(old, verdict=verdict, criteria=criteria)
    return dataclasses.replace(result, recommendation=answer)


def test_an_audit_against_itself(audited):
    found = compare(audited, audited)
    assert not found.regressed
    assert found.shared == len(audited.images.names)
    assert found.changes
    assert {change.outcome for change in found.changes} <= {"no clear change", "not comparable"}
    assert found.notes == ("The model is the same in both.",)


@pytest.mark.parametrize(
    ("metric", "by", "outcome"),
    [
        ("topk_intersection", 0.1, "better"),
        ("topk_intersection", -0.1, "worse"),
        ("normalized_fidelity_error", 0.1, "worse"),
        ("normalized_fidelity_error", -0.1, "better"),
    ],
)
def test_the_direction_depends_on_the_metric(audited, metric, by, outcome):
    found = compare(audited, shifted(audited, by, metric=metric))
    told = {c.outcome for c in found.changes if c.metric == metric and c.difference is not None}
    assert told == {outcome}
    others = {c.outcome for c in found.changes if c.metric != metric}
    assert others <= {"no clear change", "not comparable"}


def test_images_are_matched_by_name_and_the_interval_is_that_of_the_pairs(audited):
    names = audited.images.names
    images = dataclasses.replace(
        audited.images, names=(*names[1:], "another"), manifest_sha256="other"
    )
    rolled = tuple(
        dataclasses.replace(m, values=(*m.values[1:], None)) for m in audited.measurements
    )
    after = dataclasses.replace(audited, images=images, measurements=rolled)
    found = compare(audited, after)
    assert found.shared == len(names) - 1
    assert any("matched by their names" in note for note in found.notes)
    for change in found.changes:
        if change.difference is not None:
            assert change.difference.mean == 0
    moved = compare(audited, shifted(after, 0.05, metric="topk_intersection"))
    change = next(c for c in moved.changes if c.metric == "topk_intersection")
    before = audited.find(
        probe="attack", metric="topk_intersection", attack="strongest", sigma=change.sigma
    )[0]
    values = list(before.values[1:])
    confidence = 1 - 0.05 / len(moved.changes)
    expected = paired_difference(
        [None if v is None else v + 0.05 for v in values],
        values,
        seed=audited.seed,
        confidence=confidence,
    )
    assert change.difference == expected


@pytest.mark.parametrize(
    ("before", "after", "regressed"),
    [
        (("recommended", "pass"), ("recommended", "pass"), False),
        (("recommended", "pass"), ("no_sigma", "fail"), True),
        (("recommended", "pass"), ("inconclusive", "inconclusive"), True),
        (("recommended", "pass"), ("inconclusive", "pass"), True),
        (("inconclusive", "inconclusive"), ("no_sigma", "fail"), True),
        (("no_sigma", "fail"), ("inconclusive", "inconclusive"), False),
        (("no_sigma", "fail"), ("recommended", "pass"), False),
    ],
)
def test_what_counts_as_a_regression(audited, before, after, regressed):
    pair = (with_status(audited, *before), with_status(audited, *after))
    assert compare(*pair).regressed == regressed


def test_nothing_in_common(audited):
    names = tuple(f"other {name}" for name in audited.images.names)
    images = dataclasses.replace(audited.images, names=names)
    found = compare(audited, dataclasses.replace(audited, images=images))
    assert found.shared == 0
    assert {c.outcome for c in found.changes} == {"not comparable"}


@pytest.fixture
def runs(here, audited):
    worse = with_status(audited, "no_sigma", "fail", "fail", "fail")
    better = with_status(audited, "recommended", "pass", "pass", "pass")
    for name, result in (("a", better), ("b", worse)):
        (here / "runs" / name).mkdir(parents=True)
        path = here / "runs" / name / "audit.json"
        path.write_text(result.to_json(), encoding="utf-8")
    return here


def test_the_command(run, runs):
    files = ["--output", "c.pdf", "--output", "c.html"]
    code, out, err = run(["compare", "runs/a", "runs/b", *files])
    assert (code, err) == (1, "")
    assert max(map(len, out.splitlines())) <= 80
    assert "A criterion regressed" in out
    assert (runs / "c.pdf").read_bytes().startswith(b"%PDF")
    assert "A criterion regressed" in (runs / "c.html").read_text(encoding="utf-8")
    first = (runs / "c.pdf").read_bytes()
    assert run(["compare", "runs/a", "runs/b", *files])[0] == 1
    assert (runs / "c.pdf").read_bytes() == first
    assert run(["compare", "runs/b", "runs/a"])[0] == 0
    code, out, err = run(["compare", "runs/a", "runs/b", "--output", "c.txt"])
    assert (code, out) == (2, "")
    assert "must end in .pdf or .html" in err


def test_history(run, runs):
    (runs / "runs" / "c").mkdir()
    (runs / "runs" / "c" / "audit.json").write_text("{", encoding="utf-8")
    code, out, err = run(["history", "runs"])
    assert (code, err) == (0, "")
    assert max(map(len, out.splitlines())) <= 80
    words = " ".join(out.split())
    assert words.index("Recommended: σ") < words.index("No σ")
    assert "compliance" in words
    assert "not valid JSON" in " ".join(out.split())
    for folder in ("absent", "few.npz"):
        assert run(["history", folder])[0] == 2
    (runs / "empty").mkdir()
    code, _, err = run(["history", "empty"])
    assert (code, "no audit.json here or below" in err) == (2, True)


def test_loading_is_that_of_results(runs):
    assert AuditResult.load(runs / "runs" / "a").recommendation.verdict == "recommended"
