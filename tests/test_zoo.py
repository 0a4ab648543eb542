"""Architectures that people deploy: attention, every usual activation, and real weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

import auditor
from auditor.attributions.registry import find_method
from auditor.attributions.traced import NotApplicableError
from auditor.evaluation import Evaluator
from auditor.loading import load_model
from auditor.preflight import run_preflight

ARCHITECTURES = {
    "resnet18": 64,
    "resnet50": 64,
    "mobilenet_v3_small": 64,
    "mobilenet_v3_large": 64,
    "efficientnet_b0": 64,
    "convnext_tiny": 64,
    "swin_t": 64,
    "vit_b_16": 224,  # its position embedding has one size
}
LITE = {"lite0": 224, "lite1": 240, "lite2": 260}
CATS, ESPRESSO = range(281, 286), 967  # ImageNet's classes
FACTORIES = Path(__file__).parent.parent / "examples" / "efficientnet_lite.py"
METHODS_TRIED = (
    *("grad_x_input", "smooth_grad,samples=2", "uniform_grad,samples=2,shape=ball"),
    *("integrated_gradients,points=2,baseline=blurred", "smooth_integrated_gradients,samples=2"),
    *("grad_cam", "grad_cam_pp", "guided_backprop", "deep_lift", "noisy_baseline,draws=2"),
    "square_removal,draws=2",
)
NO_RELU = {"convnext_tiny", "efficientnet_b0", "swin_t", "vit_b_16"}
NO_DOUBLE_BACKWARD = {"mobilenet_v3_small", "mobilenet_v3_large"}  # torch's hardsigmoid has none


@pytest.fixture
def images():
    """A step from dark to bright with some noise, 2 images of any size."""

    def make(size):
        generator = torch.Generator().manual_seed(0)
        ramp = torch.linspace(0.2, 0.8, size).expand(2, 3, size, size)
        return (ramp + 0.2 * (torch.rand(2, 3, size, size, generator=generator) - 0.5)).clamp(0, 1)

    return make


def random(name):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        spec = f"torchvision:{name}"
        model = load_model(spec, input_size=ARCHITECTURES[name], mean=[0.5], std=[0.5])
        if name == "vit_b_16":  # its last layer begins with zeros
            torch.nn.init.normal_(model.network.heads.head.weight, std=0.02)
        return model


@pytest.mark.slow
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_an_architecture_passes_the_preflight(name, images):
    model = random(name)
    x = images(ARCHITECTURES[name])
    checks = {check.name: check for check in run_preflight(model, x)}
    assert {checks[n].status for n in ("gradient", "batch independence", "weights")} == {"ok"}
    fails = "Double backward fails" in checks["second derivatives"].message
    assert fails == (name in NO_DOUBLE_BACKWARD)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["swin_t", "vit_b_16"])
def test_double_backward_through_attention_is_right(name, images):
    model = random(name).double()
    x = images(ARCHITECTURES[name])[:1].double().requires_grad_()
    v = torch.randn(x.shape, generator=torch.Generator().manual_seed(1)).double()
    with sdpa_kernel(SDPBackend.MATH):

        def gradient(at, **options):
            return torch.autograd.grad(model(at)[:, 7].sum(), at, **options)[0]

        (product,) = torch.autograd.grad((gradient(x, create_graph=True) * v).sum(), x)
        step = 1e-5
        ends = [gradient((x + s * v).detach().requires_grad_()) for s in (step, -step)]
    # Central differences in float64 of a smooth network: rounding leaves about six digits.
    difference = (ends[0] - ends[1]) / (2 * step)
    assert difference.norm() > 0
    assert torch.dist(product, difference) < 1e-5 * difference.norm()


@pytest.mark.slow
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_an_architecture_is_audited(name, images):
    model = random(name)
    count = 1 if name == "vit_b_16" else 2  # it takes seconds for a gradient
    result = auditor.audit(
        model,
        auditor.from_arrays(images(ARCHITECTURES[name])[:count]),
        effort="quick",
        sigmas=(0.02,),
        epsilons=(1.0,),
        samples=2,
        budget=80,
        profile="debugging",
    )
    for probe in ("smoothing", "attack", "control", "curvature"):
        found = result.find(probe=probe)
        assert found, probe
        assert any(value is not None for m in found for value in m.values), probe
    assert result.not_applicable == {}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:`torch.jit", "ignore::torch.jit.TracerWarning")
@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small", "swin_t", "convnext_tiny"])
def test_its_saved_forms_need_no_trust_and_explain_the_same(name, images, tmp_path):
    """What exporters really write passes the check that keeps code out."""
    model = random(name)
    x = images(ARCHITECTURES[name])
    network = model.network.to(memory_format=torch.contiguous_format)
    free = ({0: torch.export.Dim("batch", min=1, max=64)},)
    program = torch.export.export(network, (x,), dynamic_shapes=free)
    torch.export.save(program, tmp_path / "network.pt2")
    torch.jit.save(torch.jit.script(network), tmp_path / "scripted.ts")
    torch.jit.save(torch.jit.trace(network, x), tmp_path / "traced.ts")

    def explain(model):
        leaf = x.clone().requires_grad_()
        return torch.autograd.grad(model(leaf)[:, 7].sum(), leaf)[0]

    wanted = explain(model)
    for file in ("network.pt2", "scripted.ts", "traced.ts"):
        spec = str(tmp_path / file)
        saved = load_model(spec, input_size=(3, *x.shape[2:]), mean=[0.5], std=[0.5])
        assert torch.dist(explain(saved), wanted) < 1e-4 * wanted.norm(), file


@pytest.mark.slow
@pytest.mark.parametrize("name", LITE)
def test_real_weights_see_what_is_there_and_their_maps_move(name, tmp_path):
    pytest.importorskip("efficientnet_lite_pytorch")
    from PIL import Image
    from skimage import data

    for photograph in ("chelsea", "coffee"):
        Image.fromarray(getattr(data, photograph)()).save(tmp_path / f"{photograph}.png")
    model = load_model(
        f"{FACTORIES}:{name}", input_size=LITE[name], mean=[127 / 255], std=[128 / 255]
    )
    images = auditor.load_images(tmp_path, input_shape=model.input_shape)
    with torch.no_grad():
        cat, coffee = model(images.pixels).argmax(dim=1).tolist()
    assert cat in CATS
    assert coffee == ESPRESSO
    attacked = auditor.attack(model, images, attack="topk", epsilons=(1.0,), steps=5)
    assert attacked.attacked == 2
    (row,) = attacked.rows
    kept = row.mean("eight_bits", "topk_intersection")
    assert kept is not None
    assert kept < 0.5


@pytest.mark.slow
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_method_explains_it_or_says_why_not(name, images):
    model = random(name)
    x = images(ARCHITECTURES[name])[:1]
    evaluator = Evaluator(model=model, batch=1)
    target = evaluator.logits(x).argmax(dim=1)
    refused = set()
    for spec in METHODS_TRIED:
        try:
            maps, _ = find_method(spec)(evaluator, x, target, images=[0], draw=0)
        except NotApplicableError:
            refused.add(spec)
        else:
            assert maps.shape == x.shape, spec
            assert maps.isfinite().all(), spec
            # Where the weights are random, Grad-CAM may find nothing that speaks for a class.
            assert maps.any() or spec.startswith("grad_cam"), spec
    assert refused == ({"guided_backprop"} if name in NO_RELU else set())
