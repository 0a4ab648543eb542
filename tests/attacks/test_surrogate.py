"""The surrogate against the true operations, float64 finite differences, and torch.func."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, grad, jvp, vmap

from attacks.surrogate import LIMIT, Replaced, Surrogate, ramp, report, smooth

KINDS = ("softplus", "quadratic")

FORMS = {
    "relu: module": nn.ReLU(),
    "relu: module in place": nn.ReLU(inplace=True),
    "relu: functional": F.relu,
    "relu: functional in place": lambda x: F.relu(x, inplace=True),
    "relu: in place, positional": lambda x: F.relu(x, True),
    "relu: F.relu_": F.relu_,
    "relu: torch": torch.relu,
    "relu: torch.relu_": torch.relu_,
    "relu: by keyword": lambda x: torch.relu(input=x),
    "relu: method": lambda x: x.relu(),
    "relu: method in place": lambda x: x.relu_(),
    "relu: aten": torch.ops.aten.relu.default,
    "relu: aten in place": torch.ops.aten.relu_.default,
    "relu6: module": nn.ReLU6(),
    "relu6: module in place": nn.ReLU6(inplace=True),
    "relu6: functional": F.relu6,
    "relu6: functional in place": lambda x: F.relu6(x, inplace=True),
    "hardtanh: module": nn.Hardtanh(-0.5, 2.0),
    "hardtanh: module in place": nn.Hardtanh(inplace=True),
    "hardtanh: functional": F.hardtanh,
    "hardtanh: F.hardtanh_": lambda x: F.hardtanh_(x, -0.5, 2.0),
    "hardsigmoid: module": nn.Hardsigmoid(),
    "hardsigmoid: module in place": nn.Hardsigmoid(inplace=True),
    "hardsigmoid: functional": F.hardsigmoid,
    "hardswish: module": nn.Hardswish(),
    "hardswish: module in place": nn.Hardswish(inplace=True),
    "hardswish: functional": F.hardswish,
    "leaky_relu: module": nn.LeakyReLU(0.2),
    "leaky_relu: module in place": nn.LeakyReLU(0.2, inplace=True),
    "leaky_relu: functional": F.leaky_relu,
    "leaky_relu: F.leaky_relu_": lambda x: F.leaky_relu_(x, 0.2),
    "clamp: method": lambda x: x.clamp(min=0),
    "clamp: torch, positional": lambda x: torch.clamp(x, 0),
    "clamp: two bounds": lambda x: torch.clamp(x, -1, max=1.5),
    "clamp: lower bound": lambda x: x.clamp(min=-1),
    "clamp: upper bound": lambda x: x.clamp(max=1.5),
    "clamp: in place": lambda x: x.clamp_(min=0.0),
    "clip: method": lambda x: x.clip(0, 6),
    "clip: in place": lambda x: torch.clip_(x, min=0),
    "clamp_min: method": lambda x: x.clamp_min(0),
    "clamp_min: torch": lambda x: torch.clamp_min(x, 0),
    "clamp_min: in place": lambda x: x.clamp_min_(0),
    "clamp_max: torch": lambda x: torch.clamp_max(x, 6),
    "maximum: torch": lambda x: torch.maximum(x, torch.zeros((), dtype=x.dtype)),
    "maximum: method": lambda x: x.maximum(torch.zeros_like(x)),
    "max: of two": lambda x: torch.max(x, torch.zeros_like(x)),
    "fmax: torch": lambda x: torch.fmax(x, torch.zeros_like(x)),
    "maximum: of two maps": lambda x: torch.maximum(x, 0.5 - x),
    "minimum: torch": lambda x: torch.minimum(x, torch.ones_like(x)),
    "min: method": lambda x: x.min(torch.ones_like(x)),
    "fmin: torch": lambda x: torch.fmin(x, torch.ones_like(x)),
}

PASSED_THROUGH = {
    "max along an axis": (lambda x: x.max(1).values + x.max(dim=1).values + x.max(), ()),
    "max pooling": (lambda x: F.max_pool1d(x, 2), ()),
    "smooth": (lambda x: F.gelu(x) + F.silu(x) + F.elu(x) + F.celu(x, 2.0), ()),
    "guard of a division": (lambda x: x / x.square().sum().clamp(min=1e-6), ("clamp",)),
    "bounds that are tensors": (
        lambda x: x.clamp(torch.zeros_like(x), torch.ones_like(x)),
        ("clamp",),
    ),
    "abs": (lambda x: abs(x), ("abs",)),
    "sign": (lambda x: x * torch.sign(x), ("sign",)),
    "where": (lambda x: torch.where(x > 0, x, 0), ("gt (comparison)", "where")),
    "mask": (lambda x: x * (x >= 0), ("ge (comparison)",)),
    "masked fill": (lambda x: x.masked_fill(torch.lt(x, 0), 0), ("lt (comparison)",)),
    "a constant mask": (lambda x: x.masked_fill(torch.ones_like(x) > 2, 0), ()),
    "threshold": (nn.Threshold(0, 0), ("threshold",)),
    "selu": (F.selu, ("elu",)),
    "softshrink": (F.softshrink, ("softshrink",)),
}


def away_from_kinks() -> Tensor:
    """Points at least 0.05 from every kink of `FORMS`."""
    x = torch.linspace(-7, 7, 281, dtype=torch.float64) + 0.017
    kinks = torch.tensor([-3, -1, -0.5, 0, 0.25, 1, 1.5, 2, 3, 6], dtype=torch.float64)
    return x[(x[:, None] - kinks).abs().min(dim=1).values > 0.05].reshape(1, -1)


def value_and_slope(function, x: Tensor) -> tuple[Tensor, Tensor]:
    x = x.clone().requires_grad_()
    # A copy, because an operation in place refuses a leaf.
    y = function(x.clone())
    return y.detach(), torch.autograd.grad(y.sum(), x)[0]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("form", FORMS)
def test_twin_tends_to_the_operation_and_its_slope(form, kind):
    x = away_from_kinks()
    y, slope = value_and_slope(FORMS[form], x)
    # exp(−βx) < 1e-200 at β = 1e4 and 0.05 from a kink: only rounding is left.
    twin, twin_slope = value_and_slope(smooth(FORMS[form], beta=1e4, kind=kind), x)
    torch.testing.assert_close(twin, y, rtol=0, atol=1e-12)
    # torch's own float64 derivative of hardsigmoid is off by 5e-9: its 1/6 is a float32.
    torch.testing.assert_close(twin_slope, slope, rtol=0, atol=1e-8)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("form", FORMS)
def test_second_derivative_is_that_of_finite_differences(form, kind):
    function = smooth(FORMS[form], beta=4.0, kind=kind)
    # Off the joints ±w = ±0.5 of the quadratic twin, where its second derivative jumps.
    x = (torch.linspace(-6.97, 6.91, 140, dtype=torch.float64)).reshape(1, -1)

    def slope(x: Tensor) -> Tensor:
        return value_and_slope(function, x)[1]

    leaf = x.clone().requires_grad_()
    first = torch.autograd.grad(function(leaf.clone()).sum(), leaf, create_graph=True)[0]
    second = torch.autograd.grad(first.sum(), leaf)[0]
    h = 1e-5
    # Error of a central difference: h²/6·|f⁗| < 1e-8 plus rounding 1e-15/h = 1e-10.
    torch.testing.assert_close(second, (slope(x + h) - slope(x - h)) / (2 * h), rtol=0, atol=1e-7)
    assert second.abs().max() > 0.01


@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_counted_and_leaves_nothing(form):
    found = report(FORMS[form], away_from_kinks())
    assert found.missed == ()
    assert found.deviation < 1e-12
    assert found.counts == {form.split(":")[0].replace("relu6", _name_of_relu6(form)): 1}


def _name_of_relu6(form: str) -> str:
    return "hardtanh" if "module" in form else "relu6"  # nn.ReLU6 calls F.hardtanh


@pytest.mark.parametrize("case", PASSED_THROUGH)
def test_what_is_no_ramp_is_left_and_its_kinks_are_reported(case):
    function, missed = PASSED_THROUGH[case]
    x = away_from_kinks()
    torch.testing.assert_close(smooth(function, beta=3.0)(x), function(x), rtol=0, atol=0)
    assert report(function, x) == Replaced(counts={}, missed=missed, deviation=0.0)


def test_integers_are_no_activations():
    index = torch.tensor([-1, 2])
    assert smooth(lambda x: x.clamp(min=0), beta=3.0)(index).tolist() == [0, 2]


def test_both_kinds_have_the_value_and_curvature_that_define_them():
    x = torch.tensor([-1.0, -0.1, -0.03, 0.0, 0.03, 0.1, 1.0], dtype=torch.float64)
    w = 2 / 20
    pieces = torch.where(x < -w, 0, torch.where(x > w, x, (x + w).square() / (4 * w)))
    torch.testing.assert_close(ramp(20, "quadratic")(x), pieces)
    torch.testing.assert_close(ramp(20, "softplus")(x), (1 + (20 * x).exp()).log() / 20)
    for kind in KINDS:
        at_zero = torch.zeros((), dtype=torch.float64)
        assert grad(grad(ramp(20, kind)))(at_zero) == pytest.approx(20 / 4)


@pytest.mark.parametrize("beta", [0.0, -1.0, float("nan")])
def test_beta_must_be_positive(beta):
    with pytest.raises(ValueError, match="beta must be positive"):
        smooth(nn.ReLU(), beta=beta)


def test_kind_must_be_known():
    with pytest.raises(ValueError, match="'softplus' or 'quadratic'"):
        smooth(nn.ReLU(), beta=1.0, kind="cubic")


def small_network(*, inplace: bool) -> nn.Module:
    torch.manual_seed(0)
    return (
        nn.Sequential(
            nn.Conv2d(2, 4, 3, padding=1),
            nn.ReLU(inplace=inplace),
            nn.MaxPool2d(2),
            nn.Conv2d(4, 5, 3),
            nn.ReLU6(inplace=inplace),
            nn.Flatten(),
            nn.Linear(20, 6),
            nn.Hardswish(inplace=inplace),
            nn.Linear(6, 3),
        )
        .double()
        .eval()
    )


def images(count: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.rand(count, 2, 8, 8, generator=generator, dtype=torch.float64)


def curvature_along(function, x: Tensor, v: Tensor) -> Tensor:
    x = x.clone().requires_grad_()
    map_ = torch.autograd.grad(function(x)[:, 0].sum(), x, create_graph=True)[0]
    return torch.autograd.grad((map_ * v).sum(), x, materialize_grads=True)[0]


@pytest.mark.parametrize("kind", KINDS)
def test_double_backward_is_zero_on_the_network_and_not_on_the_surrogate(kind):
    model = small_network(inplace=False)
    model[7] = nn.ReLU()  # hardswish has curvature of its own
    x = images()
    v = torch.randn(x.shape, generator=torch.Generator().manual_seed(2), dtype=x.dtype)
    assert curvature_along(model, x, v).abs().max() == 0
    function = smooth(model, beta=5.0, kind=kind)
    exact = curvature_along(function, x, v)
    assert exact.abs().max() > 1e-4
    h = 1e-6

    def map_at(x: Tensor) -> Tensor:
        x = x.clone().requires_grad_()
        return torch.autograd.grad(function(x)[:, 0].sum(), x)[0]

    # Rounding 1e-16/h against values around 1e-2; no joint of a piece lies within h here.
    difference = (map_at(x + h * v) - map_at(x - h * v)) / (2 * h)
    torch.testing.assert_close(exact, difference, rtol=1e-6, atol=1e-8)


def test_in_place_modules_give_the_same_values_and_gradients():
    x = images()
    plain = smooth(small_network(inplace=False), beta=10.0)
    in_place = smooth(small_network(inplace=True), beta=10.0)
    v = torch.ones_like(x)
    torch.testing.assert_close(in_place(x), plain(x), rtol=0, atol=0)
    torch.testing.assert_close(curvature_along(in_place, x, v), curvature_along(plain, x, v))


@pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning")  # torch's own, in jvp
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("inplace", [False, True])
def test_works_under_vmap_jvp_and_grad(inplace, kind):
    model = small_network(inplace=inplace)
    function = smooth(model, beta=10.0, kind=kind)
    x, v = images(), images().flip(0)

    def score(image: Tensor) -> Tensor:
        return function(image[None])[0, 0]

    per_image = vmap(lambda a, b: jvp(grad(score), (a,), (b,))[1])(x, v)
    torch.testing.assert_close(per_image, curvature_along(function, x, v))
    weights = dict(model.named_parameters())
    by_call = smooth(lambda x: functional_call(model, weights, (x,)), beta=10.0, kind=kind)
    torch.testing.assert_close(by_call(x), function(x))


class Discards(nn.Module):
    """Calls in place and throws the result away; the slice reaches into a part of the tensor."""

    def forward(self, x: Tensor) -> Tensor:
        h = 2 * x
        F.relu(h, inplace=True)
        other = h - 1
        other[:, 1:].clamp_(min=0)
        kept = other + 0.5
        nn.ReLU(inplace=True)(kept[:, :1])
        return (h * other + kept).flatten(1)


def test_a_result_thrown_away_is_replaced_like_any_other():
    x = 2 * images() - 1
    found = report(Discards(), x)
    assert found.missed == ()
    assert found.counts == {"relu": 2, "clamp": 1}
    value, slope = value_and_slope(Discards(), x)
    limit, limit_slope = value_and_slope(smooth(Discards(), beta=LIMIT), x)
    torch.testing.assert_close(limit, value)
    torch.testing.assert_close(limit_slope, slope)
    assert not torch.allclose(smooth(Discards(), beta=2.0)(x), value, atol=0.01)
    v = torch.ones_like(x)
    assert curvature_along(smooth(Discards(), beta=5.0), x, v).abs().max() > 0.1


def test_an_in_place_call_changes_its_tensor_under_all_names():
    with Surrogate(5.0):
        x = torch.tensor([-0.1, 0.2])
        y = F.relu(x, inplace=True)
    assert y is x
    torch.testing.assert_close(x, F.softplus(torch.tensor([-0.1, 0.2]), 5.0))


def test_a_surrogate_that_does_not_tend_to_the_model_is_reported():
    class Changes(nn.Module):
        calls = 0

        def forward(self, x: Tensor) -> Tensor:
            self.calls += 1
            return x.relu() * (1 + 0.01 * self.calls)

    found = report(Changes(), torch.ones(1, 2))
    assert found.deviation == pytest.approx(0.01 / 1.01, rel=1e-3)
    assert found.missed == ("the surrogate does not tend to the model (off by 0.01)",)


def test_an_output_that_is_not_a_number_is_reported():
    found = report(lambda x: (x - 2).sqrt(), torch.ones(1, 2))
    assert found.missed == ("the surrogate does not tend to the model (off by nan)",)


class OwnRelu(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        return x.clamp(min=0)

    @staticmethod
    def backward(ctx, g: Tensor) -> Tensor:
        return g


def test_a_custom_autograd_function_is_reported():
    assert report(OwnRelu.apply, images()).missed == ("OwnRelu (custom autograd function)",)


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning")
def test_torchscript_is_not_reached_and_is_reported():
    x = images()
    scripted = torch.jit.trace(nn.Sequential(nn.Flatten(), nn.ReLU()), x)
    for _ in range(4):  # from the third call on the optimizer may have fused the block
        found = report(scripted, x)
        assert found.counts == {}
        assert found.missed in {("relu",), ("TorchScript block",)}


def vision_transformer() -> nn.Module:
    from torchvision.models import VisionTransformer

    return VisionTransformer(
        image_size=32, patch_size=16, num_layers=2, num_heads=2, hidden_dim=16, mlp_dim=32
    )


def convnext() -> nn.Module:
    from torchvision.models.convnext import CNBlockConfig, ConvNeXt

    return ConvNeXt([CNBlockConfig(8, 16, 1), CNBlockConfig(16, None, 1)])


def resnet() -> nn.Module:
    from torchvision.models import resnet18

    return resnet18()


def mobilenet() -> nn.Module:
    from torchvision.models import mobilenet_v3_small

    return mobilenet_v3_small()


def efficientnet_lite() -> nn.Module:
    from efficientnet_lite_pytorch import EfficientNet

    return EfficientNet.from_name("efficientnet-lite0")


@pytest.mark.parametrize(
    ("architecture", "counts"),
    [
        (resnet, {"relu": 17}),
        (mobilenet, {"hardswish": 19, "relu": 14, "hardsigmoid": 9}),
        (convnext, {}),
        (vision_transformer, {}),
        (efficientnet_lite, {"hardtanh": 33}),
    ],
)
def test_real_architectures_are_replaced_whole(architecture, counts):
    torch.manual_seed(0)
    found = report(architecture().eval(), torch.rand(1, 3, 32, 32))
    assert found.counts == counts
    assert found.missed == ()
    assert found.deviation < 1e-4  # float32 rounding through all layers
