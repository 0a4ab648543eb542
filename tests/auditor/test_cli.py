from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import click
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

import auditor
from auditor import cli
from auditor.errors import IncompleteRunError
from auditor.results import AuditResult

ROOT = Path(auditor.__file__).parents[1]
SETTINGS = {"effort": "quick", "sigma": "0.05,0.2", "samples": "6", "budget": "120"}
USUAL = {
    "model": "net.py:network",
    "weights": "model.safetensors",
    "images": "few.npz",
    "input-size": "1x12x12",
    "mean": "0",
    "std": "1",
    "run": "run",
    "threads": "1",
    **SETTINGS,
}


def words(command="audit", **changes):
    """The command line of a usual audit with some options changed, or left out with ``None``."""
    options = USUAL | {name.replace("_", "-"): value for name, value in changes.items()}
    line = [command]
    for name, value in options.items():
        if value is not None:
            line += [f"--{name}"] if value is True else [f"--{name}", str(value)]
    return line


@pytest.fixture
def finished(audited, monkeypatch):
    """Replace measuring by a result that is there, changed as wanted."""

    def make(**answer):
        changed = dataclasses.replace(audited.recommendation, **answer)
        result = dataclasses.replace(audited, recommendation=changed)

        def execute(plan, folder, **_):
            folder.path.mkdir()
            return result

        monkeypatch.setattr(cli, "execute", execute)
        monkeypatch.setattr(cli.reports, "write_report", lambda *_, **__: None)
        return result

    return make


def comparable(folder):
    record = json.loads((folder / "audit.json").read_text())
    for name in ("timings", "created", "command"):
        del record[name]
    del record["profile"]["declared"], record["profile"]["tried"]
    return record


def test_an_audit_from_the_command_line(run, here):
    twin = "net.py:network,weights=twin.safetensors,mean=0,std=1,input-size=1x12x12,name=other"
    code, out, err = run(words(twin=twin))
    assert code == 1  # twelve images reach no verdict
    assert {path.name for path in (here / "run").iterdir()} == {
        "SHA256SUMS",
        "audit.json",
        "audit.jsonl",
        "maps.npz",
        "report.pdf",
        "run.json",
        "tasks",
    }
    assert (here / "run" / "report.pdf").read_bytes().startswith(b"%PDF")
    assert max(map(len, out.splitlines())) <= 80
    assert out.rstrip().endswith("Report: run/report.pdf")
    assert "Evaluations" in err
    result = AuditResult.load(here / "run")
    assert [model.name for model in result.twins] == ["other"]
    assert result.command.startswith("auditor audit --model net.py:network ")
    origins = {setting.name: setting.origin for setting in result.settings}
    assert origins["samples"] == "command line"
    assert origins["k"] == "default"


def test_python_and_the_command_line_measure_the_same(run, here):
    run(words())
    model = auditor.load_model(
        "net.py:network",
        weights="model.safetensors",
        input_size=(1, 12, 12),
        mean=[0.0],
        std=[1.0],
    )
    result = auditor.audit(
        model,
        auditor.load_images("few.npz", input_shape=(1, 12, 12)),
        effort="quick",
        sigmas=(0.05, 0.2),
        samples=6,
        budget=120,
    )
    other = AuditResult.load(here / "run")
    assert result.measurements == other.measurements
    assert result.recommendation == other.recommendation


def test_a_report_again_is_the_same_file(run, here):
    run(words())
    report = here / "run" / "report.pdf"
    before = report.read_bytes()
    report.unlink()
    assert run(["report", "run"]) == (0, "Report: run/report.pdf\n", "")
    assert report.read_bytes() == before
    assert run(["report", "run", "--output", "copy.pdf"])[0] == 0
    assert (here / "copy.pdf").read_bytes() == before
    code, out, err = run(["report", "run", "--output", "absent/copy.pdf"])
    assert (code, out) == (2, "")
    assert err.startswith("Error: absent/copy.pdf: cannot be written")


@pytest.mark.parametrize("folder", ["absent", ".", "x" * 300])
def test_nothing_to_report(run, folder):
    code, out, err = run(["report", folder])
    assert (code, out) == (2, "")
    assert "no audit.json here" in err


def test_resuming_a_finished_run_and_with_other_settings(run, here):
    run(words())
    before = (here / "run" / "audit.json").read_bytes()
    assert run(words(resume=True))[0] == 1
    assert (here / "run" / "audit.json").read_bytes() == before
    code, out, err = run(words(resume=True, samples=7, seed=3))
    assert (code, out) == (2, "")
    lines = [line for line in err.splitlines() if line.startswith("Error")]
    assert lines == [
        "Error: run: cannot resume with other settings "
        "(bound_draws: 60 → 70; samples: 6 → 7; seed: 0 → 3)."
    ]
    assert "Traceback" not in err
    assert (here / "run" / "audit.json").read_bytes() == before
    code, _, err = run(words())
    assert code == 2
    assert "Use --resume" in err


