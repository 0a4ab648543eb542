"""The README and docs/ say what the commands really do."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

import attacks
from auditor.cli import cli

ROOT = Path(__file__).parent.parent
USAGE = ROOT / "docs" / "usage.md"
COMMANDS = (
    "status",
    "audit",
    "attack",
    "check",
    "harden",
    "report",
    "retrain",
    "sign",
    "verify",
    "compare",
    "history",
)


def help_text(command: str) -> str:
    runner = CliRunner(env={"COLUMNS": "80", "LC_ALL": "C.UTF-8"})
    result = runner.invoke(cli, [command, "--help"], prog_name="auditor", terminal_width=80)
    assert result.exit_code == 0
    return "\n".join(line.rstrip() for line in result.output.splitlines())


@pytest.mark.parametrize("command", COMMANDS)
def test_usage_shows_the_current_help(command):
    """Refresh with: python -m tests.test_docs."""
    shown = re.search(rf"<!-- help: {command} -->\n```text\n(.*?)```", USAGE.read_text(), re.DOTALL)
    assert shown is not None
    assert shown.group(1).strip() == help_text(command).strip()


def options(command: str) -> set[str]:
    return {name for p in cli.commands[command].params for name in p.opts}


def test_options_named_in_the_readme_exist():
    text = (ROOT / "README.md").read_text()
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", text))
    assert named
    assert named <= options("audit") | options("attack")


@pytest.mark.parametrize("script", sorted((ROOT / "examples").glob("*.sh")), ids=lambda p: p.name)
def test_examples_use_existing_options(script):
    words = shlex.split(script.read_text().replace("\\\n", " "), comments=True)
    named = {
        word.partition("=")[0] for word in words if re.fullmatch(r"--[a-z][a-z-]*(=.*)?", word)
    }
    assert {"--model", "--images"} <= named
    assert named <= options("audit")


def test_links_of_the_readme_lead_somewhere():
    links = re.findall(r"\]\(([^)#]+)\)", (ROOT / "README.md").read_text())
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_the_example_of_the_attacks_runs(capsys):
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs/attacks.md").read_text(), re.DOTALL)
    names: dict = {}
    with torch.random.fork_rng():
        exec(compile(code, "docs/attacks.md", "exec"), names)
    assert "tensor" in capsys.readouterr().out
    found = names["best"].found
    small, large = found.score.split(4)
    assert (large <= small).all()
    assert found.feasible.all()
    assert large.mean() < 1


def test_the_parts_named_in_the_attacks_document_exist():
    table = (ROOT / "docs/attacks.md").read_text().partition("## In Python")[0]
    named = set(re.findall(r"`([A-Z]\w+|fastest)`", table))
    assert {"Boundary", "Apgd", "Difference", "L2", "Strongest"} <= named
    assert named <= set(attacks.__all__)


def test_no_placeholder_is_left_in_the_readme():
    assert re.findall(r"[A-Z]+_[A-Z]+", (ROOT / "README.md").read_text()) == []


def test_make_targets_of_the_readme_exist():
    makefile = (ROOT / "Makefile").read_text()
    text = (ROOT / "README.md").read_text() + (ROOT / "CONTRIBUTING.md").read_text()
    named = set(re.findall(r"^make ([a-z-]+)|`make ([a-z-]+)`", text, re.MULTILINE))
    assert named
    for target in filter(None, (a or b for a, b in named)):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


if __name__ == "__main__":
    text = USAGE.read_text()
    for command in COMMANDS:
        block = f"<!-- help: {command} -->\n```text\n{help_text(command).strip()}\n```"
        text = re.sub(
            rf"<!-- help: {command} -->\n```text\n.*?```",
            lambda _, b=block: b,
            text,
            flags=re.DOTALL,
        )
    USAGE.write_text(text)
