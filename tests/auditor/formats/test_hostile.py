"""Files that lie: damaged, renamed, or made to run code when they are loaded or called."""

from __future__ import annotations

import io
import json
import os
import pickle
import shutil
import zipfile
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from auditor.errors import InputError
from auditor.loading import load_model
from auditor.models import Classifier
from tests.auditor.formats.small import SIZE, small, write_all, write_huggingface

for extra in ("onnx2torch", "transformers"):
    pytest.importorskip(extra)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sound")
    found = {Path(spec).suffix: Path(spec) for spec in write_all(folder, small(folder)).values()}
    return found | {"folder": write_huggingface(folder / "hf")}


def load(path, **arguments):
    return load_model(str(path), input_size=SIZE, mean=[0.0], std=[1.0], **arguments)


def refused_or_sound(path):
    """Load a file that may be damaged: a plain refusal, or a classifier."""
    try:
        model = load_model(str(path), input_size=SIZE if path.is_file() else None)
    except InputError as error:
        return len(str(error).splitlines()) <= 2
    return isinstance(model, Classifier)


@pytest.mark.parametrize("suffix", [".pt2", ".ts", ".onnx"])
@settings(max_examples=25)
@given(data=st.data())
def test_damaged_files(suffix, files, tmp_path_factory, data):
    content = bytearray(files[suffix].read_bytes())
    if data.draw(st.booleans(), label="truncated"):
        content = content[: data.draw(st.integers(0, len(content) - 1))]
    else:
        for _ in range(data.draw(st.integers(1, 8))):
            where = data.draw(st.integers(0, len(content) - 1))
            content[where] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp("damaged") / f"network{suffix}"
    path.write_bytes(content)
    assert refused_or_sound(path)


@pytest.mark.parametrize("suffix", [".pt2", ".ts", ".pt", ".onnx"])
@settings(max_examples=25)
@given(content=st.binary(max_size=200))
def test_garbage(suffix, content, tmp_path_factory):
    path = tmp_path_factory.mktemp("garbage") / f"network{suffix}"
    path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        load(path)
    assert len(str(caught.value).splitlines()) <= 2


@pytest.mark.parametrize("content", [".pt2", ".ts", ".onnx"])
@pytest.mark.parametrize("suffix", [".pt2", ".pt", ".onnx"])
def test_renamed_files(suffix, content, files, tmp_path):
    path = tmp_path / f"network{suffix}"
    shutil.copy(files[content], path)
    if (suffix, content) in ((".pt2", ".pt2"), (".pt", ".ts"), (".onnx", ".onnx")):
        assert load(path).classes == 10
    else:
        with pytest.raises(InputError, match="network"):
            load(path)


@settings(max_examples=25)
@given(data=st.data())
def test_damaged_folders(files, tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("damaged") / "hf"
    shutil.copytree(files["folder"], folder)
    path = folder / data.draw(st.sampled_from(sorted(os.listdir(folder))))
    content = bytearray(path.read_bytes())
    action = data.draw(st.sampled_from(("truncate", "change", "remove", "garbage")))
    if action == "truncate":
        path.write_bytes(content[: data.draw(st.integers(0, len(content) - 1))])
    elif action == "change":
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
        path.write_bytes(content)
    elif action == "remove":
        path.unlink()
    else:
        path.write_bytes(data.draw(st.binary(max_size=50)))
    assert refused_or_sound(folder)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("missing.pt2", "no such file"),
        ("missing.onnx", "no such file"),
        ("missing.ts", "no such file"),
        ("empty", "no .safetensors file"),
    ],
)
def test_missing_files(name, says, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=says):
        load(tmp_path / name)


def test_a_state_dict_in_place_of_a_network_is_explained(tmp_path):
    torch.save(nn.Linear(2, 2).state_dict(), tmp_path / "weights.pt")
    with pytest.raises(InputError, match="pass this as --weights"):
        load(tmp_path / "weights.pt")


