from __future__ import annotations

import copy
import itertools
import pickle
import re
import warnings

import numpy as np
import pytest
import torch
from PIL import Image
from skimage import data
from torch import nn
from torchvision import models
from torchvision.transforms import InterpolationMode, functional, v2
from torchvision.transforms import transforms as v1

import auditor
from auditor.errors import InputError
from auditor.loading import load_model, load_twin
from auditor.models import from_network
from auditor.plan import make_plan, request
from auditor.preflight import run_preflight
from auditor.preprocess import load_preprocess

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Seen(nn.Module):
    """A network that keeps what it was given."""

    def __init__(self, channels=3):
        super().__init__()
        self.conv = nn.Conv2d(channels, 4, 3)
        self.head = nn.Linear(4, 3)
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for p in self.parameters():
                p.copy_(torch.randn(p.shape, generator=generator))

    def forward(self, x):
        self.seen = x.detach()
        return self.head(self.conv(x).sin().mean((2, 3)))


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    pictures = {
        "cat": data.chelsea(),
        "coffee": data.coffee()[:300, 50:250],
        "gray": data.camera()[::2, ::2],
        "small": data.astronaut()[30:80, 200:240],
    }
    for name, pixels in pictures.items():
        Image.fromarray(pixels).save(folder / f"{name}.png")
    return folder


def network_sees(preprocess, folder, *, input_size=None, channels=3):
    """What a network is given of the pictures in a folder, and their paths."""
    model = from_network(
        Seen(channels), preprocess=preprocess, input_shape=input_size, name="network"
    )
    images = auditor.load_images(folder, input_shape=model.input_shape, preprocess=model.preprocess)
    assert images.pixels.min() >= 0
    assert images.pixels.max() <= 1
    with torch.no_grad():
        model(images.pixels)
    return model.network.seen, [folder / name for name in images.names]


def double(image):
    return image.resize((image.width * 2, image.height * 2))


FLOAT = v2.ToDtype(torch.float32, scale=True)
V1 = [v1.Resize(40), v1.CenterCrop(32), v1.ToTensor()]
TRANSFORMS = {
    "torchvision": v1.Compose([*V1, v1.Normalize(MEAN, STD)]),
    "torchvision v2": v2.Compose(
        [
            v2.ToImage(),
            v2.Resize((36, 44), interpolation=InterpolationMode.BICUBIC),
            v2.CenterCrop(32),
            FLOAT,
            v2.Normalize(MEAN, STD),
            v2.ToPureTensor(),
        ]
    ),
    "nested": v1.Compose([v1.Compose(V1), nn.Sequential(v2.Normalize([0.5], [0.25]))]),
    "a user's own step": v1.Compose([double, *V1, v1.Normalize(MEAN, STD)]),
    "after Normalize": v1.Compose([*V1, v1.Normalize(MEAN, STD), v1.CenterCrop(24)]),
    "for one image": v1.Compose(
        [*V1, v1.Normalize(MEAN, STD), v1.Lambda(lambda x: x - x.mean()), v1.Normalize([1], [2])]
    ),
    "a preset": models.ResNet50_Weights.IMAGENET1K_V2.transforms(resize_size=40, crop_size=32),
    "no Normalize": v1.Compose(
        [v1.PILToTensor(), v1.ConvertImageDtype(torch.float32), v1.CenterCrop(32)]
    ),
}


@pytest.mark.parametrize("name", TRANSFORMS)
def test_the_network_gets_what_the_transform_gives(name, photos):
    transform = TRANSFORMS[name]
    seen, files = network_sees(transform, photos)
    wanted = [transform(Image.open(file).convert("RGB")) for file in files]
    # Pixels are in [0, 1], and three roundings of float32 are divided by a std of 0.22.
    torch.testing.assert_close(seen, torch.stack(wanted), rtol=1e-6, atol=1e-6)


def test_a_list_is_a_transform_and_gray_stays_gray(photos):
    steps = [v1.Resize((20, 20)), v1.ToTensor(), v1.Normalize(0.5, 0.25)]
    seen, files = network_sees(steps, photos, channels=1)
    wanted = [v1.Compose(steps)(Image.open(file).convert("L")) for file in files]
    torch.testing.assert_close(seen, torch.stack(wanted), rtol=1e-6, atol=1e-6)


