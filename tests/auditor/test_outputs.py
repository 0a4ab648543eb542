from __future__ import annotations

from collections import OrderedDict, namedtuple
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

import auditor
from auditor.errors import InputError
from auditor.models import from_network
from auditor.outputs import Output, pick
from auditor.preflight import run_preflight

SHAPE = (1, 8, 8)
Pair = namedtuple("Pair", "features logits")


@dataclass
class Answer:
    logits: Tensor
    states: Tensor | None = None


class Returns(nn.Module):
    """A smooth network, and something done to its ``classes`` logits."""

    def __init__(self, wrap=lambda z: z, classes=4):
        super().__init__()
        self.body = nn.Linear(64, classes)
        self.wrap = wrap
        generator = torch.Generator().manual_seed(3)
        with torch.no_grad():
            for p in self.parameters():
                p.copy_(torch.randn(p.shape, generator=generator) / 4)

    def logits(self, x):
        return self.body(x.flatten(1)).tanh() * 3  # bounded: no probability is 0 or 1 in float32

    def forward(self, x):
        return self.wrap(self.logits(x))


def images(count=5, seed=0):
    return torch.rand(count, *SHAPE, generator=torch.Generator().manual_seed(seed))


def model(wrap=lambda z: z, classes=4, **arguments):
    network = Returns(wrap, classes)
    return from_network(network, input_shape=SHAPE, mean=[0.0], std=[1.0], **arguments)


CONTAINERS = [
    (lambda z: (z, z.exp()), "0"),
    (lambda z: [z.exp(), z], "1"),
    (lambda z: {"aux": z.exp(), "main": z}, "main"),
    (lambda z: {"aux": z.exp(), "logits": z}, None),
    (lambda z: {"only": z}, None),
    (lambda z: (z, None), None),
    (lambda z: OrderedDict(logits=z, x=1.0), None),
    (lambda z: Answer(z, z.exp()), None),
    (lambda z: Answer(z.exp(), z), "states"),
    (lambda z: Pair(z.exp(), z), None),
    (lambda z: Pair(z, z.exp()), "features"),
]


@pytest.mark.parametrize(("wrap", "key"), CONTAINERS)
def test_logits_in_a_container(wrap, key):
    found = model(wrap, output=key)
    assert torch.equal(found(images()), model()(images()))
    assert found.classes == 4
    assert found.output.scale == "logits"
    assert [check.name for check in found.remarks] == ([] if key is None else ["output scale"])


@pytest.mark.parametrize(
    ("returned", "key", "says"),
    [
        (torch.ones(1, 2), "logits", "one tensor. Leave --output logits out"),
        ({"a": torch.ones(1, 2), "b": torch.ones(1)}, None, r"a \(1×2\), b \(1\). Choose one"),
        ((torch.ones(1, 2),), "1", "no '1' for --output, but 0"),
        ({}, None, "a dict without tensors"),
        (3.0, None, "a float without tensors"),
        ([torch.ones(1)] * 9, None, "and 3 more"),
    ],
)
def test_containers_that_do_not_tell(returned, key, says):
    with pytest.raises(InputError, match=says) as caught:
        pick(returned, key, name="N")
    assert str(caught.value).startswith("N: ")
    assert len(str(caught.value).splitlines()) == 1


def test_a_softmax_is_taken_back_up_to_a_constant():
    found, plain = model(lambda z: z.softmax(1)), model()
    assert found.output.scale == "softmax"
    # log softmax f = f − log Σ exp f, which is closed form; float32 p has 1e-7 relative error.
    torch.testing.assert_close(found(images()), plain(images()).log_softmax(1), rtol=0, atol=2e-6)
    checks = run_preflight(found, images())
    (note,) = [check for check in checks if check.name == "output scale"]
    assert note.status == "note"
    assert "log p" in note.message


