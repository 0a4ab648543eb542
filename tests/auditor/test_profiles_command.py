from __future__ import annotations

import pytest
from click.testing import CliRunner

from auditor.cli import cli
from auditor.errors import InputError
from profiles import available, load_profile
from profiles.schema import KEYS


def invoke(*arguments):
    return CliRunner().invoke(cli, ["profiles", *arguments], standalone_mode=False)


def test_list_names_every_profile():
    output = invoke("list").output
    assert [line.split()[0] for line in output.splitlines()[: len(available())]] == [*available()]


@pytest.mark.parametrize("name", available())
def test_show_says_when_to_use_a_profile_and_every_limit(name):
    profile = load_profile(name)
    output = invoke("show", name).output
    assert max(map(len, output.splitlines())) <= 80
    words = " ".join(output.split())
    assert " ".join(profile.summary.split()) in words
    for criterion in profile.criteria:
        assert f"{criterion.metric} {criterion.comparison} {criterion.bound:g}" in words
        assert f"({criterion.basis}) {criterion.because}" in words


def test_show_prints_the_file_on_request():
    assert invoke("show", "compliance", "--toml").output.strip() in load_profile("compliance").text


@pytest.mark.parametrize("like", available())
def test_new_writes_a_commented_profile_that_works_where_a_name_does(tmp_path, like):
    path = tmp_path / "my scans.toml"
    result = invoke("new", str(path), "--like", like)
    assert result.exit_code == 0
    made = load_profile(path)
    assert made.name == "my-scans"
    assert made.criteria == load_profile(like).criteria
    text = path.read_text(encoding="utf-8")
    for keys in KEYS.values():
        assert [key for key in keys if f"#   {key}: " not in text] == []
    assert "my-scans" in invoke("show", str(path)).output


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["show", "optimism"], "Known profiles"),
        (["new", "mine.txt"], "ends in .toml"),
        (["new", "clinical.toml"], "Choose another name"),
        (["new", "there.toml"], "exists"),
        (["new", "nowhere/mine.toml"], "no folder"),
        (["new", "mine.toml", "--like", "optimism"], "Known profiles"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_bad_input_is_refused_and_nothing_written(tmp_path, monkeypatch, arguments, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there.toml").write_text("")
    result = invoke(*arguments)
    assert isinstance(result.exception, InputError)
    assert words in str(result.exception)
    assert [path.name for path in tmp_path.iterdir()] == ["there.toml"]
