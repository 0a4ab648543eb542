"""Every method of the registry against peer libraries, closed forms and differences."""

from __future__ import annotations

from contextlib import nullcontext
from functools import partial

import pytest
import torch
from captum import attr
from pytorch_grad_cam import GradCAM, GradCAMPlusPlus
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import Tensor, nn

from attacks import (
    Boundary,
    Difference,
    DifferencePullback,
    DoubleBackward,
    RandomSearch,
    Surrogate,
)
from auditor.attributions.noise import Noise, spread
from auditor.attributions.path import made_of_gradients
from auditor.attributions.registry import find_method
from auditor.attributions.traced import NotApplicableError
from auditor.evaluation import Evaluator
from auditor.probes.suite import aim, strongest

SHAPE = (3, 12, 12)


class Net(nn.Module):
    """Convolutions, pooling, a nonlinearity of choice and one that is used once only."""

    def __init__(self, activation: type[nn.Module]) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.one = activation()
        self.pool = nn.MaxPool2d(2)
        self.second = nn.Conv2d(8, 10, 3, padding=1)
        self.two = activation()
        self.head = nn.Linear(10 * 36, 4)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.two(self.second(self.pool(self.one(self.first(x)))))
        return self.head(hidden.flatten(1))


class Smooth(nn.Module):
    """No kink anywhere, float64, with pooling by the mean and a ramp that is curved."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, 6, 3, padding=1),
            nn.Softplus(),
            nn.AvgPool2d(2),
            nn.Conv2d(6, 6, 3, padding=1),
            nn.Tanh(),
            nn.Flatten(),
            nn.Linear(6 * 36, 4),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


def made(kind, *arguments, dtype=torch.float64, scale=2.0) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = kind(*arguments).to(dtype).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(scale)
    return model.requires_grad_(False)


@pytest.fixture
def x() -> Tensor:
    return torch.rand(3, *SHAPE, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


TARGET = torch.tensor([0, 1, 3])


def explained(spec: str, model: nn.Module, x: Tensor, batch: int = 2) -> Tensor:
    evaluator = Evaluator(model=model, batch=batch)
    maps, logits = find_method(spec)(evaluator, x, TARGET, images=range(len(x)), draw=0)
    torch.testing.assert_close(logits, model(x))
    return maps


@pytest.mark.parametrize("activation", [nn.ReLU, nn.Sigmoid], ids=["relu", "sigmoid"])
@pytest.mark.parametrize(
    ("spec", "peer", "arguments"),
    [
        ("grad_x_input", attr.InputXGradient, {}),
        ("integrated_gradients,points=7", attr.IntegratedGradients, {"n_steps": 7}),
        (
            "integrated_gradients,points=7,rule=midpoint",
            attr.IntegratedGradients,
            {"n_steps": 7, "method": "riemann_middle"},
        ),
        (
            "integrated_gradients,points=7,rule=left",
            attr.IntegratedGradients,
            {"n_steps": 7, "method": "riemann_left"},
        ),
        (
            "integrated_gradients,points=7,rule=right",
            attr.IntegratedGradients,
            {"n_steps": 7, "method": "riemann_right"},
        ),
    ],
)
@pytest.mark.filterwarnings("ignore:Setting forward, backward hooks")
@pytest.mark.filterwarnings("ignore:Input Tensor 0 did not already require gradients")
def test_maps_are_those_of_captum(spec, peer, arguments, activation, x):
    model = made(Net, activation)
    oracle = peer(model).attribute(x, target=TARGET, **arguments)
    torch.testing.assert_close(explained(spec, model, x), oracle)


@pytest.mark.filterwarnings("ignore:Setting backward hooks on ReLU")
@pytest.mark.filterwarnings("ignore:Input Tensor 0 did not already require gradients")
def test_guided_backpropagation_is_that_of_captum(x):
    model = made(Net, nn.ReLU)
    oracle = attr.GuidedBackprop(model).attribute(x, target=TARGET)
    torch.testing.assert_close(explained("guided_backprop", model, x), oracle)
    assert not torch.allclose(oracle, explained("simple_grad", model, x))


@pytest.mark.filterwarnings("ignore:Setting forward, backward hooks")
@pytest.mark.filterwarnings("ignore:Input Tensor 0 did not already require gradients")
@pytest.mark.parametrize("baseline", ["mean", "blurred"])
def test_other_baselines_are_those_of_captum_from_there(baseline, x):
    model = made(Net, nn.ReLU)
    start = explained_baseline(baseline, x)
    oracle = attr.IntegratedGradients(model).attribute(x, start, target=TARGET, n_steps=9)
    found = explained(f"integrated_gradients,points=9,baseline={baseline}", model, x)
    torch.testing.assert_close(found, oracle)


class Spaced(nn.Module):
    """As Net, but a convolution between pooling and each nonlinearity: captum needs that."""

    def __init__(self, activation: type[nn.Module]) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, 8, 3),
            nn.MaxPool2d(3, stride=3),
            nn.Conv2d(8, 8, 2),
            activation(),
            nn.Conv2d(8, 8, 1),
            nn.Flatten(),
            nn.Linear(32, 4),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


@pytest.mark.filterwarnings("ignore:Setting forward, backward hooks")
@pytest.mark.filterwarnings("ignore:Input Tensor 0 did not already require gradients")
@pytest.mark.parametrize("baseline", ["black", "mean", "blurred"])
@pytest.mark.parametrize("activation", [nn.ReLU, nn.Sigmoid, nn.Tanh, nn.ELU])
def test_deep_lift_is_that_of_captum_where_that_adds_up(activation, baseline, x):
    model = made(Spaced, activation)
    start = torch.zeros_like(x) if baseline == "black" else explained_baseline(baseline, x)
    oracle = attr.DeepLift(model).attribute(x, start, target=TARGET)
    torch.testing.assert_close(explained(f"deep_lift,baseline={baseline}", model, x), oracle)


@pytest.mark.parametrize("baseline", ["black", "mean", "blurred"])
@pytest.mark.parametrize("activation", [nn.ReLU, nn.ReLU6, nn.GELU, nn.Hardswish])
def test_deep_lift_adds_up_to_the_change_of_the_logit(activation, baseline, x):
    model = made(Net, activation)
    start = torch.zeros_like(x) if baseline == "black" else explained_baseline(baseline, x)
    change = (model(x) - model(start)).gather(1, TARGET[:, None])[:, 0]
    found = explained(f"deep_lift,baseline={baseline}", model, x)
    torch.testing.assert_close(found.flatten(1).sum(dim=1), change, rtol=1e-4, atol=1e-6)


def explained_baseline(name: str, x: Tensor) -> Tensor:
    """Baselines by other means: a constant image, and the blur as a sum over all pixels."""
    if name == "mean":
        return torch.ones_like(x) * x.flatten(2).mean(dim=2)[:, :, None, None]
    side, std = 12, 12 / 20
    rows, columns = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    out = torch.empty_like(x)
    for i in range(side):
        for j in range(side):
            weight = torch.exp(-((rows - i) ** 2 + (columns - j) ** 2).double() / (2 * std**2))
            out[:, :, i, j] = (x * weight).sum(dim=(2, 3)) / weight.sum()
    return out


@pytest.mark.parametrize("baseline", ["black", "mean", "blurred"])
def test_integrated_gradients_add_up_to_the_change_of_the_logit_on_a_smooth_network(baseline, x):
    model = made(Smooth)
    start = torch.zeros_like(x) if baseline == "black" else explained_baseline(baseline, x)
    change = (model(x) - model(start)).gather(1, TARGET[:, None])[:, 0]
    found = explained(f"integrated_gradients,points=20,baseline={baseline}", model, x)
    torch.testing.assert_close(found.flatten(1).sum(dim=1), change, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("layer", ["", "first"])
@pytest.mark.parametrize(
    ("name", "peer"), [("grad_cam", GradCAM), ("grad_cam_pp", GradCAMPlusPlus)]
)
def test_cams_are_those_of_pytorch_grad_cam_up_to_its_scaling(name, peer, layer, x):
    model = made(Net, nn.ReLU, dtype=torch.float32, scale=1.0)
    model.head.weight.mul_(1000)  # pytorch-grad-cam adds 1e-6 to squares of the gradient
    x = x.float()
    found = explained(f"{name},layer={layer}" if layer else name, model, x).sum(dim=1)
    targets = [ClassifierOutputTarget(int(c)) for c in TARGET]
    with peer(model=model, target_layers=[getattr(model, layer or "second")]) as cam:
        oracle = torch.from_numpy(cam(input_tensor=x.requires_grad_(), targets=targets))
    lowest, highest = (getattr(found.flatten(1), end)(dim=1).values for end in ("min", "max"))
    scaled = (found - lowest[:, None, None]) / (highest - lowest)[:, None, None]
    torch.testing.assert_close(scaled, oracle, rtol=1e-3, atol=2e-3)


def test_grad_cam_is_that_of_captum_unscaled(x):
    model = made(Net, nn.ReLU)
    heat = attr.LayerGradCam(model, model.second).attribute(
        x, target=TARGET, relu_attributions=True
    )
    oracle = attr.LayerAttribution.interpolate(heat, SHAPE[1:], "bilinear")
    torch.testing.assert_close(explained("grad_cam", model, x).sum(dim=1), oracle[:, 0])


def test_grad_cam_of_an_in_place_activation_looks_at_the_convolution_itself(x):
    inside = made(Net, nn.ReLU)
    inside.two.inplace = inside.one.inplace = True
    apart = made(Net, nn.ReLU)
    torch.testing.assert_close(explained("grad_cam", inside, x), explained("grad_cam", apart, x))


def test_guided_backpropagation_takes_relu6_for_a_ramp_too(x):
    """Small weights, so that nothing reaches 6."""
    model = made(Net, nn.ReLU, scale=0.5)
    oracle = explained("guided_backprop", model, x)
    torch.testing.assert_close(
        explained("guided_backprop", made(Net, nn.ReLU6, scale=0.5), x), oracle
    )


GENTLE = [
    "simple_grad",
    "grad_x_input",
    "smooth_grad,samples=4",
    "uniform_grad,samples=4",
    "uniform_grad,samples=4,shape=ball",
    *(f"integrated_gradients,points=3,baseline={base}" for base in ("black", "mean", "blurred")),
    "smooth_integrated_gradients,samples=4,baseline=blurred",
    "grad_cam",
    "grad_cam_pp",
    *(f"deep_lift,baseline={base}" for base in ("black", "blurred")),
]


@pytest.mark.parametrize(
    ("spec", "smooth"),
    [
        *((spec, True) for spec in GENTLE),
        *((spec, False) for spec in GENTLE),
        ("guided_backprop", False),
        ("smooth_guided_backprop,samples=4", False),
    ],
)
def test_pullback_agrees_with_differences_of_the_map(spec, smooth, x):
    """On a smooth network, and on the smooth twin of one with kinks."""
    model = made(Smooth) if smooth else made(Net, nn.ReLU)
    around = nullcontext if smooth else partial(Surrogate, 10.0)
    evaluator = Evaluator(model=model, batch=2, around=around)
    method = find_method(spec)
    generator = torch.Generator().manual_seed(2)
    v, u = (torch.randn(x.shape, generator=generator, dtype=x.dtype) for _ in range(2))
    asked = {"images": range(3), "draw": 1}
    bent = method.pullback(evaluator, x, TARGET, v, **asked)
    h = 1e-6
    ahead, behind = (method(evaluator, x + s * h * u, TARGET, **asked)[0] for s in (1, -1))
    measured = ((ahead - behind) * v).flatten(1).sum(dim=1) / (2 * h)
    exact = (bent * u).flatten(1).sum(dim=1)
    torch.testing.assert_close(exact, measured, rtol=1e-5, atol=1e-6)
    assert exact.abs().max() > 1e-4


@pytest.mark.parametrize("spec", [*GENTLE, "smooth_guided_backprop,samples=4", "guided_backprop"])
def test_a_map_does_not_depend_on_its_batch(spec, x):
    model = made(Net, nn.ReLU)
    whole = explained(spec, model, x, batch=16)
    method, evaluator = find_method(spec), Evaluator(model=model, batch=1)
    alone, _ = method(evaluator, x[1:2], TARGET[1:2], images=[1], draw=0)
    torch.testing.assert_close(whole[1:2], alone)


def test_joint_draws_come_to_the_mean_of_integrated_gradients(x):
    """Against many draws of noise with many points each, within the error of both."""
    model = made(Smooth)
    joint = explained("smooth_integrated_gradients,samples=4000,sigma=0.2", model, x, batch=600)
    z = torch.randn((300, *x.shape), generator=torch.Generator().manual_seed(5), dtype=x.dtype)
    method = find_method("integrated_gradients,points=6")
    evaluator = Evaluator(model=model, batch=600)
    noisy = (x + 0.2 * torch.cat([z, -z])).flatten(0, 1)
    each, _ = method(evaluator, noisy, TARGET.repeat(600), images=range(len(noisy)), draw=0)
    oracle = each.unflatten(0, (600, 3)).mean(dim=0)
    assert (joint - oracle).norm() < 0.05 * oracle.norm()
    plain = explained("integrated_gradients", model, x)
    # Closer to the mean over the noise than the maps without noise are.
    assert (joint - oracle).norm() < 0.5 * (plain - oracle).norm()


@pytest.mark.parametrize(("shape", "moment"), [("box", 1 / 3), ("ball", 48 / 50)])
def test_uniform_noise_fills_its_set_evenly(shape, moment):
    z = Noise(seed=0, stream=0, sampler="iid").draw([0, 1], (3, 4, 4), first=0, count=4000)
    found = spread(z, shape).flatten(2)
    assert found.square().mean() == pytest.approx(moment, rel=0.02)
    if shape == "box":
        assert found.abs().max() <= 1
    else:
        # The share within radius r is rᵈ.
        inside = (found.norm(dim=2) / 48**0.5).pow(48)
        assert inside.max() <= 1 + 1e-5
        assert inside.quantile(torch.tensor([0.1, 0.5, 0.9])).tolist() == pytest.approx(
            [0.1, 0.5, 0.9], abs=0.02
        )


class Attentive(nn.Module):
    """Tokens of a square grid behind a class token, and attention."""

    def __init__(self) -> None:
        super().__init__()
        self.cut = nn.Conv2d(3, 8, 3, stride=3)
        self.norm = nn.LayerNorm(8)
        self.block = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, activation="gelu")
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.cut(x).flatten(2).transpose(1, 2)
        tokens = torch.cat([tokens.mean(dim=1, keepdim=True), tokens], dim=1)
        return self.head(self.block(self.norm(tokens)).mean(dim=1))


def test_grad_cam_of_tokens_leaves_the_class_token_out(x):
    model = made(Attentive, scale=1.0)
    found = explained("grad_cam,layer=norm", model, x).sum(dim=1, keepdim=True)
    seen = []
    handle = model.norm.register_forward_hook(lambda _, __, out: seen.append(out))
    logits = model(x.requires_grad_())
    handle.remove()
    (slope,) = torch.autograd.grad(logits.gather(1, TARGET[:, None]).sum(), seen[0])
    heat = (seen[0][:, 1:] * slope[:, 1:].mean(dim=1, keepdim=True)).sum(dim=2).clamp_min(0)
    oracle = nn.functional.interpolate(
        heat.detach().reshape(3, 1, 4, 4), size=(12, 12), mode="bilinear"
    )
    torch.testing.assert_close(found, oracle)


@pytest.mark.parametrize(
    "spec",
    [
        "grad_x_input",
        "integrated_gradients,points=2",
        "smooth_grad,samples=2",
        "grad_cam",
        "deep_lift",
    ],
)
def test_attention_has_a_second_derivative(spec, x):
    evaluator = Evaluator(model=made(Attentive, scale=1.0), batch=4)
    v = torch.ones_like(x)
    bent = find_method(spec).pullback(evaluator, x, TARGET, v, images=range(3), draw=0)
    assert bent.isfinite().all()
    assert bent.norm() > 0


def linear() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(432, 4, dtype=torch.float64))


@pytest.mark.parametrize(
    ("spec", "model", "reason"),
    [
        ("grad_cam", linear(), "the model has no convolution that sees more than one place"),
        ("grad_cam_pp", lambda x: linear()(x), "the model is a function, without layers"),
        ("grad_cam,layer=nose", made(Net, nn.ReLU), "Net has no layer 'nose'"),
        ("grad_cam,layer=head", made(Net, nn.ReLU), "which is no grid of places"),
        ("guided_backprop", made(Smooth), "the model has no ReLU"),
        ("smooth_guided_backprop,samples=2", made(Smooth), "the model has no ReLU"),
    ],
    ids=["no convolution", "no layers", "no such layer", "no places", "no ReLU", "smoothed"],
)
def test_a_method_that_the_model_cannot_support_says_why(spec, model, reason, x):
    evaluator = Evaluator(model=model, batch=4)
    with pytest.raises(NotApplicableError, match=reason):
        find_method(spec)(evaluator, x, TARGET, images=range(3), draw=0)


MADE_OF_GRADIENTS = [
    "grad_x_input",
    *(f"integrated_gradients,points=3,baseline={base}" for base in ("black", "blurred")),
    "smooth_integrated_gradients,samples=4",
]


@pytest.mark.parametrize("spec", MADE_OF_GRADIENTS)
def test_differences_of_gradients_can_stand_for_second_derivatives(spec, x):
    evaluator = Evaluator(model=made(Smooth), batch=2)
    method = find_method(spec)
    assert made_of_gradients(method)
    v = torch.randn(x.shape, generator=torch.Generator().manual_seed(2), dtype=x.dtype)
    asked = {"images": range(3), "draw": 1}
    exact = method.pullback(evaluator, x, TARGET, v, **asked)
    close = method.pullback(
        evaluator.differencing(torch.tensor([1e-3, 2e-3, 1e-3])), x, TARGET, v, **asked
    )
    torch.testing.assert_close(close, exact, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("spec", "oracle"),
    [
        *((name, Difference) for name in ("simple_grad", "smooth_grad", "uniform_grad")),
        *((spec, DifferencePullback) for spec in MADE_OF_GRADIENTS),
        *((name, DoubleBackward) for name in ("grad_cam", "guided_backprop", "deep_lift")),
        *((name, Difference) for name in ("kernel_shap", "noisy_baseline")),
    ],
)
def test_attacks_on_each_method_get_the_direction_that_it_allows(spec, oracle):
    method = find_method(spec)
    assert isinstance(aim(Boundary(), sigma=0.0, method=method).oracle, oracle)
    members = strongest(sigma=0.0, method=method).members
    searches = any(isinstance(member, RandomSearch) for member in members)
    led = method.is_gradient or (method.random and method.differentiable)
    assert searches != led
