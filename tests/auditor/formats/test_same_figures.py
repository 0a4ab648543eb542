"""One network through five formats: the same gradients, and the same audit."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

import auditor
from auditor.errors import InputError
from auditor.loading import load_model
from tests.auditor.formats.small import write_all

pytest.importorskip("onnx2torch")

SHAPE = (1, 12, 12)
FORMATS = ("torch.export, fixed batch", "torch.export, free batch", "TorchScript", "ONNX")


@pytest.fixture(scope="module")
def files(tmp_path_factory, networks):
    return write_all(tmp_path_factory.mktemp("files"), networks[0])


def load(spec):
    return load_model(spec, input_size=SHAPE, mean=[0.0], std=[1.0], name="model")


@pytest.fixture(scope="module")
def from_code(classifier, images, tiny):
    return auditor.audit(classifier, images, **tiny)


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("count", [1, 2, 5])
def test_the_same_logits_and_gradients(name, count, files, classifier, held_out):
    def explain(model):
        x = held_out[0][:count].clone().requires_grad_()
        logits = model(x)
        (gradient,) = torch.autograd.grad(logits.amax(dim=1).sum(), x, create_graph=False)
        return logits.detach(), gradient

    (logits, gradient), (truth, expected) = explain(load(files[name])), explain(classifier)
    assert gradient.shape == (count, *SHAPE)
    # float32 sums in another order: a few units in the last place of the largest number.
    torch.testing.assert_close(logits, truth, rtol=0, atol=1e-6 * truth.abs().max().item())
    torch.testing.assert_close(gradient, expected, rtol=0, atol=1e-6 * expected.abs().max().item())


@pytest.mark.parametrize("name", FORMATS)
def test_the_same_audit(name, files, from_code, images, tiny):
    result = auditor.audit(load(files[name]), images, **tiny)
    compared = 0
    for m in from_code.measurements:
        if m.probe == "control" or ("rrs" in m.metric and "RRS" in result.not_applicable):
            continue
        (other,) = result.find(
            probe=m.probe,
            metric=m.metric,
            attack=m.attack,
            sigma=m.sigma,
            epsilon=m.epsilon,
            partner=m.partner,
        )
        a, b = (np.array(found.values, dtype=float) for found in (m, other))
        # A rounding error can decide a tie or a kink, so that two images of twelve may take
        # another path under attack: the tolerance of the batch sizes, too.
        differ = ~np.isclose(a, b, rtol=1e-3, atol=1e-6, equal_nan=True)
        assert differ.sum() <= 2, (m.metric, a[differ], b[differ])
        compared += 1
    assert compared > 100
    # Its control has other random weights than the factory's, whose layers reset themselves.
    assert result.find(probe="control")
    assert set(result.not_applicable) <= {"RRS"}  # the metric that looks into layers


def test_what_a_file_cannot_have_is_not_applicable_with_the_reason(
    networks, images, tiny, tmp_path
):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript is deprecated
        frozen = torch.jit.freeze(torch.jit.trace(networks[0], images.pixels[:2]))
        torch.jit.save(frozen, tmp_path / "frozen.ts")
    result = auditor.audit(load(str(tmp_path / "frozen.ts")), images, **tiny)
    assert set(result.not_applicable) == {"control", "RRS"}
    assert "would stay learned" in result.not_applicable["control"]
    assert any("Not applicable to this model: control" in note for note in result.notes)
    assert not any(cost.probe == "control" for cost in result.costs)
    for option in result.recommendation.options:
        gate = {gate.name: gate for gate in option.gates}["reinitialized"]
        assert gate.passed is None
        assert gate.reason.startswith("Not applicable: ")
    assert auditor.AuditResult.from_json(result.to_json()) == result


def test_batches_that_do_not_fit_are_cut_and_padded(files, classifier, held_out):
    model = load(files["torch.export, fixed batch"])
    assert model.capabilities.batches == (2, 2)
    called = []
    model.network.graph.register_forward_pre_hook(lambda _, inputs: called.append(len(inputs[0])))
    logits = model(held_out[0][:7])
    assert called == [2, 2, 2, 2]
    torch.testing.assert_close(logits, classifier(held_out[0][:7]), rtol=1e-5, atol=1e-5)


def test_the_hash_is_that_of_the_file(files, tmp_path):
    first = load(files["TorchScript"])
    copy = tmp_path / "copy.ts"
    copy.write_bytes(Path(files["TorchScript"]).read_bytes())
    assert load(str(copy)).sha256() == first.sha256()
    assert load(files["ONNX"]).sha256() != first.sha256()
    assert first.identity().format == "TorchScript"


def test_a_free_batch_with_limits(tmp_path, networks, classifier, held_out):
    batch = torch.export.Dim("batch", min=2, max=3)
    program = torch.export.export(networks[0], (held_out[0][:3],), dynamic_shapes=({0: batch},))
    torch.export.save(program, tmp_path / "limits.pt2")
    model = load(str(tmp_path / "limits.pt2"))
    assert model.capabilities.batches == (2, 3)
    for count in (1, 3, 4, 5):
        x = held_out[0][:count]
        torch.testing.assert_close(model(x), classifier(x), rtol=1e-5, atol=1e-5)


class Two(torch.nn.Module):
    def forward(self, x, y):
        return (x + y).flatten(1)


@pytest.mark.parametrize(
    ("network", "inputs", "found"),
    [
        (Two(), (torch.ones(1, 1, 4, 4), torch.ones(1, 1, 4, 4)), "1×1×4×4, 1×1×4×4"),
        (torch.nn.Linear(4, 2), (torch.ones(3, 4),), "3×4"),
    ],
)
def test_programs_that_take_no_image(network, inputs, found, tmp_path):
    torch.export.save(torch.export.export(network, inputs), tmp_path / "other.pt2")
    with pytest.raises(InputError, match=f"takes {found}. Export a network of one tensor"):
        load(str(tmp_path / "other.pt2"))