def test_dry_run_measures_nothing_and_writes_nothing(run, here, monkeypatch):
    monkeypatch.setattr(cli, "execute", None)
    before = sorted(here.iterdir())
    code, out, err = run(words(dry_run=True))
    assert (code, err) == (0, "")
    assert "Evaluations: attack" in out
    assert max(map(len, out.splitlines())) <= 80
    code, out, err = run(words(dry_run=True, json=True))
    assert (code, err) == (0, "")
    forecast = json.loads(out)
    assert forecast["images"] == 12
    assert forecast["evaluations"]["attack"] > forecast["evaluations"]["smoothing"] > 0
    assert run(words(dry_run=True, quiet=True)) == (0, "", "")
    assert sorted(here.iterdir()) == before


@pytest.mark.parametrize(
    ("verdict", "status", "code"),
    [
        ("recommended", "pass", 0),
        ("recommended", "not run", 1),
        ("no_sigma", "fail", 1),
        ("inconclusive", "inconclusive", 1),
    ],
)
def test_exit_codes_of_a_finished_audit(run, here, finished, audited, verdict, status, code):
    criteria = tuple(
        dataclasses.replace(criterion, status=status)
        for criterion in audited.recommendation.criteria
    )
    recommended = {"sigma": 0.05, "sigma_255": 12.75, "sigma_normalized": (0.05,)}
    finished(
        verdict=verdict,
        criteria=criteria,
        **(recommended if verdict == "recommended" else {}),
    )
    assert run(words(quiet=True)) == (code, "", "")
    assert run(words(quiet=True, exit_zero=True, run="again"))[0] == 0


def test_json_is_all_there_is_on_stdout(run, here, finished):
    result = finished(verdict="inconclusive")
    code, out, err = run(words(json=True))
    assert code == 1
    answer = json.loads(out)
    assert answer["verdict"] == "inconclusive"
    assert answer["criteria"] == {c.name: c.status for c in result.recommendation.criteria}
    assert answer["report"] == "run/report.pdf"
    assert "Evaluations" in err
    assert run(words(json=True, quiet=True, run="again"))[2] == ""


@pytest.mark.parametrize(
    ("error", "last"),
    [
        (RuntimeError("a fault"), "Error: a fault of the auditor. Please report the lines above."),
        (KeyboardInterrupt(), "Stopped. The same command with --resume goes on from here."),
        (IncompleteRunError("disk full"), "Error: disk full"),
    ],
    ids=lambda value: type(value).__name__,
)
@pytest.mark.parametrize("exit_zero", [None, True])
def test_a_run_that_is_not_completed(run, monkeypatch, error, last, exit_zero):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(cli, "execute", fail)
    code, out, err = run(words(quiet=True, exit_zero=exit_zero))
    assert (code, out) == (3, "")
    assert err.splitlines()[-1] == last
    assert ("Traceback" in err) == isinstance(error, RuntimeError)


def test_a_report_that_cannot_be_written(run, here, finished, monkeypatch):
    finished()

    def fail(result, path, **_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cli.reports, "write_report", fail)
    code, out, err = run(words(quiet=True))
    assert (code, out) == (3, "")
    assert err.startswith("Error: run/report.pdf: cannot be written (No space left on device).")
    assert "Traceback" not in err


def make(content):
    """How to prepare a file for a case of bad input."""
    if callable(content):
        return content
    return lambda path: path.write_bytes(content)


def pickled_network(path):
    torch.save(torch.nn.Linear(2, 2), path)


def nan_weights(path):
    state = load_file("model.safetensors")
    next(iter(state.values())).view(-1)[0] = torch.nan
    save_file(state, path)


def other_shapes(path):
    save_file({"weight": torch.zeros(3)}, path)


def broken_folder(path):
    path.mkdir()
    (path / "one.png").write_bytes(b"\x89PNG broken")


def unknown_key(path):
    text = (ROOT / "profiles" / "compliance.toml").read_text()
    path.write_text("thresold = 3\n" + text)