def test_sixteen_bits_are_kept(tmp_path):
    values = np.linspace(0, 65535, 400).astype(np.uint16).reshape(20, 20)
    Image.fromarray(values).save(tmp_path / "deep.tif")
    seen, _ = network_sees([v1.CenterCrop(20), v1.ToTensor()], tmp_path, channels=1)
    np.testing.assert_allclose(seen[0, 0] * 65535, values, atol=0.01)


@pytest.mark.parametrize("weights", ["ResNet50_Weights.IMAGENET1K_V2", "Swin_T_Weights.DEFAULT"])
def test_the_transforms_of_weights(weights, photos):
    seen, files = network_sees(f"torchvision:{weights}", photos)
    transform = models.get_weight(weights).transforms()
    wanted = [transform(Image.open(file).convert("RGB")) for file in files]
    torch.testing.assert_close(seen, torch.stack(wanted), rtol=1e-6, atol=1e-6)


def test_normalization_stays_known_where_a_normalize_was_found():
    model = from_network(Seen(), preprocess=TRANSFORMS["torchvision"])
    assert (model.mean, model.std, model.input_shape) == (MEAN, STD, (3, 32, 32))
    assert [c.name for c in model.remarks] == ["preprocessing"]
    assert "32×32" in model.remarks[0].message
    assert "std 0.229, 0.224, 0.225" in model.remarks[0].message
    other = from_network(Seen(), preprocess=TRANSFORMS["after Normalize"])
    assert (other.mean, other.std) == ((), ())  # of a general step no unit is known
    assert (other.identity().mean, other.identity().std) == ((), ())


def test_both_parts_in_a_pair(photos):
    def pixels(picture):
        return functional.to_tensor(picture.resize((30, 30)))

    def inside(x):
        return (x[:, :1] - 0.5).tanh()

    seen, files = network_sees((pixels, inside), photos, channels=1, input_size=(3, 30, 30))
    wanted = torch.stack([pixels(Image.open(file).convert("RGB")) for file in files])
    torch.testing.assert_close(seen, inside(wanted), rtol=0, atol=0)
    # Ours in place of the first part: resized to the input size.
    seen, _ = network_sees((None, inside), photos, channels=1, input_size=(3, 30, 30))
    ours = auditor.load_images(photos, input_shape=(3, 30, 30)).pixels
    torch.testing.assert_close(seen, inside(ours), rtol=0, atol=0)
    # Without the second part normalization is as ever.
    model = from_network(Seen(), preprocess=(pixels, None), mean=[0.3], std=[0.2])
    assert (model.std, model.input_shape) == ((0.2,) * 3, (3, 30, 30))
    # A Normalize in its place is recognized.
    model = from_network(Seen(), preprocess=(pixels, v2.Normalize(MEAN, STD)))
    assert (model.mean, model.std) == (MEAN, STD)
    model = from_network(Seen(), preprocess=(None, v1.Normalize(MEAN, STD)), input_shape=9)
    assert (model.std, model.preprocess.pixels) == (STD, None)


def test_a_module_inside_is_frozen_and_in_eval_mode():
    module = nn.Sequential(nn.Conv2d(3, 3, 1), nn.Dropout())
    model = from_network(Seen(), preprocess=module, input_shape=16)
    assert not module.training
    assert not any(p.requires_grad for p in module.parameters())
    x = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    assert torch.equal(model(x), model.network(module(x)))


def test_a_function_that_bounds_its_values_makes_no_probabilities():
    """Behind it the logits of every image are in [0, 1], but the network's own are not."""
    network = nn.Sequential(nn.Conv2d(3, 3, 1), nn.AdaptiveMaxPool2d(1), nn.Flatten())
    with torch.no_grad():
        network[0].weight.fill_(0.1)
        network[0].bias.fill_(0.4)
    model = from_network(network, preprocess=lambda x: x.clamp(0, 1), input_shape=16)
    assert model.output.scale == "logits"
    black = torch.zeros(1, 3, 16, 16)
    torch.testing.assert_close(model(black), torch.full((1, 3), 0.4))