def test_sigmoid_labels_are_taken_back_exactly():
    found, plain = model(torch.sigmoid), model()
    assert found.output.scale == "sigmoid"
    torch.testing.assert_close(found(images()), plain(images()), rtol=0, atol=5e-6)
    assert torch.equal(found(images()).argmax(1), plain(images()).argmax(1))  # the strongest
    assert "strongest label" in found.remarks[-1].message


@pytest.mark.parametrize("wrap", [lambda z: z, lambda z: z[:, 0]], ids=["column", "row"])
def test_one_logit_makes_two_classes(wrap):
    found = model(wrap, classes=1)
    score = Returns(classes=1).logits(images())[:, 0]
    assert found.classes == 2
    torch.testing.assert_close(found(images()).softmax(1)[:, 1], score.sigmoid())
    # Both classes have the same map up to its sign; neither is zero.
    x = images().requires_grad_()
    maps = [torch.autograd.grad(found(x)[:, c].sum(), x)[0] for c in (0, 1)]
    assert maps[1].abs().min() > 0
    torch.testing.assert_close(maps[0], -maps[1])
    assert run_preflight(found, images())


def test_one_probability_makes_two_classes():
    found = model(torch.sigmoid, classes=1)
    plain = model(classes=1)
    assert (found.output.scale, plain.output.scale) == ("sigmoid", "logits")
    torch.testing.assert_close(found(images()), plain(images()), rtol=0, atol=5e-6)


def test_saturated_probabilities_stay_finite():
    output = Output(scale="sigmoid")
    assert output.logits(torch.tensor([[0.0, 1.0, 0.5]])).isfinite().all()
    assert Output(scale="softmax").logits(torch.tensor([[0.0, 1.0]])).isfinite().all()


@pytest.mark.parametrize(
    "wrap",
    [
        lambda z: z,
        lambda z: z.log_softmax(1),
        lambda z: z.abs(),
        lambda z: z / 10 + 0.5,  # in [0, 1] on images, but only because z is small there
        lambda z: z * 0 + 0.5,
    ],
)
def test_what_is_no_probability_is_left_alone(wrap):
    network = Returns(wrap)
    network.logits = lambda x: network.body(x.flatten(1))  # not bounded
    found = from_network(network, input_shape=SHAPE, mean=[0.0], std=[1.0])
    assert found.output.scale == "logits"


def test_outputs_that_leave_the_unit_interval_on_real_images_are_refused():
    found = model(torch.sigmoid)
    found.network.wrap = lambda z: z  # what was seen when loading holds no more
    with pytest.raises(InputError, match="looked like probabilities"):
        run_preflight(found, images())


def test_one_of_several_independent_labels():
    found = model(torch.sigmoid, labels=["sky", "sea", "sun", "sand"])
    asked = found.with_label(2)
    assert (asked.classes, asked.labels) == (2, ("not sun", "sun"))
    assert (found.classes, found.labels[2]) == (4, "sun")  # the other is as it was
    torch.testing.assert_close(asked(images())[:, 1] * 2, found(images())[:, 2])
    assert asked.sha256() == found.sha256()
    with pytest.raises(InputError, match="no label 4"):
        found.with_label(4)
    with pytest.raises(InputError, match="not independent"):
        model().with_label(0)


class Views(nn.Module):
    """The LeNet idiom that channels-last activations break."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.head = nn.Linear(144, 3)

    def forward(self, x):
        x = self.conv(x)
        return self.head(x.view(x.size(0), -1))


def test_a_network_that_flattens_by_view_is_taken():
    network = Views()
    x = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    with pytest.raises(RuntimeError, match="view size"):
        Views().to(memory_format=torch.channels_last)(x)
    found = from_network(network, input_shape=(3, 8, 8), mean=[0.0], std=[1.0])
    torch.testing.assert_close(found(x), network(x))
    assert run_preflight(found, x)


class Shades(nn.Module):
    """Sigmoid labels of an image's mean brightness: 0 dark, 1 bright, 2 always."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor([-8.0, 8.0, 0.5]))
        self.share = nn.Parameter(torch.rand(144, generator=torch.Generator().manual_seed(0)))

    def forward(self, x):
        bright = (x.flatten(1) * self.share).sum(1, keepdim=True) / self.share.sum()
        return torch.sigmoid(self.scale * (bright + bright**2 - 0.7))


