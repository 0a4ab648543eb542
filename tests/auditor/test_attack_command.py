from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

import auditor
from auditor import attack_command
from auditor.attack_result import STAGES, AttackResult
from auditor.errors import IncompleteRunError
from auditor.probes.natural import CHANGES

USUAL = {
    "model": "net.py:network",
    "weights": "model.safetensors",
    "images": "few.npz",
    "input-size": "1x12x12",
    "mean": "0",
    "std": "1",
    "threads": "1",
    "budget": "20",
    "oracle": "difference",
    "out": "out",
}


def words(**changes):
    """The command line of a usual attack with some options changed, or left out with ``None``."""
    options = USUAL | {name.replace("_", "-"): value for name, value in changes.items()}
    line = ["attack"]
    for name, value in options.items():
        if value is not None:
            line += [f"--{name}"] if value is True else [f"--{name}", str(value)]
    return line


def test_an_attack_from_the_command_line(run, here):
    code, out, err = run(words(epsilon="0.5,4"))
    assert code == 0
    assert max(map(len, out.splitlines())) <= 80
    for text in ("top-20", "random signs", "in 8 bits", "JPEG", "misclassified", "budget 20"):
        assert text in out
    files = [p for p in (here / "out").rglob("*") if p.is_file()]
    assert f"Files: {len(files)} in out" in out
    assert "Done" in err
    result = AttackResult.from_json((here / "out" / "attack.json").read_text())
    assert result.command.startswith("auditor attack --model net.py:network ")
    assert [row.epsilon for row in result.rows] == [0.5, 4.0]
    assert f"{result.rows[1].mean('eight_bits', 'topk_intersection'):.3f}" in out


def test_python_and_the_command_line_find_the_same(run, here):
    assert run(words(attack="rank", top_k=10, seed=3, quiet=True)) == (0, "", "")
    model = auditor.load_model(
        "net.py:network",
        weights="model.safetensors",
        input_size=(1, 12, 12),
        mean=[0.0],
        std=[1.0],
    )
    images = auditor.load_images("few.npz", input_shape=(1, 12, 12), seed=3)
    found = auditor.attack(
        model, images, attack="rank", budget=20, k=10, seed=3, oracle="difference"
    )
    told = AttackResult.from_json((here / "out" / "attack.json").read_text())
    assert told.rows == found.rows


def test_json_is_all_there_is_on_stdout(run, here):
    code, out, _ = run(words(json=True, epsilon="2,8", max_images=5))
    assert code == 0
    answer = json.loads(out)
    assert [row["epsilon"] for row in answer["epsilons"]] == [2, 8]
    for row in answer["epsilons"]:
        assert {"topk_intersection", "center_shift", "cosine", "spearman"} == set(row["attacked"])
        assert set(STAGES) < set(row)
    assert answer["attacked"] + answer["misclassified"] == 5
    assert set(answer["natural"]) == set(CHANGES)
    for change in answer["natural"].values():
        assert {"changed", "topk_intersection", "center_shift", "cosine", "spearman"} == set(change)
    assert answer["folder"] == "out"


def test_towards_a_picture_and_into_a_mask(run, here):
    picture = np.zeros((12, 12), np.uint8)
    picture[3:6] = 255
    Image.fromarray(picture).save(here / "bar.png")
    np.save(here / "mask.npy", picture > 0)
    assert run(words(attack="manipulation", toward="bar.png", quiet=True))[0] == 0
    code, out, _ = run(words(attack="region", toward="mask.npy", out="second"))
    assert code == 0
    assert "region" in out
    assert "Drawn to: mask.npy." in out


def test_the_class_that_is_explained(run, here):
    code, out, _ = run(words(target="3", attack="random-signs", budget=None))
    assert code == 0
    assert "Explained class (--target): 3." in out
    told = AttackResult.from_json((here / "out" / "attack.json").read_text())
    assert told.target == "3"
    others = sum(c != 3 for c, y in zip(told.predicted, told.labels, strict=True) if c == y)
    assert told.another_class == others > 0
    assert f"{others} predicted as another class" in " ".join(out.split())