PREP = """
import torch
from torchvision.transforms import v2
from attacks.scale import shift  # the user's own package of that name

TRANSFORM = v2.Compose([v2.PILToTensor(), v2.ToDtype(torch.float32, scale=True)])

def inside(x):
    return (x - shift).sin()

def later(x, extra=1):
    return x * extra

def transform():
    return v2.Compose([v2.Resize((32, 32)), TRANSFORM, v2.Normalize([0.5], [0.2])])

def pair(quick=True):
    return None, inside

class Whole:
    def __init__(self):
        raise ValueError("not today")

def fails():
    raise SystemExit(7)

def two(x, y):
    return x

def nothing():
    pass

def odd():
    return inside

def triple():
    return inside, inside, inside

def empty():
    return None, None

def words():
    return [TRANSFORM, "Normalize"]

NUMBER = 3
"""


@pytest.fixture
def prep(tmp_path):
    (tmp_path / "attacks").mkdir()
    (tmp_path / "attacks" / "__init__.py").touch()
    (tmp_path / "attacks" / "scale.py").write_text("shift = 0.25\n")
    (tmp_path / "prep.py").write_text(PREP)
    return str(tmp_path / "prep.py")


def test_a_file_of_the_user(prep, tmp_path, monkeypatch):
    found = {
        name: load_preprocess(f"{prep}:{name}")
        for name in ("inside", "later", "transform", "pair", "TRANSFORM")
    }
    assert {name for name, p in found.items() if p.inside is not None} == {
        *("inside", "later", "pair")
    }
    assert found["transform"].size == (32, 32)
    assert found["TRANSFORM"].size is None  # as the picture is
    assert (found["transform"].mean, found["TRANSFORM"].mean) == ((0.5,), (0.0,))
    assert found["inside"].inside(torch.tensor([0.25])) == 0  # with the user's `attacks`
    assert found["inside"].name == f"{prep}:inside"
    monkeypatch.chdir(tmp_path)
    assert load_preprocess("prep:inside").sha256 == found["inside"].sha256
    assert load_preprocess(found["inside"]) is found["inside"]


def test_another_preprocessing_has_another_hash(prep, tmp_path):
    first = load_preprocess(f"{prep}:inside")
    assert load_preprocess(f"{prep}:inside").sha256 == first.sha256
    (tmp_path / "prep.py").write_text(PREP.replace(".sin()", ".cos()"))
    hashes = {load_preprocess(f"{prep}:inside").sha256, first.sha256}
    hashes |= {load_preprocess(value).sha256 for value in TRANSFORMS.values()}
    assert len(hashes) == 2 + len(TRANSFORMS)
    weights = ("ResNet50_Weights.IMAGENET1K_V1", "ResNet50_Weights.IMAGENET1K_V2")
    one, two = (load_preprocess(f"torchvision:{name}") for name in weights)
    assert one.sha256 != two.sha256
    assert (one.size, one.identity.split(", ")[0]) == ((224, 224), f"torchvision:{weights[0]}")


def array(picture):
    return np.asarray(picture)


def coin(picture, thrown=itertools.count()):  # noqa: B008  # counts on from picture to picture
    return functional.to_tensor(picture.resize((20, 20))) * (1 if next(thrown) % 2 else 0.5)


