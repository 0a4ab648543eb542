from __future__ import annotations

import dataclasses
import json
import socket

import numpy as np
import pytest
import torch
from PIL import Image
from skimage.data import astronaut, camera, chelsea
from torchvision import transforms

from auditor.errors import InputError
from auditor.images import load_images
from auditor.loading import load_model, load_twin
from tests.auditor.formats.small import write_huggingface

transformers = pytest.importorskip("transformers")


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    def refuse(*_args, **_kwargs):
        raise AssertionError("network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.fixture
def folder(tmp_path):
    return write_huggingface(tmp_path / "pets")


def test_a_folder_with_its_processor(folder):
    model = load_model(str(folder))
    assert (model.format, model.name) == ("Hugging Face", "pets")
    assert model.input_shape == (3, 32, 32)
    assert (model.mean, model.std) == ((0.5, 0.4, 0.3), (0.5, 0.25, 0.2))
    assert model.labels == ("cat", "dog", "fly")
    assert model.output.key is None  # ModelOutput.logits is found by itself
    assert [check.name for check in model.remarks] == ["preprocessing"]


PROCESSORS = [
    {"do_normalize": False},
    {"do_rescale": False},
    {"rescale_factor": 1 / 127.5},
    {"image_mean": 0.5, "image_std": 0.5},
    {"size": {"height": 20, "width": 28}},
]


@pytest.mark.parametrize("settings", PROCESSORS, ids=lambda s: next(iter(s)))
def test_the_network_gets_what_the_processor_would_give_it(settings, tmp_path):
    folder = write_huggingface(tmp_path / "hf", **settings)
    model = load_model(str(folder))
    processor = transformers.AutoImageProcessor.from_pretrained(folder)
    image = np.random.default_rng(0).integers(0, 256, (*model.input_shape[1:], 3), dtype=np.uint8)
    wanted = processor(images=image, return_tensors="pt")["pixel_values"]
    x = torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255
    given = (x - model._mean) / model._std
    assert given.shape == wanted.shape
    # Mean and std are rounded to six digits.
    torch.testing.assert_close(given, wanted, rtol=2e-6, atol=2e-6 * wanted.abs().max().item())


PICTURES = {
    "size": ("ViTImageProcessor", {"size": {"height": 20, "width": 28}}),
    "resample": ("ViTImageProcessor", {"size": {"height": 20, "width": 28}, "resample": 3}),
    "shortest edge, crop": (
        "CLIPImageProcessor",
        {"size": {"shortest_edge": 40}, "crop_size": {"height": 32, "width": 24}},
    ),
    "crop_pct": ("ConvNextImageProcessor", {"size": {"shortest_edge": 24}, "crop_pct": 0.5}),
    "no crop from 384": ("ConvNextImageProcessor", {"size": {"shortest_edge": 384}}),
    "crop larger than the picture": (
        "PerceiverImageProcessor",
        {"size": {"height": 32, "width": 32}, "crop_size": {"height": 100, "width": 100}},
    ),
    "BGR": (
        "MobileViTImageProcessor",
        {"size": {"shortest_edge": 40}, "crop_size": {"height": 32, "width": 32}},
    ),
    "as it is": ("ViTImageProcessor", {"do_rescale": False, "do_normalize": False}),
}


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    Image.fromarray(chelsea()).save(folder / "cat.png")
    Image.fromarray(astronaut()[20:300, 150:310]).save(folder / "face.jpg")
    Image.fromarray(camera()[::4, ::8]).save(folder / "gray.png")
    return folder


@pytest.mark.parametrize("name", PICTURES)
def test_pictures_are_what_the_processor_makes_of_them(name, photos, tmp_path):
    kind, settings = PICTURES[name]
    processor = getattr(transformers, kind)(**settings)
    folder = write_huggingface(tmp_path / "hf")
    processor.save_pretrained(folder)
    model = load_model(str(folder))
    images = load_images(photos, input_shape=model.input_shape, preprocess=model.preprocess)
    assert images.preprocess == model.preprocess.identity
    given = (images.pixels - model._mean) / model._std
    pictures = [Image.open(photos / file).convert("RGB") for file in images.names]
    wanted = torch.cat([processor(images=p, return_tensors="pt")["pixel_values"] for p in pictures])
    # Mean and std are rounded to six digits, and pixels are float32.
    atol = 5e-6 * wanted.abs().max().item()
    torch.testing.assert_close(given, wanted, rtol=0, atol=atol, check_dtype=False)
    assert 0 <= images.pixels.min() < images.pixels.max() <= 1


@pytest.mark.parametrize("settings", [{"do_resize": False}, {"size": {"shortest_edge": 24}}])
def test_a_processor_that_keeps_shapes_apart_needs_a_size(settings, photos, tmp_path):
    folder = write_huggingface(tmp_path / "hf")
    transformers.CLIPImageProcessor(do_center_crop=False, **settings).save_pretrained(folder)
    with pytest.raises(InputError, match="--input-size"):
        load_model(str(folder))
    model = load_model(str(folder), input_size=32)
    assert model.preprocess is None
    assert model.std == (0.26863, 0.261303, 0.275777)
    images = load_images(photos, input_shape=model.input_shape, preprocess=model.preprocess)
    assert images.preprocess == ""


def test_the_user_s_own_comes_before_the_processor(folder, photos):
    steps = [transforms.Resize((20, 24)), transforms.ToTensor(), transforms.Normalize(0.1, 0.2)]
    model = load_model(str(folder), preprocess=steps)
    assert (model.input_shape, model.std) == ((3, 20, 24), (0.2, 0.2, 0.2))
    assert [check.message.partition(":")[0] for check in model.remarks] == ["preprocess list"]


def test_sixteen_bits_become_eight_for_a_processor(folder, tmp_path):
    deep = np.arange(1024, dtype=np.uint16).reshape(32, 32) * 64
    (tmp_path / "f").mkdir()
    Image.fromarray(deep).save(tmp_path / "f" / "deep.tif")
    model = load_model(str(folder))
    images = load_images(tmp_path / "f", input_shape=model.input_shape, preprocess=model.preprocess)
    np.testing.assert_allclose(images.pixels[0, 0], deep / 65535, atol=0.5 / 255 + 1e-6)


def test_a_processor_gets_pixels_that_it_may_write(folder):
    preprocess = load_model(str(folder)).preprocess
    seen = []

    def processor(**given):
        seen.append(given["images"].flags.writeable)
        return preprocess.pixels.processor(**given)

    picture = Image.new("RGB", (40, 30), "gray")
    undone = dataclasses.replace(preprocess.pixels, processor=processor)
    torch.testing.assert_close(undone(picture), preprocess.pixels(picture), rtol=0, atol=0)
    assert seen == [True]


def test_a_crop_is_the_input_size(tmp_path):
    from transformers import ConvNextImageProcessor

    folder = write_huggingface(tmp_path / "hf")
    ConvNextImageProcessor(size={"shortest_edge": 24}, crop_pct=0.5).save_pretrained(folder)
    assert load_model(str(folder)).input_shape == (3, 24, 24)


def test_what_the_user_says_comes_first(folder):
    model = load_model(str(folder), mean=[0.1], std=[0.2], input_size=40, labels=["a", "b", "c"])
    assert (model.mean, model.std) == ((0.1,) * 3, (0.2,) * 3)
    assert (model.input_shape, model.labels) == ((3, 40, 40), ("a", "b", "c"))


def test_a_twin_keeps_its_own_preprocessing(folder):
    torch.manual_seed(0)
    like = load_model("torchvision:squeezenet1_1", mean=[0.9], std=[0.9], input_size=64)
    twin = load_twin(str(folder), like=like)
    assert (twin.mean, twin.input_shape) == ((0.5, 0.4, 0.3), (3, 32, 32))
    other = load_twin("torchvision:squeezenet1_1", like=like)
    assert (other.mean, other.input_shape) == ((0.9,) * 3, (3, 64, 64))


def test_a_folder_without_a_processor_needs_a_size(folder):
    (folder / "preprocessor_config.json").unlink()
    with pytest.raises(InputError, match="--input-size"):
        load_model(str(folder))
    model = load_model(str(folder), input_size=32)
    assert model.remarks[0].name == "normalization"


def test_pickled_weights_need_trust(folder):
    from safetensors.torch import load_file

    weights = folder / "model.safetensors"
    torch.save(load_file(weights), folder / "pytorch_model.bin")
    expected = load_model(str(folder)).sha256()
    weights.unlink()
    with pytest.raises(InputError, match="--trust-pickle"):
        load_model(str(folder))
    assert load_model(str(folder), trust_pickle=True).sha256() == expected


def test_missing_weights_are_not_drawn_at_random(folder):
    from safetensors.torch import load_file, save_file

    state = load_file(folder / "model.safetensors")
    del state["classifier.1.weight"]
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InputError, match=r"first 'classifier\.1\.weight'"):
        load_model(str(folder))


