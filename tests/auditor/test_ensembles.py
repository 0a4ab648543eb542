from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from auditor.engine import audit
from auditor.ensembles import SETTINGS, Ensemble, manifest, of_twins, read_members
from auditor.errors import InputError
from auditor.gallery import PAIRS
from auditor.metrics.views import magnitude
from auditor.statistics import paired_test
from tests.auditor.conftest import TINY, wrap


@pytest.fixture(scope="module")
def measured(classifier, twin, images):
    """Two ensembles: the model with its twin, and with another one beside."""
    other = wrap(twin.network, "same again")
    ensembles = (Ensemble(name="DT", members=(0, 1)), Ensemble(name="three", members=(0, 1, 2)))
    return audit(classifier, images, twins=[twin, other], ensembles=ensembles, **TINY)


@pytest.mark.parametrize("metric", ["stability_error", "normalized_stability_error", "ssim"])
@pytest.mark.parametrize("sigma", [0.0, 0.2])
def test_an_ensemble_of_two_is_measured_as_the_twin_is(measured, metric, sigma):
    (pair,) = measured.find(probe="twin", partner="twin", metric=metric, sigma=sigma)
    (found,) = measured.find(probe="ensemble", partner="DT", metric=metric, sigma=sigma)
    assert found.values == pytest.approx(pair.values)


def test_of_three_members_two_are_the_same(measured):
    def values(name):
        (found,) = measured.find(
            probe="ensemble", partner=name, metric="stability_error", sigma=0.0
        )
        return found.values

    assert values("three") == pytest.approx([2 / 3 * value for value in values("DT")], rel=1e-5)


def test_agreement_and_accuracy_are_told(measured):
    (pair,) = measured.find(probe="twin", partner="twin", metric="agreement")
    (found,) = measured.find(probe="ensemble", partner="DT", metric="agreement")
    assert found.values == pair.values
    (own,) = measured.find(probe="ensemble", partner="model", metric="accuracy")
    assert own.estimate.mean == pytest.approx(11 / 12)
    assert measured.find(probe="ensemble", partner="twin", metric="accuracy")


def test_smoothing_is_tested_against_none(measured):
    rows = [c for c in measured.comparisons if c.metric == "ssim"]
    assert [(c.partner, c.sigma) for c in rows] == [
        (name, sigma) for sigma in (0.05, 0.2) for name in ("DT", "three")
    ]
    (plain,) = measured.find(probe="ensemble", partner="DT", metric="ssim", sigma=0.0)
    (smooth,) = measured.find(probe="ensemble", partner="DT", metric="ssim", sigma=0.2)
    (row,) = [c for c in rows if c.partner == "DT" and c.sigma == 0.2]
    assert row.p_value == paired_test(smooth.values, plain.values)
    assert row.p_value <= row.adjusted <= min(1.0, 4 * row.p_value)
    assert row.change.mean == pytest.approx(smooth.estimate.mean - plain.estimate.mean)


def test_the_worst_images_are_kept_with_both_members_maps(measured, classifier, twin, images):
    (found,) = measured.find(probe="ensemble", partner="three", metric="stability_error", sigma=0.0)
    gallery = measured.gallery
    index = gallery["member_index"].astype(int)
    assert index.shape == (2, PAIRS)
    assert sorted(np.array(found.values)[index[1]]) == sorted(found.values)[-PAIRS:]
    assert gallery["member_place"].tolist() == [[0, 1], [0, 1]]
    assert gallery["member_sigma"] == pytest.approx(measured.recommendation.considered or 0.2)
    x = images.batch(index[0].tolist())
    np.testing.assert_array_equal(gallery["member_image"][0], x)
    target = classifier(x).argmax(dim=1)
    for place, model in enumerate((classifier, twin)):
        x.requires_grad_(True)
        score = model(x).gather(1, target[:, None]).sum()
        plain = magnitude(torch.autograd.grad(score, x)[0])
        np.testing.assert_allclose(gallery["member_maps"][0, :, 0, place], plain, rtol=1e-4)


SPOILT = {
    "another audit": ("member_index", lambda index: index + 100),
    "no such twin": ("member_place", lambda place: place + 2),
    "shape": ("member_maps", lambda maps: maps[:, :1]),
    "too few": ("member_image", lambda images: images[:1]),
}


