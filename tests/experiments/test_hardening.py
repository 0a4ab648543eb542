"""The verdicts of the experiment follow from what was measured, and from nothing else."""

from __future__ import annotations

import itertools

import pytest


@pytest.fixture(scope="module")
def experiment(load_experiment):
    return load_experiment("hardening")


def column(mean: float) -> list[float]:
    return [mean + offset for offset in (-0.01, 0.0, 0.01) * 8]


def network(*, gini: float, change: float, kept: float, benign: float) -> dict:
    names = ("log10_ris", "log10_ros", "log10_rrs")
    quality = {"gini": column(gini)} | {name: column(change) for name in names}
    return {
        "quality": dict.fromkeys(("VG", "IG", "SG"), quality),
        "robustness": {"topk SM": {"k-in": column(kept)}},
        "accuracy": [{"benign": benign}],
    }


AS_PUBLISHED = {
    "N": network(gini=0.5, change=1, kept=1, benign=90),
    "A": network(gini=0.7, change=2, kept=2, benign=80),
    "SSR": network(gini=0.5, change=1, kept=2, benign=85),
    "M1": network(gini=0.7, change=1.5, kept=2, benign=80),
    "NM1": network(gini=0.5, change=1, kept=1, benign=88),
}
NAMES = ("gini", "costs", "restores", "A", "SSR", "accuracy")


def holds(experiment, measured: dict) -> dict[str, bool]:
    records = experiment.verdicts(experiment.Findings(measured), experiment.QUICK)
    assert len(records) == len(NAMES)
    return dict(zip(NAMES, (record["holds"] for record in records), strict=True))


def test_all_claims_hold_where_they_do(experiment):
    assert all(holds(experiment, AS_PUBLISHED).values())


@pytest.mark.parametrize(
    ("claim", "name", "other"),
    [
        ("gini", "A", {"gini": 0.5, "change": 2, "kept": 2, "benign": 80}),
        ("restores", "M1", {"gini": 0.7, "change": 2, "kept": 2, "benign": 80}),
        ("A", "A", {"gini": 0.7, "change": 2, "kept": 1, "benign": 80}),
        ("SSR", "SSR", {"gini": 0.5, "change": 1, "kept": 0.5, "benign": 85}),
        ("accuracy", "NM1", {"gini": 0.5, "change": 1, "kept": 1, "benign": 86.5}),
    ],
)
def test_a_claim_that_does_not_hold_is_not_held(experiment, claim, name, other):
    found = holds(experiment, AS_PUBLISHED | {name: network(**other)})
    assert [key for key, value in found.items() if not value] == [claim]


def test_without_a_cost_nothing_can_be_restored(experiment):
    calm = network(gini=0.7, change=0.9, kept=2, benign=80)
    calmer = network(gini=0.7, change=0.5, kept=2, benign=80)
    found = holds(experiment, AS_PUBLISHED | {"A": calm, "M1": calmer})
    assert not found["costs"]
    assert not found["restores"]


def test_what_is_in_the_cache_is_not_computed_again(experiment, tmp_path):
    numbers = itertools.count()
    place = tmp_path / "deep" / "found.json"
    found = [
        experiment.cached(place, settings, lambda: next(numbers))
        for settings in ([1, (2, 3)], [1, (2, 3)], [1, (2, 4)])
    ]
    assert found == [0, 0, 1]


def test_every_recipe_of_the_experiment_is_understood(experiment):
    for scale in (experiment.QUICK, experiment.Scale(), experiment.FULL):
        for spec in experiment.recipes(scale).values():
            assert experiment.find_recipe(spec)


def test_rows_that_were_not_run_are_printed_as_such(experiment, capsys):
    metrics = {name: column(0.5) for name in ("gini", "road_morf", "ssim_noise_0.05")}
    metrics |= {name: column(0.5) for name in ("log10_ris", "log10_ros", "log10_rrs")}
    columns = [f"{a} {m}" for a in ("topk", "manipulation") for m in ("SM", "IG", "SG", "UG")]
    one = {
        "quality": dict.fromkeys(("VG", "IG", "SG"), metrics),
        "robustness": dict.fromkeys(columns, dict.fromkeys(experiment.METRICS, column(2))),
        "accuracy": [{"benign": 90.0, "robust": 40.0}],
        "seconds": 1.0,
    }
    found = experiment.Findings(dict.fromkeys(("N", "A", "SSR", "M1", "NM1"), one))
    experiment.print_tables(found, experiment.QUICK)
    lines = capsys.readouterr().out.splitlines()
    table4 = lines[next(i for i, line in enumerate(lines) if "S2 Table 4" in line) :]
    told = {line.split()[1]: "not run" in line for line in table4 if len(line.split()) > 3}
    for name in experiment.ORDER:
        assert told[name] == (name not in found.measured), name


@pytest.mark.parametrize(
    ("rows", "says"), [("N,A,SSR,M1", "about NM1"), ("N,A,SSR,M1,NM1,XY", "no row 'XY'")]
)
def test_rows_that_will_not_do(experiment, rows, says):
    with pytest.raises(SystemExit, match=says):
        experiment.left_out(rows)
    assert experiment.left_out(",".join(experiment.ORDER[:-1])) == ("IG-NORM",)
