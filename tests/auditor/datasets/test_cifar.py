from __future__ import annotations

import pickle
from contextlib import ExitStack

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditor.datasets import cifar
from auditor.datasets.cifar import open_cifar
from auditor.errors import InputError

from .pickles import batch, names

X = np.random.default_rng(0).integers(0, 256, (3, 3072), dtype=np.uint8)
PLANES = X.reshape(3, 3, 32, 32)
TEN = [f"class {i}" for i in range(10)]
HUNDRED = [f"class {i}" for i in range(100)]


def read(*paths):
    with ExitStack() as stack:
        dataset = open_cifar(list(paths), stack)
        found = [(p.name, np.stack([p.rows[i] for i in range(len(p.rows))])) for p in dataset.parts]
        labels = [p.labels.tolist() for p in dataset.parts]
        return dataset.format, dataset.class_names, found, labels


def python(folder, name, content):
    (folder / name).write_bytes(content)
    return folder / name


def test_python_cifar_10(tmp_path):
    one = python(tmp_path, "data_batch_1", batch(X, [1, 2, 9]))
    two = python(tmp_path, "data_batch_2", batch(X[:1], [0]))
    python(tmp_path, "batches.meta", names("label_names", TEN))
    kind, classes, found, labels = read(one, two)
    assert (kind, classes) == ("cifar10", tuple(TEN))
    assert [name for name, _ in found] == ["data_batch_1", "data_batch_2"]
    np.testing.assert_array_equal(found[0][1], PLANES)
    np.testing.assert_array_equal(found[1][1], PLANES[:1])
    assert labels == [[1, 2, 9], [0]]


def test_python_cifar_100_has_its_fine_labels(tmp_path):
    path = python(tmp_path, "test", batch(X, [1, 99, 0], key="fine_labels"))
    python(tmp_path, "meta", names("fine_label_names", HUNDRED))
    kind, classes, _, labels = read(path)
    assert (kind, classes, labels) == ("cifar100", tuple(HUNDRED), [[1, 99, 0]])


def test_batches_that_python_3_saved(tmp_path):
    content = pickle.dumps({b"data": X, b"labels": [0, 1, 2]}, protocol=2)
    _, classes, found, labels = read(python(tmp_path, "test_batch", content))
    np.testing.assert_array_equal(found[0][1], PLANES)
    assert (labels, classes) == ([[0, 1, 2]], ())


@pytest.mark.parametrize(("lead", "kind"), [(1, "cifar10"), (2, "cifar100")])
def test_binary(lead, kind, tmp_path):
    labels = [1, 5, 9]
    records = [bytes([7] * (lead - 1) + [y]) + x.tobytes() for x, y in zip(X, labels, strict=True)]
    (tmp_path / "t.bin").write_bytes(b"".join(records))
    listed = TEN if lead == 1 else HUNDRED
    file = "batches.meta.txt" if lead == 1 else "fine_label_names.txt"
    (tmp_path / file).write_text("\n".join(listed) + "\n\n")
    found = read(tmp_path / "t.bin")
    assert found[:2] == (kind, tuple(listed))
    np.testing.assert_array_equal(found[2][0][1], PLANES)
    assert found[3] == [labels]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"\x80\x02cos\nsystem\nU\x02ls\x85R.", "read as data only, .* the name 'os system'"),
        (batch(X, [1, 2, 3])[:-500], "no pickle, or a damaged one"),
        (batch(X, [1, 2]), "labels are not 3 class indices"),
        (batch(X, [1, 2, 10]), "label 10 is none of 10 classes"),
        (batch(X, [1, 2, 100], key="fine_labels"), "label 100 is none of 100 classes"),
        (batch(X[:, :-1], [1, 2, 3]), "no batch of CIFAR images"),
        (batch(X, [1, 2, 3], key="coarse_labels"), "labels are not 3"),
        (names("label_names", TEN), "no batch of CIFAR images"),
        (pickle.dumps({"data": X, "labels": [1, 2, True]}, 2), "labels are not 3"),
        (pickle.dumps({"data": X, "labels": [1, 2, -1]}, 2), "labels are not 3"),
        (pickle.dumps({"data": X.tobytes(), "labels": [1, 2, 3]}, 2), "no batch of CIFAR"),
        (pickle.dumps([1], 2), "holds no dictionary but list"),
    ],
)
def test_hostile_batches(content, says, tmp_path):
    with pytest.raises(InputError, match=says) as caught:
        read(python(tmp_path, "test_batch", content))
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("size", [0, 1, 3072, 3075, 3073 * 3074])
def test_binary_files_of_a_wrong_size(size, tmp_path):
    (tmp_path / "t.bin").write_bytes(bytes(size))
    with pytest.raises(InputError, match=f"{size} bytes are no CIFAR batch"):
        read(tmp_path / "t.bin")


def test_large_pickles_are_not_read(tmp_path, monkeypatch):
    path = python(tmp_path, "test_batch", batch(X, [1, 2, 3]))
    monkeypatch.setattr(cifar, "MAX_PICKLE_BYTES", path.stat().st_size - 1)
    with pytest.raises(InputError, match="larger than"):
        read(path)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("batches.meta", names("label_names", TEN[:9])),
        ("batches.meta", names("label_names", [*TEN[:9], TEN[0]])),
        ("batches.meta", names("label_names", [*TEN[:9], ""])),
        ("batches.meta", names("label_names", [*TEN[:9], "x" * 201])),
        ("batches.meta", batch(X, [1, 2, 3])),
        ("batches.meta", b"\x80\x02cos\nsystem\n."),
        ("batches.meta.txt", b"\xff\xfe"),
        ("batches.meta.txt", "\n".join(TEN[:9]).encode()),
        ("batches.meta.txt", b"\n" * (2**20 + 1)),
    ],
)
def test_hostile_class_names(name, content, tmp_path):
    path = python(tmp_path, "test_batch", batch(X, [1, 2, 3]))
    python(tmp_path, name, content)
    with pytest.raises(InputError, match=r"batches\.meta"):
        read(path)


def test_mixed_batches(tmp_path):
    ten = python(tmp_path, "a", batch(X, [1, 2, 3]))
    hundred = python(tmp_path, "b", batch(X, [1, 2, 3], key="fine_labels"))
    with pytest.raises(InputError, match="CIFAR-10 and CIFAR-100"):
        read(ten, hundred)


@given(st.binary(max_size=20), st.integers(0, 400), st.booleans(), st.data())
def test_damaged_files_give_rows_or_a_message(tmp_path_factory, patch, at, binary, data):
    folder = tmp_path_factory.mktemp("fuzz")
    content = bytearray(b"\1" + X[:1].tobytes() if binary else batch(X, [1, 2, 3]))
    content[at : at + len(patch)] = patch
    length = data.draw(st.integers(0, 500) | st.just(len(content)))
    path = folder / ("t.bin" if binary else "test_batch")
    path.write_bytes(content[:length])
    message = None
    try:
        _, _, found, _ = read(path)
        assert found[0][1].shape[1:] == (3, 32, 32)
    except InputError as error:
        message = str(error)
    assert message is None or (len(message.splitlines()) <= 2 and len(message) < 600)