class Mark:
    """Unpickling this makes a folder: proof that code ran."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def rewritten(source, target, changes):
    """Copy an archive with some records changed or added; names without the archive's folder."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        root = old.namelist()[0].partition("/")[0]
        records = {name.partition("/")[2]: old.read(name) for name in old.namelist()}
        for name, content in (records | changes).items():
            new.writestr(f"{root}/{name}", content)
    return target


def tensors(value):
    content = io.BytesIO()
    torch.save(value, content)
    return content.getvalue()


def test_unpickled_inputs_of_an_exported_program_run_only_when_trusted(files, tmp_path):
    ran = tmp_path / "ran"
    changes = {"data/sample_inputs/model.pt": tensors(((Mark(ran),), {}))}
    path = rewritten(files[".pt2"], tmp_path / "evil.pt2", changes)
    with pytest.raises(InputError, match="--trust-pickle"):
        load(path)
    assert not ran.exists()
    load(path, trust_pickle=True)
    assert ran.exists()


@pytest.mark.parametrize(
    "record",
    [
        "data/aotinductor/model/model.so",
        "data/weights/model.pt",
        "data/constants/model.pt",
    ],
)
def test_records_that_an_exported_program_does_not_need(record, files, tmp_path):
    path = rewritten(files[".pt2"], tmp_path / "evil.pt2", {record: pickle.dumps(1)})
    with pytest.raises(InputError, match="--trust-pickle"):
        load(path)


def test_the_older_format_is_unpickled_and_so_refused(files, tmp_path):
    path = tmp_path / "old.pt2"
    shutil.copy(files[".pt2"], path)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("version", "8.20")
    with pytest.raises(InputError, match="--trust-pickle"):
        load(path)


EVIL = "__import__('os').mkdir('ran')"


def first_node(program):
    return program["graph_module"]["graph"]["nodes"][0]


def rename(program, old, new):
    text = json.dumps(program).replace(json.dumps(old), json.dumps(new))
    program.clear()
    program.update(json.loads(text))


def size(program, name="x"):
    values = program["graph_module"]["graph"]["tensor_values"]
    values[name]["sizes"][0] = {"as_expr": {"expr_str": EVIL, "hint": {"as_int": 2}}}
    return values


def in_metadata(program):
    size(program)
    rename(program, "x", "metadata")


PROGRAMS = {
    "a name that becomes code": lambda p: rename(p, "conv2d", f"a; {EVIL} #"),
    "a size that is evaluated": size,
    "a size of a tensor called metadata": in_metadata,
    "an argument's name": lambda p: p["graph_module"]["module_call_graph"][0]["signature"].update(
        forward_arg_names=[f"x={EVIL}"]
    ),
    "a guard": lambda p: p["guards_code"].append(EVIL),
    "a guard with an attribute": lambda p: p["guards_code"].append("L['x'].__class__"),
    "another operator": lambda p: first_node(p).update(target="torch.os.mkdir"),
    "an attribute": lambda p: first_node(p).update(target="_operator.attrgetter"),
    "no operator": lambda p: first_node(p).update(target="torch.ops.aten.__class__.mro"),
    "a file operator": lambda p: first_node(p).update(target="torch.ops.aten.from_file.default"),
    "a key of the input tree": lambda p: rename(
        p,
        p["graph_module"]["module_call_graph"][0]["signature"]["in_spec"],
        p["graph_module"]["module_call_graph"][0]["signature"]["in_spec"].replace(
            '"context": "[]"', '"context": "[\\"x=print()\\"]"'
        ),
    ),
}