SCRIPTED = "prep.py:"
BAD = {
    # in the user's file
    "missing.py:fn": "missing.py: no such file",
    SCRIPTED + "missing": "no function 'missing' there",
    SCRIPTED + "Whole": r"calling it failed \(ValueError: not today\)",
    SCRIPTED + "fails": r"calling it failed \(SystemExit: 7\)",
    SCRIPTED + "two": "needs 2 arguments",
    SCRIPTED + "nothing": "is NoneType. Return a torchvision transform",
    SCRIPTED + "odd": "is function. Return a torchvision transform",
    SCRIPTED + "triple": "is tuple. Return",
    SCRIPTED + "empty": "is tuple. Return",
    SCRIPTED + "words": "str is no transform",
    SCRIPTED + "NUMBER": "is int, no function",
    "broken.py:fn": r"importing it failed \(SyntaxError",
    "no.such.module:fn": r"importing it failed \(ModuleNotFoundError",
    "prep.py": "not understood",
    "prep.py:no name": "not understood",
    "torchvision:ResNet50_Weights.NONE": "no such weights",
    "torchvision:resnet50": "no such weights",
    "torchvision:": "no such weights",
    # random
    v1.Compose([v1.RandomResizedCrop(20), v1.ToTensor()]): "RandomResizedCrop is random",
    v2.Compose([v2.RandomApply([v2.Identity()]), v2.ToImage()]): "RandomApply is random",
    v1.Compose([*V1, v1.Normalize(MEAN, STD), v1.RandomErasing()]): "RandomErasing is random",
    v1.Compose([v1.ColorJitter(0.1), v1.ToTensor()]): "ColorJitter is random",
    v1.Compose([nn.Sequential(v1.RandomHorizontalFlip()), v1.ToTensor()]): "Flip is random",
    (coin, None): "not the same each time",
    # not what pixels are
    v1.Compose([v1.FiveCrop(20), v1.ToTensor()]): "FiveCrop cannot be split",
    v1.Resize((20, 20)): "makes Image of a picture; end with ToTensor",
    (array, None): "makes ndarray of a picture",
    v1.PILToTensor(): r"torch.uint8 of shape 3×300×400; make floats",
    v1.Compose([*V1, v1.Lambda(lambda x: x * 255)]): r"values in \[0, 255\]",
    v1.Compose([*V1, v1.Lambda(lambda x: x * 2 - 1)]): r"values in \[-1, 1\]",
    v1.Compose([*V1, v1.Lambda(lambda x: x / 0)]): r"values in \[nan, nan\]",
    v1.Compose([v1.ToTensor(), v1.Resize(40, interpolation=3)]): "resize before ToTensor",
    v1.Compose([*V1, v1.Lambda(lambda x: x[None])]): "shape 1×3×32×32",
    v1.Compose([v1.ToTensor(), v1.ToTensor()]): r"fails \(TypeError.*a picture of 300×400 pixels",
    (lambda picture: 1 / 0, None): r"fails \(ZeroDivisionError",
    # in memory
    7: "is int, no function",
    None: "is NoneType, no function",
}


@pytest.mark.parametrize("given", BAD, ids=lambda g: g if isinstance(g, str) else type(g).__name__)
def test_what_cannot_be_used(given, prep, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "broken.py").write_text("def fn(:\n")
    with pytest.raises(InputError, match=BAD[given]) as caught:
        load_preprocess(given)
    assert len(str(caught.value)) < 500
    assert "\n" not in str(caught.value)


def test_sizes_that_disagree(prep):
    transform = TRANSFORMS["torchvision"]
    with pytest.raises(InputError, match=r"--input-size 64x64: .* makes pictures of 32x32"):
        from_network(Seen(), preprocess=transform, input_shape=64)
    for size in (32, (32, 32), (3, 32, 32), None):
        model = from_network(Seen(), preprocess=transform, input_shape=size)
        assert model.input_shape == (3, 32, 32)
    with pytest.raises(InputError, match="takes care of normalization"):
        from_network(Seen(), preprocess=transform, std=[0.5])
    with pytest.raises(InputError, match="takes care of normalization"):
        from_network(Seen(), preprocess=f"{prep}:inside", input_shape=8, mean=[0.5])
    with pytest.raises(InputError, match="unknown input size"):
        from_network(Seen(), preprocess=f"{prep}:TRANSFORM")


def test_pictures_that_cannot_be_prepared_are_skipped(photos):
    def fussy(picture):
        if picture.width == 40:
            raise ValueError("too small")
        return functional.to_tensor(picture.resize((30, 30)))

    def small(picture):
        return functional.to_tensor(picture.resize((30, 30)))

    images = auditor.load_images(photos, input_shape=(3, 30, 30), preprocess=(fussy, None))
    assert images.names == ("cat.png", "coffee.png", "gray.png")
    ((name, reason),) = images.unreadable
    assert name == "small.png"
    assert re.search(r"fails \(ValueError: too small\)", reason)
    with pytest.raises(InputError, match="made 3×30×30 of it, the model takes 3×20×20"):
        auditor.load_images(photos, input_shape=(3, 20, 20), preprocess=(small, None))


