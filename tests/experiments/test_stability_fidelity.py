"""Which networks the experiment compares, on pictures made up for it."""

from __future__ import annotations

import dataclasses
import struct

import numpy as np
import pytest
import torch

TRAIN, TEST = 160, 20


@pytest.fixture(scope="module")
def experiment(load_experiment):
    return load_experiment("stability_fidelity")


@pytest.fixture
def data(experiment, tmp_path):
    random = np.random.default_rng(0)
    for part, count in (("train", TRAIN), ("t10k", TEST)):
        pixels = random.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        labels = (np.arange(count) % 10).astype(np.uint8)
        for kind, values in (("images-idx3", pixels), ("labels-idx1", labels)):
            head = struct.pack(f">BBBB{values.ndim}I", 0, 0, 8, values.ndim, *values.shape)
            (tmp_path / f"{part}-{kind}-ubyte").write_bytes(head + values.tobytes())
    scale = dataclasses.replace(experiment.QUICK, sizes=(80, 60), epochs=1, images=4)
    return experiment.FashionMnist(tmp_path, tmp_path / "cache", scale)


def test_the_seed_alone_differs_where_the_data_is_the_same(experiment, data):
    alone, apart = (next(iter(data.ensembles({part}))) for part in ("seed", "dt"))
    assert (alone.setting, alone.name) == ("seed", f"N = 80, seed {experiment.SEEDS[0]}")
    same = [
        [torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True)]
        for one, other in zip(alone.networks, apart.networks, strict=True)
    ]
    assert all(same[0])  # trained once, for both
    assert not any(same[1])
    assert alone.identity != apart.identity
