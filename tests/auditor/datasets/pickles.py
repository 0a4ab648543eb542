"""Pickles as Python 2 wrote those of CIFAR, instruction by instruction."""

from __future__ import annotations

import numpy as np

MEMO = b"q\x05"  # Python 2 noted nearly everything; the slot does not matter
BYTE = b"cnumpy\ndtype\n" + MEMO + b"U\x02u1K\x00K\x01\x87Rq\x02"
BYTE_STATE = b"(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"


def text(value: bytes) -> bytes:
    if len(value) < 256:
        return b"U" + bytes([len(value)]) + value + MEMO
    return b"T" + len(value).to_bytes(4, "little") + value + MEMO


def number(value: int) -> bytes:
    return b"K" + bytes([value]) if value < 256 else b"M" + value.to_bytes(2, "little")


def array(values: np.ndarray) -> bytes:
    made = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87Rq\x01"
    shape = b"".join(number(side) for side in values.shape) + b"\x86"
    return made + b"(K\x01" + shape + BYTE + BYTE_STATE + b"\x89" + text(values.tobytes()) + b"tb"


def items(values: list[bytes]) -> bytes:
    return b"]" + MEMO + b"(" + b"".join(values) + b"e"


def dictionary(**entries: bytes) -> bytes:
    pairs = b"".join(text(key.encode()) + value for key, value in entries.items())
    return b"\x80\x02}" + MEMO + b"(" + pairs + b"u."


def batch(data: np.ndarray, labels: list[int], *, key: str = "labels") -> bytes:
    """A batch: rows of 3,072 bytes, labels, file names, and what the batch is called."""
    return dictionary(
        batch_label=text(b"testing batch 1 of 1"),
        **{key: items([number(label) for label in labels])},
        data=array(data),
        filenames=items([text(b"cat_s_%06d.png" % i) for i in range(len(data))]),
    )


def names(key: str, values: list[str]) -> bytes:
    return dictionary(
        num_cases_per_batch=number(10000), **{key: items([text(v.encode()) for v in values])}
    )