def test_a_long_strip_is_not_blown_up(tmp_path):
    Image.new("L", (60000, 1)).save(tmp_path / "strip.png")
    with pytest.raises(InputError, match="too elongated"):
        auditor.load_images(tmp_path, input_shape=(3, 224, 224), preprocess=[v1.ToTensor()])


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("channels", [1, 3])
def test_arrays_are_pictures_where_they_can_be(kind, channels, tmp_path):
    generator = np.random.default_rng(0)
    top = 1 if kind is np.float32 else np.iinfo(kind).max
    x = (generator.random((2, channels, 20, 24)) * top).astype(kind)
    np.savez(tmp_path / "x.npz", x=x)
    steps = [v1.Resize((10, 12)), v1.ToTensor()]
    arguments = {"input_shape": (channels, 10, 12), "preprocess": steps}
    if channels == 3 and kind is not np.uint8:
        with pytest.raises(InputError, match=f"not {np.dtype(kind).name} with 3 channels"):
            auditor.load_images(tmp_path / "x.npz", **arguments)
        return
    found = auditor.load_images(tmp_path / "x.npz", **arguments).pixels
    for image, made in zip(x, found, strict=True):
        if kind is np.uint8:
            picture = Image.fromarray(image.transpose(1, 2, 0).squeeze())
        else:
            picture = Image.fromarray((image[0] / top).astype(np.float32))
        torch.testing.assert_close(made, v1.Compose(steps)(picture), rtol=0, atol=1e-6)


def test_images_can_go_to_another_process(photos):
    images = auditor.load_images(
        photos, input_shape=(3, 224, 224), preprocess="torchvision:ResNet18_Weights.DEFAULT"
    )
    again = pickle.loads(pickle.dumps(images))
    assert torch.equal(again.pixels, images.pixels)


def unblamed(inside):
    model = from_network(Seen(), preprocess=inside, input_shape=16)
    x = torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    return run_preflight(model, x)


BAD_INSIDE = {
    "no tensor": (lambda x: x.tolist(), "makes list of 4"),
    "a number": (lambda x: x.mean(), r"makes shape \(\) of 4"),
    "one of the batch": (lambda x: x[0], r"makes shape \(3, 16, 16\) of 4"),
    "raises": (lambda x: x.no_such(), r"fails on images of shape \(4, 3, 16, 16\) \(Attr"),
    "in place": (lambda x: x.sub_(0.5), "in-place operation"),
    "NaN": (lambda x: (x - 2).log(), "values are not finite"),
    "infinite": (lambda x: x / 0, "values are not finite"),
    "detached": (lambda x: x.detach() - 0.5, "no gradient comes through"),
    "numpy": (lambda x: torch.from_numpy(x.detach().numpy()), "no gradient comes through"),
    "whole numbers": (lambda x: (x * 255).byte(), "no gradient comes through"),
    "rounded": (lambda x: (x * 255).round() / 255, "gradient through it is zero"),
    "constant": (lambda x: (x * 0).requires_grad_(), "gradient through it is zero"),
    "unused": (lambda x: torch.ones_like(x, requires_grad=True), "gradient through it is zero"),
    "steep": (lambda x: (x - x).sqrt(), "gradient is not finite"),
    "wrong size": (lambda x: x[:, :2], "rejects 4"),
    "batch statistics": (lambda x: x - x.mean(0), "mix"),
    "random": (lambda x: x + torch.rand_like(x), "two calls on the same images differ"),
}


@pytest.mark.parametrize("case", BAD_INSIDE)
def test_the_differentiable_part_is_checked(case):
    inside, message = BAD_INSIDE[case]
    with pytest.raises(InputError, match=message) as caught:
        unblamed(inside)
    assert len(str(caught.value)) < 500


def test_a_centered_image_has_a_gradient():
    checks = {c.name: c for c in unblamed(lambda x: x - x.mean((1, 2, 3), keepdim=True))}
    found = checks["differentiable preprocessing"]
    assert found.status == "ok"
    assert "(4, 3, 16, 16)" in found.message


def test_twins_share_the_differentiable_part(prep, tmp_path):
    (tmp_path / "net.py").write_text(
        "from torch import nn\n\ndef make():\n    return nn.Sequential(nn.Conv2d(3, 2, 3), "
        "nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 3))\n"
    )
    make = f"{tmp_path / 'net.py'}:make"
    model = load_model(make, preprocess=f"{prep}:inside", input_size=16)
    x = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    twin = load_twin(f"{make},name=twin", like=model)
    assert twin.preprocess is model.preprocess
    assert torch.equal(twin(x), twin.network((x - 0.25).sin()))
    own = load_twin(f"{make},name=own,mean=0.4,std=0.3", like=model)
    assert own.preprocess is None
    assert own.std == (0.3, 0.3, 0.3)
    torch.testing.assert_close(own(x), own.network((x - 0.4) / 0.3))
    # Of a transform that was split, twins have the Normalize.
    model = load_model(make, preprocess=TRANSFORMS["torchvision"])
    twin = load_twin(f"{make},input-size=24", like=model)
    assert (twin.mean, twin.std, twin.input_shape) == (MEAN, STD, (3, 24, 24))
    assert twin.preprocess is None
    control = copy.deepcopy(model)
    assert control.preprocess is model.preprocess


