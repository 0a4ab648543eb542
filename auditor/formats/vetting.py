"""Refuse saved networks that could run code, or write files, when they are loaded or called.

``torch.export.load`` unpickles, evaluates the text of size expressions, and writes names from the
file into Python code that it then runs. ``torch.jit.load`` runs the file's own ``__setstate__``
in TorchScript, whose operators include writing a file. What is allowed here is what exporting and
scripting a classifier produces; a file that needs more has to be trusted.
"""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from auditor.errors import InputError
from auditor.usercode import describe

_NAME = re.compile(r"[A-Za-z_]\w*", re.ASCII)
_PATH = re.compile(r"[\w.+\-]*", re.ASCII)
_WORDS = re.compile(r"[\w.+\-, >]*", re.ASCII)  # as in the equation of an einsum
_ATEN = re.compile(r"torch\.ops\.aten\.(\w+)\.(\w+)", re.ASCII)
_ON_SIZES = re.compile(
    r"_operator\.(add|sub|mul|floordiv|mod|neg|pos|truediv|eq|ne|lt|le|gt|ge|and_|or_|not_|getitem)"
    r"|math\.(ceil|floor|trunc|sqrt)|torch\.sym_(int|float|max|min|not|sum|ite)"
)
_SYMBOL = re.compile(r"Symbol\('\w+'(, \w+=(True|False))*\)", re.ASCII)
_SIZE = re.compile(r"L\['\w+'\](\[\d+\])?\.size\(\)\[\d+\]", re.ASCII)
_FUNCTIONS = {
    *("Max", "Min", "Mod", "PythonMod", "FloorDiv", "CeilDiv", "CleanDiv", "IntTrueDiv"),
    *("Integer", "Add", "Mul", "Equality", "Unequality", "And", "Or", "Not"),
    *("LessThan", "StrictLessThan", "GreaterThan", "StrictGreaterThan"),
    *("and", "or", "not", "True", "False", "true", "false"),
}
_IDENTIFIERS = {"name", "as_name", "forward_arg_names"}
# What a node's metadata may hold: kept as text and never run.
_METADATA = {"stack_trace", "nn_module_stack", "source_fn_stack", "torch_fn", "custom", "from_node"}
_SPECS = {"in_spec", "out_spec"}
_TRUST = "If you made the file yourself, pass --trust-pickle."


class _SuspectError(Exception):
    """What was found that could run code."""


def vet_exported(content: bytes, path: Path) -> None:
    """Check a ``torch.export`` archive before :func:`torch.export.load` sees it.

    Raises
    ------
    InputError
        If it is no such archive, or holds anything that could run code.
    """
    try:
        # The loader falls back to an older format, which it unpickles, when this is there.
        if "version" in zipfile.ZipFile(io.BytesIO(content)).namelist():
            raise _SuspectError("the format before torch 2.8, which is unpickled")
        reader = _reader(content)
        records = reader.get_all_records()
        if "models/model.json" not in records:
            raise InputError(f"{path}: no exported program. Save it with torch.export.save.")
        for record in records:
            _vet_record(record, reader)
    except InputError:
        raise
    except _SuspectError as error:
        raise InputError(f"{path}: loading it could run code ({error}). {_TRUST}") from error
    except Exception as error:  # hostile bytes raise anything
        raise InputError(f"{path}: not an exported program ({describe(error)}).") from error


def vet_torchscript(content: bytes, path: Path) -> None:
    """Check a TorchScript archive before :func:`torch.jit.load` sees it.

    Raises
    ------
    InputError
        If it is no such archive, or its code could touch files or leave torch's own operators.
    """
    try:
        reader = _reader(content)
        records = reader.get_all_records()
        if "constants.pkl" not in records:
            raise InputError(
                f"{path}: no TorchScript. If it holds weights, name the network with --model "
                "package.module:factory and pass this as --weights."
            )
        for record in records:
            if record.endswith((".py", ".pkl")):
                text = reader.get_record(record).decode("utf-8", "replace")
                _vet_script(record, text)
    except InputError:
        raise
    except _SuspectError as error:
        raise InputError(f"{path}: it could touch files or run code ({error}). {_TRUST}") from error
    except Exception as error:  # hostile bytes raise anything
        raise InputError(f"{path}: not a TorchScript file ({describe(error)}).") from error


