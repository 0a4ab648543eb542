from __future__ import annotations

import contextlib
import io
import pickle
import pickletools
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from auditor.datasets import pickled
from auditor.datasets.pickled import UnsafePickleError, read_pickle

from .pickles import array, batch, dictionary, number, text

X = np.random.default_rng(0).integers(0, 256, (3, 100), dtype=np.uint8)


def read(content: bytes):
    return read_pickle(io.BytesIO(content), len(content))


def test_the_layout_of_python_2():
    content = batch(X, [3, 0, 9])
    oracle = pickle.loads(content, encoding="bytes")  # ours, so it may be run here
    found = read(content)
    assert list(found) == [key.decode() for key in oracle]
    np.testing.assert_array_equal(found["data"], oracle[b"data"])
    np.testing.assert_array_equal(found["data"], X)
    assert found["labels"] == oracle[b"labels"] == [3, 0, 9]
    assert found["filenames"] == oracle[b"filenames"]
    assert found["batch_label"] == b"testing batch 1 of 1"


# Python 3 writes no bytes at all as a call of their type, which no batch needs.
BYTES = st.binary(min_size=1)
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**31), 2**31 - 1) | st.text() | BYTES,
    lambda inner: (
        st.lists(inner)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text() | BYTES, inner, max_size=4)
    ),
    max_leaves=20,
)


@given(st.dictionaries(st.text(), PLAIN), st.integers(2, 5))
def test_what_python_3_writes(content, protocol):
    assert read(pickle.dumps(content, protocol)) == content


@given(hnp.arrays(np.uint8, hnp.array_shapes(min_dims=2, max_dims=2)), st.booleans())
def test_arrays_of_python_3(x, fortran):
    x = np.asfortranarray(x) if fortran else x
    found = read(pickle.dumps({"data": x}, protocol=2))
    np.testing.assert_array_equal(found["data"], x)


