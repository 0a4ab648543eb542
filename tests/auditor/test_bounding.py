from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import torch
from torch import nn

import auditor
from auditor.bounding import Facts, all_bounds
from auditor.bounds.layers import Chain, read_chain
from auditor.bounds.training import Training
from auditor.plain import build
from auditor.plan import make_plan, request
from auditor.records import Key, Records
from auditor.results import AuditResult, Bound

TRAINING = Training(n=800, T=50, c=0.01, kappa=0.1)


def records() -> Records:
    def at(metric: str, values: list[float], **condition: float) -> tuple[Key, np.ndarray]:
        return Key(probe="bounds", metric=metric, **condition), np.array(values)

    near = {"sigma": 0.1, "radius": 0.05}
    return dict(
        [
            at("certified_overlap", [0.5, np.nan, 0.0], **near),
            at("attacked_overlap", [0.8, np.nan, np.nan], **near),
            at("certified_cosine", [np.nan, np.nan, 0.3], **near),
            at("logit_eigenvalue", [-2.0, np.nan, 1.0]),
            at("logit_residual", [1e-4, np.nan, 1e-5]),
            at("logit_drift", [1.9, np.nan, 3.0]),
            at("map_norm", [4.0, np.nan, 2.0]),
            at("logit_lipschitz", [1.5, np.nan, 0.7], sigma=0.1),
            at("probability_lipschitz", [0.3, np.nan, 0.1], sigma=0.1),
        ]
    )


def chain(network: nn.Module) -> Chain:
    return read_chain(network.eval(), torch.rand(1, 1, 4, 4))


def facts(**changes: object) -> Facts:
    network = nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 3))
    known = Facts(
        records=records(),
        rows=(0, 2),
        measured=(),
        sigma=0.1,
        draws=500,
        k=4,
        shape=(1, 4, 4),
        method="simple_grad",
        chain=chain(network),
        std=(0.5,),
        training=TRAINING,
    )
    return dataclasses.replace(known, **changes)


def named(found: tuple[Bound, ...], name: str) -> Bound:
    return next(bound for bound in found if bound.name == name)


def test_sides_of_a_bracket_meet_in_one_record():
    found = all_bounds(facts())
    overlap = named(found, "topk_certificate")
    assert (overlap.images, overlap.values) == ((0, 2), (0.5, 0.0))
    assert overlap.measured == (0.8, None)
    assert overlap.vacuous == (False, True)
    assert not overlap.crossed
    cosine = named(found, "cosine_certificate")
    assert (cosine.values, cosine.vacuous) == ((None, 0.3), (True, False))
    assert named(found, "logit_curvature").values == (2.0, 1.0)


def test_a_crossed_bracket_shows():
    crossed = records()
    key = Key(probe="bounds", metric="attacked_overlap", sigma=0.1, radius=0.05)
    crossed[key] = np.array([0.4, np.nan, np.nan])
    assert named(all_bounds(facts(records=crossed)), "topk_certificate").crossed == (0,)


def test_every_theorem_is_there_with_its_source():
    found = {b.name: b.source for b in all_bounds(facts()) if "2411.05837" in b.source}
    for name, where in (
        ("stability", "Theorem 5"),
        ("stability_smooth", "Theorem 6"),
        ("stability_integrated", "Theorem D.1"),
        ("stability_convex", "Lemma D.10"),
        ("fidelity", "Proposition 7"),
        ("noisy_loss", "Proposition 1"),
        ("smoothed_logit", "Lemma D.2"),
    ):
        assert found[name].endswith(where)


def test_without_a_training_record_there_are_no_bounds_on_training():
    assert not [b for b in all_bounds(facts(training=None)) if b.name.startswith("stability")]


def test_normalization_counts_as_a_layer():
    known = facts()
    plain, normalized = (
        named(all_bounds(dataclasses.replace(known, std=(std,))), "smoothed_logit").values[0]
        for std in (1.0, 0.1)
    )
    assert normalized == pytest.approx(plain + 1)  # logarithms: ten times as steep


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(16, 16)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        flat = x.flatten(1)
        return flat + self.layer(flat)


@pytest.mark.parametrize(
    ("network", "reason"),
    [(Residual(), "Branches meet at add"), (None, "no code of the network")],
    ids=["residual", "file"],
)
def test_networks_out_of_scope_say_so(network, reason):
    found = all_bounds(facts(chain=None if network is None else chain(network)))
    record = named(found, "layers")
    assert reason in record.note
    assert record.values == (None,)
    assert not [b for b in found if b.log10]


def test_too_few_draws_are_named():
    note = named(all_bounds(facts(draws=3)), "topk_certificate").note
    assert note.startswith("3 draws cannot certify anything here: ")
    assert named(all_bounds(facts(k=9)), "topk_certificate").note.startswith("No certificate: 2k")


def test_an_audit_brackets_what_it_attacks(audited):
    overlap = [b for b in audited.bounds if b.name == "topk_certificate"]
    assert any(v is not None for b in overlap for v in b.measured)
    assert not any(b.crossed for b in audited.bounds if b.name != "logit_curvature")
    # The network has constant terms and kinks: what rests on neither is not met.
    met = {a.text: a.status for b in audited.bounds for a in b.assumptions}
    assert met["Layers have no constant terms (S0 3.1)"] == "not met"
    assert met["The network is a chain of layers (S0 3.1)"] == "met"
    assert audited.gallery["direction"].shape[1:] == (1, 12, 12)
    assert AuditResult.from_json(audited.to_json()).bounds == audited.bounds


def test_a_training_record_is_part_of_the_request(classifier, images, tiny):
    plan = make_plan(classifier, images, training=TRAINING, **tiny)
    assert plan.training == TRAINING
    assert request(plan)["training"] == dataclasses.asdict(TRAINING)
    assert request(make_plan(classifier, images, **tiny))["training"] is None


@pytest.mark.slow
def test_a_training_record_reaches_the_result(classifier, images, tiny):
    result = auditor.audit(classifier, images, training="n=800,T=50,c=0.01", **tiny)
    stability = named(result.bounds, "stability")
    assert stability.vacuous == (True,)
    assert "n = 800, T = 50, c = 0.01" in stability.note


def test_a_chain_survives_its_text():
    found = chain(nn.Sequential(nn.Flatten(), nn.Linear(16, 2)))
    assert build(Chain, json.loads(json.dumps(dataclasses.asdict(found)))) == found