@pytest.mark.parametrize(("name", "spoil"), SPOILT.values(), ids=SPOILT)
def test_pictures_of_members_that_are_not_of_this_audit(name, spoil, measured, tmp_path):
    maps = tmp_path / "maps.npz"
    np.savez(maps, **measured.gallery)
    bare = dataclasses.replace(measured, gallery={})
    assert set(bare.with_maps(maps).gallery) == set(measured.gallery)
    np.savez(maps, **measured.gallery | {name: spoil(measured.gallery[name])})
    with pytest.raises(InputError, match="not the pictures of this audit"):
        bare.with_maps(maps)


@pytest.mark.parametrize(
    ("ensembles", "says"),
    [
        ([Ensemble(name="a", members=(1,))], "two or more places"),
        ([Ensemble(name="a", members=(0, 5))], "two or more places"),
        ([Ensemble(name="a", members=(0, 1)), Ensemble(name="a", members=(1, 0))], "two ensembles"),
    ],
    ids=["one member", "no such twin", "same name"],
)
def test_ensembles_that_are_none(ensembles, says, classifier, twin, images):
    with pytest.raises(InputError, match=f"(?i){says}"):
        audit(classifier, images, twins=[twin], ensembles=ensembles, **TINY)


def test_twins_of_one_setting_belong_together():
    found = of_twins(["da", None, "dt", "da"])
    assert [(one.name, one.members) for one in found] == [
        (SETTINGS["da"], (0, 1, 4)),
        (SETTINGS["dt"], (0, 3)),
    ]
    with pytest.raises(InputError, match="setting=xy: unknown"):
        of_twins(["xy"])


@pytest.fixture
def folder(tmp_path, networks):
    for name, network in zip(("a", "b"), networks, strict=True):
        save_file(network.state_dict(), tmp_path / f"{name}.safetensors")
    write(tmp_path, ["a.safetensors", "b.safetensors"])
    return tmp_path


def write(folder, files, name="DT of 2"):
    group = {"name": name, "members": [{"weights": file} for file in files]}
    (folder / "members.json").write_bytes(manifest([group]))


def test_members_are_read_from_their_folder(folder, classifier, twin):
    members, (ensemble,) = read_members(folder, like=classifier, first=3)
    assert [member.name for member in members] == ["a", "b"]
    assert ensemble == Ensemble(name="DT of 2", members=(3, 4))
    assert members[1].sha256() == twin.sha256()


HOSTILE = {
    "elsewhere": lambda folder: write(folder, ["../a.safetensors", "b.safetensors"]),
    "a pickle": lambda folder: write(folder, ["a.pt", "b.safetensors"]),
    "no text": lambda folder: write(folder, [1, 2]),
    "no list": lambda folder: (folder / "members.json").write_text('{"ensembles": 3}'),
    "no object": lambda folder: (folder / "members.json").write_text("[]"),
    "deep": lambda folder: (folder / "members.json").write_text("[" * 100_000),
    "nothing": lambda folder: (folder / "members.json").write_text(json.dumps({"ensembles": []})),
    "name": lambda folder: write(folder, ["a.safetensors", "b.safetensors"], name={}),
}


@pytest.mark.parametrize("damage", HOSTILE.values(), ids=HOSTILE)
def test_a_manifest_that_is_none(damage, folder, classifier):
    damage(folder)
    with pytest.raises(InputError, match=r"members\.json: not understood"):
        read_members(folder, like=classifier, first=1)


@pytest.mark.parametrize(
    ("files", "says"),
    [
        (["a.safetensors"], "at least two"),
        (["a.safetensors", "a.safetensors"], None),
        (["a.safetensors", "gone.safetensors"], "no such file"),
    ],
    ids=["one", "twice", "missing"],
)
def test_members_that_cannot_be_compared(files, says, folder, classifier):
    if says is None:
        (folder / "c.safetensors").write_bytes((folder / "a.safetensors").read_bytes())
        files, says = ["a.safetensors", "c.safetensors"], "same weights"
    write(folder, files)
    with pytest.raises(InputError, match=says):
        read_members(folder, like=classifier, first=1)


def test_no_manifest(tmp_path, classifier):
    with pytest.raises(InputError, match="Make it with auditor retrain"):
        read_members(tmp_path, like=classifier, first=1)