def test_code_in_the_folder_is_not_run(folder, tmp_path):
    ran = tmp_path / "ran"
    (folder / "evil.py").write_text(f"import os\nos.mkdir({str(ran)!r})\n")
    for name, key, value in [
        ("config.json", "AutoModelForImageClassification", "evil.Net"),
        ("preprocessor_config.json", "AutoImageProcessor", "evil.Processor"),
    ]:
        config = json.loads((folder / name).read_text())
        config |= {"auto_map": {key: value, "AutoConfig": "evil.Config"}, "model_type": "evil"}
        config.pop("image_processor_type", None)
        (folder / name).write_text(json.dumps(config))
    for trust in (False, True):
        with pytest.raises(InputError, match="no image classifier"):
            load_model(str(folder), trust_pickle=trust)
    assert not ran.exists()


def test_a_processor_that_does_more_than_normalize_is_refused(folder):
    name = folder / "preprocessor_config.json"
    config = json.loads(name.read_text())
    config["image_std"] = [-0.5, 0.5, 0.5]  # turns a channel upside down
    name.write_text(json.dumps(config))
    with pytest.raises(InputError, match="more than resize, crop and normalize"):
        load_model(str(folder))


def test_another_task_is_refused(tmp_path):
    from transformers import BertConfig, BertForSequenceClassification

    config = BertConfig(
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=8,
        vocab_size=20,
    )
    BertForSequenceClassification(config).save_pretrained(tmp_path / "text")
    with pytest.raises(InputError, match="no image classifier"):
        load_model(str(tmp_path / "text"))
