"""The terminal's table."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from reports import summary_table


def printed(result, width=80) -> str:
    console = Console(file=io.StringIO(), width=width, color_system=None)
    console.print(summary_table(result))
    return console.file.getvalue()


@pytest.mark.parametrize("kind", ["recommended", "no_sigma", "inconclusive"])
def test_verdict_and_every_criterion_in_80_columns(make_result, kind):
    result = make_result(verdict=kind, images=8)
    out = printed(result)
    assert max(map(len, out.splitlines())) <= 80
    assert {"recommended": "Recommended: σ = 0.0675"}.get(kind, "o") in out
    words = " ".join(out.replace("│", " ").split())
    for criterion in result.recommendation.criteria:
        assert f"{criterion.status};" in words
    for reason in result.recommendation.reasons:
        assert reason.split()[0] in words


def test_hostile_names_stay_text(make_result):
    out = printed(make_result(model_name="[red]a[/red]\x1b[31m" + "y" * 200, images=2))
    assert "[red]a[/red]\\x1b[31m" in out
    assert out.count("y") >= 200
    assert "\x1b" not in out


def test_nothing_measured(make_result):
    out = printed(make_result(probes=(), twins=(), gallery=0, verdict="inconclusive"))
    assert "Inconclusive" in out
    assert "Attacked" not in out