@pytest.mark.parametrize(
    ("prepare", "changes", "says"),
    [
        (None, {"model": "absent.py:network"}, "absent.py: no such file"),
        (None, {"model": "net.py:absent"}, "absent"),
        (None, {"model": "network"}, "package.module:factory"),
        (None, {"model": "torchvision:resnet"}, "no classifier of that name"),
        (None, {"weights": "absent.safetensors"}, "absent.safetensors"),
        (b"garbage", {"weights": "bad"}, "bad"),
        (other_shapes, {"weights": "bad"}, "bad"),
        (pickled_network, {"weights": "bad"}, "--trust-pickle"),
        (nan_weights, {"weights": "bad.safetensors"}, "NaN weights"),
        (None, {"model": "net.py:no_gradient", "weights": None}, "no gradient"),
        (None, {"model": "net.py:changing", "weights": None}, "two calls"),
        (None, {"input-size": "1x9x9"}, "rejects"),
        (None, {"input-size": "3x12x12"}, "for a model of (3, 12, 12)"),
        (None, {"input-size": "big"}, "no input size"),
        (None, {"mean": "zero"}, "'zero' is no number"),
        (None, {"mean": ""}, "is no number"),
        (None, {"std": "0"}, "must be positive"),
        (None, {"images": "absent"}, "absent: does not exist"),
        (b"garbage", {"images": "bad.npz"}, "bad.npz: cannot be read"),
        (b"garbage", {"images": "bad.txt"}, "neither a folder nor a known kind of file"),
        (Path.mkdir, {"images": "bad"}, "no readable image"),
        (broken_folder, {"images": "bad"}, "no readable image"),
        (None, {"max-images": "0"}, "--max-images 0"),
        (
            None,
            {"profile": "optimism"},
            "Known profiles: clinical, compliance, debugging, discovery",
        ),
        (unknown_key, {"profile": "bad.toml"}, "unknown key 'thresold'"),
        (b"\xff", {"profile": "bad.toml"}, "not UTF-8"),
        (None, {"sigma": "-0.1"}, "sigma -0.1 is out of range"),
        (None, {"sigma": "0.1,25"}, "sigma 25 is out of range"),
        (None, {"sigma": "nan"}, "'nan' is no number"),
        (None, {"sigma": ""}, "is no number"),
        (None, {"epsilon": "0"}, "epsilon 0 is out of range"),
        (None, {"epsilon": "300"}, "epsilon 300 is out of range"),
        (None, {"epsilon": ""}, "is no number"),
        (None, {"top-k": "0"}, "k 0 is out of range"),
        (None, {"top-k": "144"}, "k 144 is out of range"),
        (None, {"samples": "1"}, "samples 1 is too small"),
        (None, {"samples": "many"}, "Write a number from 2, or auto"),
        (None, {"budget": "0"}, "budget 0 is too small"),
        (None, {"seed": 2**63}, "seed 9223372036854775808 is out of range"),
        (None, {"batch": "0"}, "batch 0 is too small"),
        (None, {"device": "warp"}, "--device warp: there is none here"),
        (None, {"twin": "net.py:network,wieghts=x"}, "unknown key 'wieghts'"),
        (None, {"resume": True}, "no run to resume"),
        (None, {"run": "few.npz/run"}, "cannot be made"),
        (None, {"run": "x" * 300}, "cannot be made"),
        (None, {"run": "net.py"}, "is a file"),
    ],
    ids=lambda value: None if callable(value) or isinstance(value, bytes) else str(value)[:60],
)
def test_bad_input(run, here, prepare, changes, says):
    if prepare is not None:
        make(prepare)(here / next(iter(changes.values())))
    before = sorted(here.rglob("*"))
    code, out, err = run(words(**changes, quiet=True))
    assert (code, out) == (2, "")
    assert says in err
    assert err.startswith("Error: ")
    assert len(err.splitlines()) <= 2
    after = [path for path in here.rglob("*") if "__pycache__" not in path.parts]
    assert sorted(after) == before  # no run folder, nothing half-written


@pytest.mark.parametrize(
    "line",
    [
        words(images=None),
        words(effort="hasty"),
        words(seed=-1),
        words(threads=0),
        [*words(), "--surprise"],
        ["examine"],
        [],
    ],
    ids=str,
)
def test_wrong_usage(run, here, line):
    code, out, err = run(line)
    assert (code, out) == (2, "")
    assert "Usage: auditor" in err
    assert "Traceback" not in err
    assert not (here / "run").exists()


def test_an_existing_folder_is_left_alone(run, here):
    (here / "run").mkdir()
    (here / "run" / "thesis.txt").write_text("years of work")
    code, out, err = run(words())
    assert (code, out) == (2, "")
    assert "not empty" in err
    assert [path.name for path in (here / "run").iterdir()] == ["thesis.txt"]


