from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor

LINE = ["retrain", "--model", "net.py:network", "--input-size", "1x12x12", "--images", "train.npz"]
QUICK = ["--training", "epochs=2,learning_rate=0.1", "--batch", "20"]

FIT = """
import torch
from net import network


def fit(split, seed):
    x, y = split
    torch.manual_seed(seed)
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
    with open("calls.txt", "a") as calls:
        calls.write(f"{len(y)} {seed}\\n")
    return model


def same(split, seed):
    torch.manual_seed(0)
    return network()


def nan(split, seed):
    model = network()
    model[0].weight.data[0] = torch.nan
    return model


def other(split, seed):
    return torch.nn.Linear(2, 2)


def nothing(split, seed):
    return None
"""


@pytest.fixture
def there(here: Path, digits: tuple[Tensor, Tensor]) -> Path:
    """The project, with 300 digits to train on."""
    x, y = digits
    np.savez(here / "train.npz", x=x[800:1100].numpy(), y=y[800:1100].numpy())
    (here / "fit.py").write_text(FIT)
    return here


def manifest(folder: Path) -> list[dict]:
    return json.loads((folder / "auditor-members" / "members.json").read_text())["ensembles"]


def weights(folder: Path, name: str) -> Tensor:
    state = load_file(folder / "auditor-members" / f"{name}.safetensors")
    return torch.cat([value.flatten() for value in state.values()])


def test_settings_are_trained_together_and_named(there, run):
    settings = ["--setting", "dt", "--setting", "seed", "--setting", "dr", "--setting", "finetune"]
    line = [*LINE, *QUICK, *settings, "--variant", "optimizer=adam,learning_rate=0.01"]
    code, out, err = run(line)
    assert code == 0
    assert [group["setting"] for group in manifest(there)] == ["dt", "seed", "dr", "finetune"]
    names = [group["name"] for group in manifest(there)]
    assert names[0] == "DT, disjoint training splits; 2 members of 135 images, seed 10007"
    assert "optimistic" in names[3]
    sizes = [[m["images"] for m in group["members"]] for group in manifest(there)]
    assert sizes == [[135, 135], [270, 270], [270, 270], [135, 135]]
    assert "dt-10007-0: epoch 2 of 2, loss" in err
    assert "seed-10007-1" in out
    assert max(map(len, out.splitlines())) <= 80


def test_more_members_and_shuffles(there, run):
    line = [*LINE, *QUICK, "--members", "3", "--size", "80", "--shuffle", "5678", "--shuffle", "7"]
    assert run(line)[0] == 0
    assert [len(group["members"]) for group in manifest(there)] == [3, 3]
    assert not torch.equal(weights(there, "dt-5678-0"), weights(there, "dt-7-0"))


def test_the_same_seeds_give_the_same_weights(there, run):
    assert run([*LINE, *QUICK])[0] == 0
    first = weights(there, "dt-10007-1")
    assert run([*LINE, *QUICK, "--run", "again", "--setting", "dt"])[0] == 0
    state = load_file(there / "again" / "dt-10007-1.safetensors")
    assert torch.equal(first, torch.cat([value.flatten() for value in state.values()]))
    assert run([*LINE, *QUICK, "--resume"])[0] == 0
    assert torch.equal(first, weights(there, "dt-10007-1"))


def test_the_users_own_training_is_called_once_for_each_member(there, run):
    line = [*LINE, "--train", "fit.py:fit"]
    code, _, err = run(line)
    assert code == 0, err
    assert (there / "calls.txt").read_text().splitlines() == ["135 10007", "135 10008"]
    assert run([*line, "--resume"])[0] == 0
    assert len((there / "calls.txt").read_text().splitlines()) == 2


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--train", "fit.py:same"], "have the same weights"),
        (["--train", "fit.py:nan"], "not finite"),
        (["--train", "fit.py:other"], "not of --model's architecture"),
        (["--train", "fit.py:nothing"], "returned NoneType"),
        (["--train", "fit.py:absent"], "no function 'absent'"),
        (["--members", "1"], "at least two"),
        (["--members", "2", "--size", "136"], "need 272"),
        (["--size", "5"], "has no image of class"),
        (["--setting", "dr"], "give --variant"),
        (["--training", "epoch=1"], "unknown. Known: epochs"),
        (["--training", "epochs=many"], "no number"),
        (["--training", "optimizer=rmsprop"], "adam or sgd"),
        (["--training", "schedule=linear"], "cosine, constant or step"),
        (["--s0", "mnist"], "'mnist' is not one of 'cifar', 'imagenet'"),
        (["--recipe", "natural,filter=median"], "No filter"),
    ],
    ids=lambda value: value if isinstance(value, str) else value[-1],
)
def test_bad_input_is_told_in_two_lines_at_most(arguments, says, there, run):
    code, _out, err = run([*LINE, *arguments])
    assert code == 2
    assert says in err
    assert len([line for line in err.splitlines() if line.startswith("Error")]) == 1
    assert not (there / "auditor-members" / "members.json").exists()


def test_images_without_labels(there, run, digits):
    np.savez(there / "train.npz", x=digits[0][:50].numpy())
    code, _, err = run(LINE)
    assert code == 2
    assert "has no labels" in err


def test_a_loss_that_is_not_finite(there, run):
    code, _, err = run([*LINE, "--training", "learning_rate=1e30,epochs=2"])
    assert code == 3
    assert "Lower the learning rate" in err


def test_an_audit_takes_the_members(there, run):
    assert run([*LINE, *QUICK, "--quiet"])[0] == 0
    model = ["--model", "net.py:network", "--weights", "model.safetensors"]
    line = ["audit", *model, "--input-size", "1x12x12", "--images", "train.npz", "--dry-run"]
    line += ["--max-images", "4", "--effort", "quick", "--json"]
    code, alone, _ = run(line)
    assert code == 0
    code, out, err = run([*line, "--members", "auditor-members"])
    assert code == 0, err
    assert "twin" not in json.loads(alone)["evaluations"]
    assert json.loads(out)["evaluations"]["twin"] > 0


@pytest.mark.slow
def test_a_residual_network_at_224_on_class_folders(here, run):
    factory = "def network():\n    return torchvision.models.resnet18(num_classes=3)\n"
    Path("residual.py").write_text(f"import torchvision\n\n\n{factory}")
    random = np.random.default_rng(0)
    for name, tint in (("blue", 2), ("green", 1), ("red", 0)):
        Path("pictures", name).mkdir(parents=True)
        for number in range(8):
            pixels = random.integers(0, 90, (240, 260, 3), dtype=np.uint8)
            pixels[..., tint] += 160
            Image.fromarray(pixels).save(Path("pictures", name, f"{number}.png"))
    model = ["--model", "residual.py:network", "--images", "pictures", "--input-size", "224"]
    training = ["--training", "epochs=1,batch=4,learning_rate=0.01"]
    code, out, err = run(["retrain", *model, *training, "--setting", "dt", "--setting", "seed"])
    assert code == 0, err
    groups = manifest(Path())
    assert [[m["images"] for m in group["members"]] for group in groups] == [[11, 11], [22, 22]]
    first, second = (weights(Path(), f"seed-10007-{place}") for place in (0, 1))
    assert first.isfinite().all()
    assert not torch.equal(first, second)
    line = ["audit", *model, "--members", "auditor-members", "--effort", "quick", "--dry-run"]
    code, out, err = run([*line, "--json", "--max-images", "4"])
    assert code == 0, err
    assert json.loads(out)["evaluations"]["twin"] > 0
