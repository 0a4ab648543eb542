from __future__ import annotations

from pathlib import Path

import pytest

from auditor.errors import InputError
from auditor.specs import parse_floats, parse_size, parse_twin


@pytest.mark.parametrize(
    ("text", "numbers"),
    [("0.5", (0.5,)), ("127/255", (127 / 255,)), (" 1, -2e-1 ,3 / 4", (1.0, -0.2, 0.75))],
)
def test_floats(text, numbers):
    assert parse_floats(text) == numbers


@pytest.mark.parametrize("text", ["", "a", "1,,2", "1/0", "nan", "inf", "1/2/3", "1;2"])
def test_floats_that_are_none(text):
    with pytest.raises(InputError, match="is no number"):
        parse_floats(text)


@pytest.mark.parametrize(
    ("text", "size"),
    [("224", (224,)), ("28x32", (28, 32)), ("3x224x224", (3, 224, 224)), ("1,28,28", (1, 28, 28))],
)
def test_size(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "0", "-3", "a", "1x2x3x4", "2.5", "3x"])
def test_size_that_is_none(text):
    with pytest.raises(InputError, match="no input size"):
        parse_size(text)


@pytest.mark.parametrize(
    ("spec", "arguments"),
    [
        ("net.py:make", {"spec": "net.py:make"}),
        (
            "f.py:g,weights=t.safetensors,input-size=240,mean=0.5,std=51/255,name=Twin B",
            {
                "spec": "f.py:g",
                "weights": Path("t.safetensors"),
                "input_size": (240,),
                "mean": (0.5,),
                "std": (0.2,),
                "name": "Twin B",
            },
        ),
        (
            "torchvision:resnet18,mean=0.1,0.2,0.3,std=1,labels=l.txt",
            {
                "spec": "torchvision:resnet18",
                "mean": (0.1, 0.2, 0.3),
                "std": (1.0,),
                "labels": Path("l.txt"),
            },
        ),
    ],
)
def test_twin(spec, arguments):
    assert parse_twin(spec) == arguments


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("a:b,wieghts=x", "unknown key 'wieghts'"),
        ("a:b,x", "'x' has no key"),
        ("a:b,std=1,std=2", "given twice"),
        ("a:b,std=x", "is no number"),
        ("a:b,input-size=big", "no input size"),
        ("a:b,trust-pickle=1", "unknown key"),
    ],
)
def test_twin_that_is_none(spec, says):
    with pytest.raises(InputError, match=says):
        parse_twin(spec)