def test_the_record_knows_the_preprocessing(photos):
    def plan(preprocess, given):
        model = from_network(Seen(), preprocess=preprocess)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            images = auditor.load_images(photos, input_shape=model.input_shape, preprocess=given)
        return make_plan(model, images, effort="quick", samples=2, budget=20, origin="test")

    first = plan(TRANSFORMS["torchvision"], TRANSFORMS["torchvision"])
    same = plan(TRANSFORMS["torchvision"], TRANSFORMS["torchvision"])
    other = v1.Compose([v1.Resize(41), *V1[1:], v1.Normalize(MEAN, STD)])
    changed = plan(other, other)
    assert request(first) == request(same)
    differing = {k for k, v in request(changed).items() if v != request(first)[k]}
    assert {"model: preprocess", "images: preprocess"} <= differing
    (setting,) = [s for s in first.origins if s.name == "preprocess"]
    assert setting.value == first.classifier.preprocess.identity
    assert setting.origin == "test"
    assert re.fullmatch(r"preprocess Compose, SHA-256 [0-9a-f]{64}", setting.value)
    assert not any("were prepared by" in note for note in first.notes)
    forgotten = plan(TRANSFORMS["torchvision"], None)
    assert any("were prepared by resizing" in note for note in forgotten.notes)
    assert request(forgotten) != request(first)


DIGITS = """
import torch
from torchvision.transforms import v2

def transform():
    steps = [v2.Resize((12, 12)), v2.ToImage(), v2.ToDtype(torch.float32, scale=True)]
    return v2.Compose([*steps, v2.Normalize([0.25], [0.5])])

def inside(x):
    return x
"""
OPTIONS = {
    "model": "net.py:network",
    "weights": "model.safetensors",
    "twin": "net.py:network,weights=twin.safetensors,name=twin",
    "images": "few.npz",
    "effort": "quick",
    "samples": "4",
    "budget": "40",
    "sigma": "0.1",
    "run": "out",
    "exit-zero": None,
}


def words(**changes):
    pairs = (OPTIONS | {name.replace("_", "-"): value for name, value in changes.items()}).items()
    return ["audit", *(w for k, v in pairs for w in (f"--{k}", v) if w is not None)]


@pytest.mark.slow
def test_an_audit_from_the_command_line(run, here):
    (here / "prep.py").write_text(DIGITS)
    code, _, err = run(words(preprocess="prep.py:transform"))
    assert code == 0, err
    result = auditor.AuditResult.load(here / "out")
    assert (result.model.mean, result.model.std) == ((0.25,), (0.5,))
    settings = {setting.name: setting for setting in result.settings}
    assert settings["preprocess"].origin == "command line"
    assert re.fullmatch(r"prep.py:transform, SHA-256 \w{64}", settings["preprocess"].value)
    assert len(result.images.names) == 12
    # Numbers given by hand are the same model, but not the same request.
    by_hand = {"input_size": "1x12x12", "mean": "0.25", "std": "0.5"}
    code, _, err = run(words(**by_hand, run="by-hand"))
    assert code == 0, err
    other = auditor.AuditResult.load(here / "by-hand")
    assert other.measurements == result.measurements
    for changes in (by_hand, {"preprocess": "prep.py:inside", "input_size": "1x12x12"}):
        code, _, err = run([*words(**changes), "--resume"])
        assert code == 2
        assert "preprocess: " in err
    assert run([*words(preprocess="prep.py:transform"), "--resume"])[0] == 0
    (here / "prep.py").write_text(DIGITS + "# changed\n")
    code, _, err = run([*words(preprocess="prep.py:transform"), "--resume"])
    assert (code, "preprocess: " in err) == (2, True)


def test_an_audit_behind_a_function_of_the_user(run, here):
    (here / "prep.py").write_text(DIGITS)
    code, _, err = run(words(preprocess="prep.py:inside", input_size="1x12x12"))
    assert code == 0, err
    result = auditor.AuditResult.load(here / "out")
    assert (result.model.mean, result.model.std) == ((), ())
    assert result.recommendation.sigma_normalized == ()
    assert (here / "out" / "report.pdf").stat().st_size > 0