def test_damaged_images_are_skipped_counted_and_named(run, here, held_out):
    for index, image in enumerate(held_out[0][:3]):
        pixels = (image[0].numpy() * 255).astype(np.uint8)
        (here / "photos").mkdir(exist_ok=True)
        Image.fromarray(pixels).save(here / "photos" / f"{index}.png")
    (here / "photos" / "damaged.png").write_bytes(b"\x89PNG broken")
    code, _, err = run(words(images="photos"))
    assert code == 1
    assert "Skipped damaged.png: " in err
    result = AuditResult.load(here / "run")
    assert result.images.names == ("0.png", "1.png", "2.png")
    assert [name for name, _ in result.images.unreadable] == ["damaged.png"]
    assert result.images.available == 4


def test_a_trusted_pickle_is_read(run, here):
    torch.save(
        {"state_dict": load_file("model.safetensors"), "notes": Path("x")}, here / "model.pt"
    )
    code, _, err = run(words(weights="model.pt", dry_run=True))
    assert code == 2
    assert "--trust-pickle" in err
    assert run(words(weights="model.pt", dry_run=True, trust_pickle=True))[0] == 0


@pytest.mark.parametrize("command", [[], ["audit"], ["attack"], ["report"]], ids=str)
def test_help_names_every_option_and_fits_the_terminal(run, monkeypatch, command):
    monkeypatch.setenv("COLUMNS", "80")
    code, out, err = run([*command, "--help"])
    assert (code, err) == (0, "")
    assert max(map(len, out.splitlines())) <= 80
    group = cli.cli.commands[command[0]] if command else cli.cli
    for parameter in group.params:
        for option in parameter.opts if isinstance(parameter, click.Option) else ():
            assert option in out
    if command != ["report"]:
        assert "2  wrong usage or input" in out


def test_version(run):
    code, out, err = run(["--version"])
    assert (code, err) == (0, "")
    assert auditor.__version__ in out


def kill_after(line, tasks):
    """Run a command, and kill it for good a random moment after so many tasks are on disk."""
    process = subprocess.Popen(
        [sys.executable, "-m", "auditor.cli", *line],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 100
    while len(list(Path("run/tasks").glob("*.npz"))) < tasks:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.005)
    time.sleep(np.random.default_rng(tasks).uniform(0, 0.1))
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL


@pytest.mark.slow
def test_a_run_killed_twice_resumes_to_the_same_audit(run, here):
    line = words(images="digits.npz", sigma="0.05,0.1,0.2", samples=8, budget=120, quiet=True)
    assert run(line)[0] == 1
    whole = (here / "run").rename(here / "whole")
    tasks = len(list((whole / "tasks").iterdir()))
    done: dict[Path, int] = {}
    for moment, options in ((2, []), (5, ["--resume"])):
        kill_after([*line, *options], moment)
        for path, when in done.items():  # nothing is done twice
            assert path.stat().st_mtime_ns == when
        done = {path: path.stat().st_mtime_ns for path in Path("run/tasks").glob("*.npz")}
        assert moment <= len(done) < tasks
        assert not (here / "run" / "audit.json").exists()
    started = json.loads((here / "run" / "run.json").read_text())["fixed"]["created"]

    assert run([*line, "--resume"])[0] == 1
    assert comparable(here / "run") == comparable(whole)
    record = json.loads((here / "run" / "audit.json").read_text())
    assert record["created"] == started
    assert record["command"] == json.loads((whole / "audit.json").read_text())["command"]


def test_a_page_without_plotly_says_what_to_install(run, here, audited, monkeypatch):
    (here / "bare").mkdir()
    (here / "bare" / "audit.json").write_text(audited.to_json(), encoding="utf-8")
    monkeypatch.setitem(sys.modules, "plotly.offline", None)
    code, out, err = run(["report", "bare", "--format", "html"])
    assert (code, out) == (2, "")
    assert "pip install 'attribution-auditor[html]'" in err
    assert not (here / "bare" / "report.html").exists()


def test_several_formats_and_a_run_without_maps(run, here, audited):
    folder = here / "bare"
    folder.mkdir()
    (folder / "audit.json").write_text(audited.to_json(), encoding="utf-8")
    line = ["report", "bare", "--format", "junit", "--format", "markdown"]
    code, out, err = run(line)
    assert (code, out) == (0, "Report: bare/report.xml\nReport: bare/report.md\n")
    assert err == "bare/maps.npz is not there: the report has no pictures.\n"
    assert sorted(p.name for p in folder.iterdir()) == ["audit.json", "report.md", "report.xml"]
    code, _, err = run([*line, "--output", "one"])
    assert code == 2
    assert "give one --format" in err