def shades(**audit):
    x = torch.rand(12, 1, 12, 12, generator=torch.Generator().manual_seed(5))
    x = (x * torch.linspace(0.2, 1, 12)[:, None, None, None]).clamp(0, 1)
    found = from_network(Shades(), input_shape=(1, 12, 12), mean=[0.0], std=[1.0])
    images = auditor.from_arrays(x, audit.pop("labels", None))
    tiny = {"effort": "quick", "sigmas": (0.1,), "samples": 4, "budget": 80}
    return found, images, auditor.audit(found, images, **tiny, **audit)


def test_an_audit_of_independent_labels():
    found, images, result = shades()
    assert result.images.predicted == tuple(found(images.pixels).argmax(1).tolist())
    # The closed form is for a cross-entropy, which independent labels do not share.
    assert set(result.not_applicable) == {"curvature", "RRS"}
    assert not result.find(probe="curvature")
    assert not any(cost.probe == "curvature" for cost in result.costs)


def test_an_audit_of_one_label_that_the_user_chose():
    found, images, result = shades(target=1, labels=[0, 1] * 6)
    present = found.scores(images.pixels)[:, 1] > 0.5
    assert result.images.predicted == tuple(present.long().tolist())
    assert result.images.labels == (0, 1) * 6
    assert result.model.classes == 2
    assert set(result.not_applicable) == {"RRS"}  # it has no linear layer
    assert result.find(probe="curvature")
    assert {"target": "predicted"}.items() <= {s.name: s.value for s in result.settings}.items()


def test_the_class_that_is_explained(classifier, images, tiny):
    predicted = classifier(images.pixels).argmax(1)
    index = int(predicted[0])
    unlabeled = auditor.from_arrays(images.pixels)
    result = auditor.audit(classifier, unlabeled, target=index, **tiny)
    usable = sorted((*result.images.screen, *result.images.confirm))
    assert usable == [i for i, c in enumerate(predicted.tolist()) if c == index]
    assert result.images.predicted == tuple(predicted.tolist())
    others = 12 - len(usable)
    assert others > 0
    assert any(f"Class {index} is explained. {others} of 12" in note for note in result.notes)
    (m,) = result.find(probe="attack", metric="topk_intersection", attack="topk", sigma=0.0)[:1]
    assert [i for i, v in enumerate(m.values) if v is not None] == usable


def test_the_label_is_explained_where_the_prediction_is_wrong(classifier, images, tiny):
    """The third image is misclassified: only its map may change with the target."""
    by_label = auditor.audit(classifier, images, target="label", **tiny)
    by_prediction = auditor.audit(classifier, images, **tiny)
    assert by_label.images == by_prediction.images
    changed = set()
    for one, two in zip(by_label.measurements, by_prediction.measurements, strict=True):
        if one.metric.startswith("normalized"):  # by the mean over all images
            continue
        if one.attack == "manipulation" or one.metric == "target_cosine":
            continue  # the image before aims at this one's map
        pairs = zip(one.values, two.values, strict=True)
        changed |= {i for i, (a, b) in enumerate(pairs) if a != b}
    assert changed == {2}


@pytest.mark.parametrize(
    ("target", "says"),
    [(10, "classes 0 to 9"), (-1, "classes 0 to 9"), ("best", "not understood")],
)
def test_targets_that_are_none(target, says, classifier, images, tiny):
    with pytest.raises(InputError, match=says):
        auditor.audit(classifier, images, target=target, **tiny)


def test_the_label_needs_labels(classifier, images, tiny):
    with pytest.raises(InputError, match="has no labels"):
        auditor.audit(classifier, auditor.from_arrays(images.pixels), target="label", **tiny)