@pytest.mark.parametrize("change", PROGRAMS)
def test_programs_that_would_run_code(change, files, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with zipfile.ZipFile(files[".pt2"]) as archive:
        (name,) = (n for n in archive.namelist() if n.endswith("models/model.json"))
        program = json.loads(archive.read(name))
    before = json.dumps(program)
    PROGRAMS[change](program)
    assert json.dumps(program) != before
    path = rewritten(
        files[".pt2"], tmp_path / "evil.pt2", {"models/model.json": json.dumps(program)}
    )
    with pytest.raises(InputError, match="could run code"):
        load(path)
    assert not (tmp_path / "ran").exists()


def test_an_expression_is_what_the_vetting_is_for(files, tmp_path, monkeypatch):
    """Without the check a size does run: if torch stops that, the check may be relaxed."""
    monkeypatch.chdir(tmp_path)
    with zipfile.ZipFile(files[".pt2"]) as archive:
        (name,) = (n for n in archive.namelist() if n.endswith("models/model.json"))
        program = json.loads(archive.read(name))
    size(program)
    changes = {"models/model.json": json.dumps(program)}
    path = rewritten(files[".pt2"], tmp_path / "evil.pt2", changes)
    with pytest.raises(InputError):
        load(path, trust_pickle=True)
    assert (tmp_path / "ran").exists()


class Einsum(nn.Module):
    def forward(self, x):
        return torch.einsum("b c h w, h k -> b k", x, torch.ones(12, 3))


def test_an_equation_is_no_code(tmp_path):
    program = torch.export.export(Einsum(), (torch.ones(1, *SIZE),))
    torch.export.save(program, tmp_path / "einsum.pt2")
    assert load(tmp_path / "einsum.pt2").classes == 3


@pytest.mark.parametrize("config", ["weights", "constants"])
def test_pickled_weights_of_an_exported_program(config, files, tmp_path):
    record = f"data/{config}/model_{config}_config.json"
    entry = {"path_name": "weight_0", "is_param": True, "use_pickle": True, "tensor_meta": None}
    opaque = entry | {"path_name": "opaque_obj_0", "use_pickle": False}
    for evil in (entry, opaque):
        changes = {record: json.dumps({"config": {"conv.weight": evil}})}
        path = rewritten(files[".pt2"], tmp_path / "evil.pt2", changes)
        with pytest.raises(InputError, match="--trust-pickle"):
            load(path)


class Saves(nn.Module):
    def forward(self, x):
        torch.save(x, "ran")
        return x.flatten(1)


class Reads(nn.Module):
    def forward(self, x):
        return torch.from_file("ran", size=10) + x.flatten(1)


class Leaves(nn.Module):
    def forward(self, x):
        return x.flatten(1) + torch.ops.image.read_file("ran").sum()


@pytest.mark.filterwarnings("ignore:`torch.jit")
@pytest.mark.parametrize("network", [Saves(), Reads(), Leaves()], ids=lambda n: type(n).__name__)
def test_torchscript_that_would_touch_files(network, tmp_path, monkeypatch):
    import torchvision.io  # noqa: F401  # registers operators that read and write files

    monkeypatch.chdir(tmp_path)
    torch.jit.save(torch.jit.script(network), tmp_path / "evil.ts")
    with pytest.raises(InputError, match="touch files or run code"):
        load(tmp_path / "evil.ts")
    assert not (tmp_path / "ran").exists()


def test_a_node_name_of_an_onnx_file_is_not_run(files, tmp_path, monkeypatch):
    import onnx

    monkeypatch.chdir(tmp_path)
    proto = onnx.load(files[".onnx"])
    proto.graph.node[0].name = f'a")({EVIL}) or getattr(self, "b'
    onnx.save(proto, tmp_path / "evil.onnx")
    x = torch.rand(2, *SIZE, generator=torch.Generator().manual_seed(0))
    assert torch.equal(load(tmp_path / "evil.onnx")(x), load(files[".onnx"])(x))
    assert not (tmp_path / "ran").exists()


def test_onnx_weights_outside_of_the_folder_are_not_read(files, tmp_path):
    import onnx

    secret = tmp_path / "secret.bin"
    secret.write_bytes(bytes(10_000))
    folder = tmp_path / "folder"
    folder.mkdir()
    proto = onnx.load(files[".onnx"])
    weight = proto.graph.initializer[0]
    weight.ClearField("raw_data")
    weight.data_location = onnx.TensorProto.EXTERNAL
    weight.external_data.add(key="location", value="../secret.bin")
    (folder / "evil.onnx").write_bytes(proto.SerializeToString())
    with pytest.raises(InputError, match="cannot be converted"):
        load(folder / "evil.onnx")
