from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from auditor.records import Key, Records, book
from auditor.store import RunFolder

# Not the empty name, which stands for none; surrogates cannot be encoded in a file name.
NAMES = st.text(
    st.sampled_from("|/%25CF.a é") | st.characters(exclude_categories=["Cs"]), min_size=1
)
KEYS = st.builds(
    Key,
    probe=st.sampled_from(["smoothing", "attack"]),
    metric=st.sampled_from(["ssim", "topk_iou"]),
    partner=st.none() | NAMES,
    sigma=st.none() | st.floats(0, 1),
    epsilon=st.none() | st.floats(0, 255),
    attack=st.none() | st.sampled_from(["strongest", "random_signs"]),
    radius=st.none() | st.floats(0, 1),
)


@given(KEYS)
def test_a_key_survives_its_text(key):
    text = key.encode()
    assert Key.decode(text) == key
    assert "/" not in text  # it names a file in an archive


@given(KEYS, KEYS)
def test_different_keys_have_different_texts(one, other):
    assert (one == other) == (one.encode() == other.encode())


def test_keys_survive_an_archive(tmp_path):
    names = ["twin", "twin.npy", "../up", "a|b", "100%", "%2F", "..", "zwei Wörter"]
    keys = [Key(probe="twin", metric="ssim", partner=name) for name in names]
    folder = RunFolder(tmp_path)
    folder.save("task", {key.encode(): np.array([i]) for i, key in enumerate(keys)})
    loaded = {Key.decode(name): values for name, values in folder.load("task").items()}
    assert loaded == {key: np.array([i]) for i, key in enumerate(keys)}


def test_book_adds_every_metric_under_the_condition():
    records: Records = {}
    values = {"ssim": torch.tensor([0.5, torch.nan]), "l2": torch.tensor([1.0, 2.0])}
    book(records, values, probe="twin", sigma=0.1, partner="b")
    l2 = records[Key(probe="twin", metric="l2", sigma=0.1, partner="b")]
    assert (len(records), l2.dtype, l2.tolist()) == (2, np.float64, [1.0, 2.0])