class Attack:
    """Leaves a trace if it is ever called."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
@pytest.mark.parametrize("place", ["value", "list", "key", "itself"])
def test_no_code_is_run(protocol, place, tmp_path):
    trace = tmp_path / "trace"
    attack = Attack(exec, f"open({str(trace)!r}, 'w').close()")
    content = {
        "value": {"data": attack},
        "list": {"labels": [1, attack]},
        "key": {attack: 1},
        "itself": attack,
    }[place]
    evil = pickle.dumps(content, protocol)
    with pytest.raises(UnsafePickleError):
        read(evil)
    assert not trace.exists()
    if place != "key":
        pickle.loads(evil)
        assert trace.exists()  # the attack is one


# Instructions that a hostile file could be made of; every one alone must be harmless.
@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"cos\nsystem\n", "the name 'os system'"),
        (b"cnumpy.core.multiarray\nfromfile\n", "the name"),
        (b"c__builtin__\neval\n", "the name"),
        (b"cnumpy\nload\n", "the name"),
        (b"\x8c\x02os\x8c\x06system\x93", "the name"),
        (b"(ios\nsystem\n", "instruction INST"),
        (b"(cnumpy\nndarray\no", "instruction OBJ"),
        (b"cnumpy\nndarray\n)\x81", "instruction NEWOBJ"),
        (b"P1\n", "instruction PERSID"),
        (b"K\x01Q", "instruction BINPERSID"),
        (b"\x82\x01", "instruction EXT1"),
        (b"\x8f", "instruction EMPTY_SET"),
        (b"cnumpy\nndarray\n(K\x05tR", "a call of numpy ndarray"),
        (b"cnumpy\ndtype\n(U\x01OK\x00K\x01tR", "a call of numpy dtype"),
        (b"c_codecs\nencode\n(X\x01\x00\x00\x00aX\x04\x00\x00\x00zliBtR", "a call of _codecs"),
        (b"U\x02osK\x01R", "a call of an unknown function"),
        (b"}}K\x01s", "keys that are no text"),
        (b"}K\x01b", "an object with a state"),
        (b"K\x01K\x02a", "what is no list"),
        (b"R", "damaged"),
        (b"h\x07", "damaged"),
        (b"e", "damaged"),
        (b"T\xff\xff\xff\x7f", "damaged"),
        (b"\x8e\xff\xff\xff\xff\xff\xff\xff\x7f", "damaged"),
        (b"I" + b"9" * 10**5 + b"\n", "damaged"),
    ],
)
def test_what_is_more_than_data(body, says):
    with pytest.raises(UnsafePickleError, match=says) as caught:
        read(b"\x80\x02" + body + b".")
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    "spoil",
    [
        lambda a: a.replace(b"U\x02u1", b"U\x02u2"),
        lambda a: a.replace(b"U\x01|N", b"U\x01<N"),
        lambda a: a.replace(b"K\x03Kd\x86", b"K\x03Ke\x86"),
        lambda a: a.replace(b"K\x03Kd\x86", b"J\xfd\xff\xff\xffJ\x9c\xff\xff\xff\x86"),
        lambda a: a.replace(b"K\x03Kd\x86", b"(K\x03Kd" + b"K\x01" * 9 + b"t"),
        lambda a: a.replace(b"(K\x01K", b"(K\x02K"),
        lambda a: a.replace(b"K\x00\x85", b"M\xff\xff\x85"),
    ],
)
def test_arrays_of_other_than_bytes(spoil):
    good = dictionary(data=array(X))
    bad = spoil(good)
    assert bad != good
    with pytest.raises(UnsafePickleError, match=r"bytes|damaged"):
        read(bad)


def test_instructions_are_counted(monkeypatch):
    content = pickle.dumps({"a": list(range(300))}, protocol=2)
    steps = sum(1 for _ in pickletools.genops(content))
    monkeypatch.setattr(pickled, "MAX_INSTRUCTIONS", steps)
    assert len(read(content)["a"]) == 300
    monkeypatch.setattr(pickled, "MAX_INSTRUCTIONS", steps - 1)
    with pytest.raises(UnsafePickleError, match="instructions"):
        read(content)


BOMBS = {
    # A slot of memory far away; a list of that size would take 16 GiB.
    "memory slot": b"K\x01r\xff\xff\xff\x7f.",
    # 2**60 references to one tuple: harmless until hashed or printed.
    "nesting": b"(" + b"K\x01t" + b"q\x00h\x00\x86" * 60 + b".",
    # A mebibyte of text made into bytes again and again.
    "encoding": b"X"
    + (2**20).to_bytes(4, "little")
    + b"a" * 2**20
    + b"q\x00"
    + b"c_codecs\nencode\nh\x00X\x06\x00\x00\x00latin1\x86R" * 200
    + b".",
    "declared length": dictionary(data=b"T\xff\xff\xff\x7f123"),
    "deep": b"\x80\x02" + b"(" * 10**5 + b"t" * 10**5 + b".",
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_bombs_take_little_memory(bomb):
    content = BOMBS[bomb]
    tracemalloc.start()
    try:
        with pytest.raises(UnsafePickleError):
            read(b"\x80\x02" + content if content[:1] != b"\x80" else content)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # Of the order of the content itself: an instruction of one byte makes an object of some 60.
    assert peak < 4 * 2**20 + 200 * len(content)


@given(st.binary(max_size=30), st.integers(0, 500), st.data())
def test_damaged_pickles_are_data_or_refused(patch, at, data):
    content = bytearray(batch(X, [3, 0, 9]))
    content[at : at + len(patch)] = patch
    content = bytes(content[: data.draw(st.integers(0, len(content)))])
    refused = None
    try:
        found = read(content)
    except UnsafePickleError as error:
        refused = str(error)
    if refused is None:
        assert type(found) is dict
    else:
        assert len(refused) < 200


@given(st.lists(st.sampled_from([o.code for o in pickletools.opcodes]), max_size=40), st.binary())
def test_any_program_is_data_or_refused(codes, tail):
    """Instructions in any order, each followed by whatever its argument may be."""
    program = "".join(codes).encode("latin-1")
    for content in (program, b"\x80\x02" + program + tail, text(b"os") + program + number(1)):
        with contextlib.suppress(UnsafePickleError):
            assert type(read(content)) is dict
