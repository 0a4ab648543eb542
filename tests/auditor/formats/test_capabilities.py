from __future__ import annotations

import dataclasses

import pytest

from auditor.capabilities import Ability
from tests.auditor.formats import small

for extra in ("onnx2torch", "timm", "transformers"):
    pytest.importorskip(extra)

FORMATS = (
    *("factory", "torchvision", "timm", "Hugging Face"),
    *("torch.export, fixed batch", "torch.export, free batch", "TorchScript", "ONNX"),
)


@pytest.fixture(scope="module")
def classifiers(tmp_path_factory):
    return small.load_all(tmp_path_factory.mktemp("formats"))


@pytest.fixture(scope="module")
def measured(classifiers):
    return {name: small.measure(classifier) for name, classifier in classifiers.items()}


@pytest.mark.parametrize("name", FORMATS)
def test_what_the_engine_goes_by_is_what_is_measured(name, classifiers, measured):
    assert small.declared(classifiers[name]) == measured[name]


def test_the_table_in_the_docs_is_measured(measured):
    """Refresh with: python -m tests.auditor.formats.small."""
    assert set(measured) == set(FORMATS)
    assert small.table_in_docs() == small.table(measured)


@pytest.mark.parametrize("name", FORMATS)
def test_what_cannot_be_done_has_a_reason(name, classifiers):
    can = classifiers[name].capabilities
    abilities = [v for v in vars(can).values() if isinstance(v, Ability)]
    assert len(abilities) == 5
    for ability in abilities:
        assert ability.able == (not ability.reason)
    assert (can.surrogate == "none") == bool(can.surrogate_reason)


def test_the_record_is_frozen(classifiers):
    with pytest.raises(dataclasses.FrozenInstanceError):
        classifiers["ONNX"].capabilities.surrogate = "none"