def _reader(content: bytes) -> Any:  # torch's own, so that it finds what the loader finds
    return torch._C.PyTorchFileReader(io.BytesIO(content))


def _vet_record(record: str, reader: Any) -> None:
    if record.startswith("data/aotinductor/"):
        raise _SuspectError("compiled machine code")
    if re.fullmatch(r"data/(weights|constants)/[^/]*\.pt", record):
        raise _SuspectError(f"{record} is a pickle")
    if record.startswith("data/sample_inputs/"):
        content = reader.get_record(record)
        try:
            if content:
                torch.load(io.BytesIO(content), weights_only=True)
        except Exception as error:  # hostile bytes raise anything
            raise _SuspectError(f"{record} is a pickle of more than tensors") from error
    elif record.endswith("_config.json"):
        for entry in json.loads(reader.get_record(record))["config"].values():
            if entry["use_pickle"] or not entry["path_name"].startswith(("weight_", "tensor_")):
                raise _SuspectError(f"{record} names a pickle, {entry['path_name']}")
    elif record.startswith("models/"):
        for key, text in _texts(json.loads(reader.get_record(record))):
            _vet_text(key, text)


def _texts(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Every text in the JSON with the nearest key above it; keys themselves have the key ''."""
    if isinstance(value, str):
        yield key, value
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item, key)
    elif isinstance(value, dict):
        for name, item in value.items():
            yield "", name
            if not (name == "metadata" and _is_metadata(item)):
                yield from _texts(item, name)


def _is_metadata(value: Any) -> bool:
    # A tensor may be called "metadata" as well: its sizes must not pass unseen.
    return (
        isinstance(value, dict)
        and set(value) <= _METADATA
        and all(isinstance(text, str) for text in value.values())
    )


def _vet_text(key: str, text: str) -> None:
    if key in _SPECS:
        # JSON whose texts "context" are JSON again.
        for inner, part in _texts(json.loads(text)):
            _vet_text("in_spec" if inner == "context" else "", part)
    elif key == "expr_str":
        _vet_expression(_SYMBOL.sub("1", text))
    elif key == "guards_code":
        _vet_expression(_SIZE.sub("1", text))
    elif key == "target":
        if not (_ON_SIZES.fullmatch(text) or _is_aten(text)):
            raise _SuspectError(f"operator {text[:60]!r}")
    elif key == "as_operator" or (key == "" and text == "as_operator"):
        raise _SuspectError("an operator as an argument")
    elif key in _IDENTIFIERS:
        if text and not _NAME.fullmatch(text):
            raise _SuspectError(f"the name {text[:60]!r}")
    elif not (_WORDS if key in ("as_string", "as_strings") else _PATH).fullmatch(text):
        raise _SuspectError(f"the text {text[:60]!r}")


def _is_aten(text: str) -> bool:
    found = _ATEN.fullmatch(text)
    if found is None or found.group(1) == "from_file":  # which can write the file it names
        return False
    operator = getattr(getattr(torch.ops.aten, found.group(1), None), found.group(2), None)
    return isinstance(operator, torch._ops.OpOverload)


def _vet_expression(text: str) -> None:
    """Allow arithmetic on whole numbers and sizes, no attributes, no powers."""
    words = set(re.findall(r"[^\W\d]\w*", text))
    sizes = {word for word in words if re.fullmatch(r"[su]\d+", word, re.ASCII)}
    allowed = re.fullmatch(r"[\w\s+\-*/%(),<>=!&|~]*", text, re.ASCII)
    if not allowed or "**" in text or not words - sizes <= _FUNCTIONS or len(text) > 10_000:
        raise _SuspectError(f"the expression {text[:60]!r}")


def _vet_script(record: str, text: str) -> None:
    """Look for forbidden words wherever they stand, in texts and comments as well."""
    found = re.search(r"\b(save|from_file)\b", text)
    if found and record.endswith(".py"):
        raise _SuspectError(f"{record} mentions {found.group(1)!r}")
    # Where operators are named, "ops" comes first; in torchvision.ops.misc it is a module's name.
    if record.endswith(".py") and re.search(r"(?<![A-Za-z_]\.)\bops\b(?!\.(prim|aten)\.)", text):
        raise _SuspectError(f"{record} uses operators that are not torch's own")
    if "torch.classes" in text:
        raise _SuspectError(f"{record} uses custom classes")