def test_every_image_misclassified_is_no_failure(run, here):
    with np.load(here / "few.npz") as arrays:
        np.savez(here / "wrong.npz", x=arrays["x"], y=np.full(12, 9))
    code, out, _ = run(words(images="wrong.npz"))
    assert code == 0
    assert "misclassified" in out


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"epsilon": "0"}, "epsilon 0 is out of range"),
        ({"epsilon": "2,256"}, "epsilon 256 is out of range"),
        ({"epsilon": "x"}, "'x' is no number"),
        ({"top-k": "145"}, "k 145 is out of range: a map has 144 pixels"),
        ({"budget": "2"}, "budget 2 is too small for one step"),
        ({"steps": "3"}, "give one of them"),
        ({"samples": "5"}, "give a sigma > 0"),
        ({"attack": "region"}, "region needs a mask"),
        ({"attack": "region", "toward": "absent.png"}, "absent.png: there is no such file"),
        ({"attack": "region", "toward": "net.py"}, "net.py: cannot be used (not an image"),
        ({"attack": "manipulation", "toward": "other.npy"}, "the array is 9×9, maps are 12×12"),
        ({"attack": "manipulation", "toward": "zero.npy"}, "zero everywhere"),
        ({"attack": "manipulation", "max-images": "1"}, "needs a second image"),
        ({"transfer-to": "nosuch"}, "--transfer-to nosuch: not understood"),
        ({"toward": "zero.npy"}, "strongest draws maps to nothing"),
        ({"target": "10"}, "(model.safetensors) has classes 0 to 9"),
        ({"target": "best"}, "--target best: not understood"),
        ({"batch": "0"}, "batch 0 is too small"),
        ({"out": "net.py"}, "is a file"),
        ({"out": "thesis", "overwrite": True}, "holds something else"),
        ({"device": "warp"}, "there is none here"),
        ({"model": "net.py:two_channels", "weights": None, "input-size": "2x12x12"}, "1 or 3"),
    ],
    ids=str,
)
def test_bad_input(run, here, changes, says):
    np.save(here / "other.npy", np.ones((9, 9)))
    np.save(here / "zero.npy", np.zeros((12, 12)))
    (here / "thesis").mkdir()
    (here / "thesis" / "thesis.txt").write_text("years of work")
    if "two_channels" in str(changes):
        (here / "net.py").unlink()
        (here / "net.py").write_text(
            "from torch import nn\n\n\ndef two_channels():\n"
            "    return nn.Sequential(nn.Conv2d(2, 4, 12), nn.Flatten())\n"
        )
        np.savez(here / "two.npz", x=np.random.default_rng(0).random((3, 2, 12, 12)))
        changes = changes | {"images": "two.npz"}
    before = sorted(here.rglob("*"))
    code, out, err = run(words(**changes, quiet=True))
    assert (code, out) == (2, "")
    assert says in err
    assert err.startswith("Error: ")
    assert len(err.splitlines()) <= 2
    assert sorted(p for p in here.rglob("*") if "__pycache__" not in p.parts) == before


@pytest.mark.parametrize(
    "line",
    [words(attack="magic"), words(norm="l1"), words(rule="adam"), words(images=None)],
    ids=lambda line: " ".join(line[-4:]),
)
def test_wrong_usage(run, here, line):
    code, out, err = run(line)
    assert (code, out) == (2, "")
    assert "Usage: auditor attack" in err
    assert not (here / "out").exists()


@pytest.mark.parametrize(
    ("error", "last"),
    [
        (KeyboardInterrupt(), "Error: Stopped. Nothing was written."),
        (IncompleteRunError("disk full"), "Error: disk full"),
        (RuntimeError("fault"), "Error: a fault of the auditor. Please report the lines above."),
    ],
    ids=lambda value: type(value).__name__,
)
@pytest.mark.parametrize("where", ["run_attack", "write_attack"])
def test_an_attack_that_is_not_completed(run, here, monkeypatch, error, last, where):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(attack_command, where, fail)
    code, out, err = run(words(quiet=True))
    assert (code, out) == (3, "")
    assert err.splitlines()[-1] == last
    assert not (here / "out").exists()


def test_an_earlier_attack_is_replaced_only_if_asked(run, here):
    assert run(words(quiet=True))[0] == 0
    code, _, err = run(words(quiet=True))
    assert code == 2
    assert "--overwrite" in err
    assert run(words(quiet=True, overwrite=True, epsilon="3"))[0] == 0
    told = AttackResult.from_json((here / "out" / "attack.json").read_text())
    assert [row.epsilon for row in told.rows] == [3.0]


def test_damaged_images_are_skipped_and_named(run, here, held_out):
    (here / "photos").mkdir()
    for index, image in enumerate(held_out[0][:3]):
        pixels = (image[0].numpy() * 255).astype(np.uint8)
        Image.fromarray(pixels).save(here / "photos" / f"{index}.png")
    (here / "photos" / "damaged.png").write_bytes(b"\x89PNG broken")
    code, out, err = run(words(images="photos"))
    assert code == 0
    assert "Skipped damaged.png: " in err
    assert "rounded before" not in out  # 8-bit files are attacked as they are
    for index in range(3):  # and the reference is the file that was given
        given, clean = here / "photos" / f"{index}.png", here / "out/images" / f"{index}-clean.png"
        np.testing.assert_array_equal(np.asarray(Image.open(given)), np.asarray(Image.open(clean)))
