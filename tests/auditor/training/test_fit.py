from __future__ import annotations

import pytest
import safetensors
import torch
from torch import Tensor, nn

from auditor.errors import IncompleteRunError, InputError
from auditor.training.ensemble import S0_IMAGENET
from auditor.training.fit import Training
from auditor.training.gaussian_noise import GaussianNoise
from auditor.training.recipe import Natural

SGD = Training(epochs=3, batch=50, optimizer="sgd", learning_rate=0.1, schedule="cosine")
ADAM = Training(epochs=3, batch=50, learning_rate=0.02, weight_decay=1e-4)


class Interrupted(Exception):  # noqa: N818
    pass


def network(seed: int = 0) -> nn.Module:
    """With dropout and batch normalization: random numbers and statistics of their own."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Conv2d(1, 4, 3),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Dropout(0.2),
            nn.Linear(100, 10),
        )


@pytest.fixture(scope="module")
def few(digits: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    return digits[0][:301], digits[1][:301]  # a last batch of one image would have no variance


def run(training, few, *, recipe=None, model=None, seed=0, **given):
    model, (x, y) = model or network(), few
    history = training.run(
        model, x.__getitem__, y, recipe=recipe or GaussianNoise(), seed=seed, **given
    )
    return model, history


def same(a: nn.Module, b: nn.Module) -> bool:
    other = b.state_dict()
    return all(torch.equal(value, other[name]) for name, value in a.state_dict().items())


@pytest.mark.parametrize("training", [SGD, ADAM], ids=["sgd", "adam"])
@pytest.mark.parametrize("stop", [50, 301, 450])
def test_resuming_gives_the_weights_of_a_run_without_interruption(training, stop, few, tmp_path):
    whole, history = run(training, few)
    passed = 0

    def advance(images):
        nonlocal passed
        passed += images
        if passed >= stop:
            raise Interrupted

    place = tmp_path / "checkpoint.safetensors"
    with pytest.raises(Interrupted):
        run(training, few, checkpoint=place, advance=advance)
    torch.manual_seed(99)  # another process has other random numbers
    resumed, again = run(training, few, checkpoint=place)
    assert again == history
    assert same(whole, resumed)


def test_a_finished_training_is_not_repeated(few, tmp_path):
    place = tmp_path / "checkpoint.safetensors"
    trained, _ = run(ADAM, few, checkpoint=place)
    told = []
    again, history = run(ADAM, few, checkpoint=place, watch=told.append, recipe=GaussianNoise())
    assert same(trained, again)
    assert tuple(told) == history


@pytest.mark.parametrize(
    "other",
    [
        {"seed": 1},
        {"recipe": Natural()},
        {"recipe": GaussianNoise(sigma=0.2)},
        {"model": network(1)},
        {"data": "other pixels"},
    ],
    ids=["seed", "recipe", "setting", "weights", "data"],
)
def test_the_checkpoint_of_another_training_is_refused(other, few, tmp_path):
    place = tmp_path / "checkpoint.safetensors"
    run(ADAM, few, checkpoint=place)
    before = place.read_bytes()
    with pytest.raises(InputError, match="another training"):
        run(ADAM, few, checkpoint=place, **other)
    assert place.read_bytes() == before


@pytest.mark.parametrize("content", [b"", b"\0" * 100, b"{}"], ids=["empty", "zeros", "json"])
def test_a_damaged_checkpoint_is_refused(content, few, tmp_path):
    place = tmp_path / "checkpoint.safetensors"
    place.write_bytes(content)
    with pytest.raises(InputError, match="cannot be read"):
        run(ADAM, few, checkpoint=place)


class Exploding(Natural):
    """Fine for an epoch, then not a number."""

    def loss(self, model, x, y, generator):
        good = super().loss(model, x, y, generator)
        return good if good > 1 else good * torch.nan


def test_a_loss_that_becomes_nan_keeps_the_last_good_checkpoint(few, tmp_path):
    place = tmp_path / "checkpoint.safetensors"
    with pytest.raises(IncompleteRunError, match=r"The loss is nan in epoch \d+.*kept"):
        run(ADAM, few, recipe=Exploding(), checkpoint=place)
    with safetensors.safe_open(place, framework="pt") as file:
        kept = [file.get_tensor(name) for name in file.keys() if name.startswith("model.")]  # noqa: SIM118
    assert len(kept) == len(network().state_dict())
    assert all(value.isfinite().all() for value in kept)


class Steep(Natural):
    def loss(self, model, x, y, generator):
        return 1e6 * super().loss(model, x, y, generator)


def test_weights_that_overflow_are_not_kept(few, tmp_path):
    place = tmp_path / "checkpoint.safetensors"
    wild = Training(epochs=1, batch=400, optimizer="sgd", learning_rate=1e38)
    with pytest.raises(IncompleteRunError, match="weight is not finite"):
        run(wild, few, checkpoint=place, recipe=Steep())
    with safetensors.safe_open(place, framework="pt") as file:
        assert file.get_tensor("model.0.weight").isfinite().all()


def test_the_cosine_falls_to_zero_and_every_image_is_seen_once():
    rates = [SGD._rate(step, 30) for step in range(31)]
    assert rates[0] == 0.1
    assert rates[15] == pytest.approx(0.05)
    assert rates[30] == pytest.approx(0)
    seen = []

    def read(rows):
        seen.append(rows)
        return torch.rand(len(rows), 1, 12, 12)

    Training(epochs=1, batch=64).run(
        network(), read, torch.zeros(129, dtype=torch.long), recipe=Natural(), seed=0
    )
    assert [len(rows) for rows in seen] == [43, 43, 43]
    assert torch.cat(seen).sort().values.tolist() == list(range(129))


@pytest.mark.parametrize(
    "settings",
    [
        {"epochs": 0},
        {"batch": 1},
        {"learning_rate": 0},
        {"learning_rate": float("nan")},
        {"momentum": 1},
        {"weight_decay": -1},
    ],
    ids=str,
)
def test_settings_out_of_range_are_refused(settings):
    with pytest.raises(InputError):
        Training(**settings)


@pytest.mark.parametrize("steps", [1, 7])
def test_the_step_schedule_is_that_of_torch(steps):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=S0_IMAGENET.learning_rate)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, step_size=30, gamma=0.1)
    for epoch in range(S0_IMAGENET.epochs):
        for step in range(steps):
            found = S0_IMAGENET._rate(epoch * steps + step, steps * S0_IMAGENET.epochs)
            assert found == pytest.approx(optimizer.param_groups[0]["lr"]), epoch
        optimizer.step()
        schedule.step()
