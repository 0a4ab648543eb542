"""Read a pickle as data: no name in it is ever looked up, no code of it is ever run.

A pickle is a program. This reader follows the few instructions that a dictionary of lists, strings,
numbers and byte arrays needs, as Python 2 and Python 3 write them, and refuses every other. The
five names that NumPy's arrays need are compared as text; their effect is imitated.
"""

from __future__ import annotations

import math
import pickletools
from typing import IO, Any, cast

import numpy as np

MAX_INSTRUCTIONS = 2_000_000
"""About ten times what the largest batch, the training images of CIFAR-100, has."""

_RECONSTRUCT = {
    "numpy.core.multiarray _reconstruct",
    "numpy._core.multiarray _reconstruct",
}
_NAMES = {*_RECONSTRUCT, "numpy ndarray", "numpy dtype", "_codecs encode"}
_PUSHED = {
    *("BININT", "BININT1", "BININT2", "BINUNICODE", "SHORT_BINUNICODE"),
    *("BINBYTES", "SHORT_BINBYTES"),
}
_FIXED: dict[str, Any] = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_STATE_OF_BYTE = (3, "|", None, None, None, -1, -1, 0)
"""What a pickled ``dtype("uint8")`` says of itself after its name."""


class UnsafePickleError(Exception):
    """A pickle with more in it than data, or a damaged one; the message says what."""


class _Name(str):
    """A name that the pickle mentions, as text."""


class _Byte:
    """Stands for the type ``uint8``."""


class _Array:
    """Stands for an array until its content is known."""

    value: np.ndarray[Any, np.dtype[np.uint8]] | None = None


class _Limited:
    """A stream that a declared length cannot make allocate more than it holds."""

    def __init__(self, stream: IO[bytes], size: int) -> None:
        self.stream, self.size = stream, size

    def read(self, count: int) -> bytes:
        """At most as many bytes as there are."""
        return self.stream.read(min(count, self.size))

    def readline(self) -> bytes:
        """One line."""
        return self.stream.readline()


def read_pickle(stream: IO[bytes], size: int) -> dict[str, Any]:
    """The dictionary of dictionaries, lists, tuples, numbers, text, bytes and ``uint8`` arrays.

    Strings of Python 2 become bytes. Time and memory are bounded by the ``size`` of the stream in
    bytes and by :data:`MAX_INSTRUCTIONS`.

    Raises
    ------
    UnsafePickleError
        If the pickle holds anything else, or is damaged.
    """
    machine = _Machine(size)
    try:
        limited = cast(IO[bytes], _Limited(stream, size))
        for count, (code, argument, _) in enumerate(pickletools.genops(limited)):
            if count == MAX_INSTRUCTIONS:
                raise UnsafePickleError(f"more than {MAX_INSTRUCTIONS} instructions")
            if code.name == "STOP":
                break
            machine.step(code.name, argument)
        (result,) = machine.stack
    except UnsafePickleError:
        raise
    except Exception as error:  # a malformed program fails in many ways
        raise UnsafePickleError("what is no pickle, or a damaged one") from error
    return _plain(result)


class _Machine:
    """The stack and memory of the program."""

    def __init__(self, size: int) -> None:
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memory: dict[int, Any] = {}
        self.budget = size  # of bytes that instructions may make out of text

    def step(self, code: str, argument: Any) -> None:
        """Follow one instruction."""
        stack = self.stack
        if code in ("PROTO", "FRAME"):
            pass
        elif code in _PUSHED:
            stack.append(argument)
        elif code in _FIXED:
            stack.append(_FIXED[code])
        elif code in ("BINSTRING", "SHORT_BINSTRING"):
            stack.append(argument.encode("latin-1"))
        elif code == "EMPTY_DICT":
            stack.append({})
        elif code == "EMPTY_LIST":
            stack.append([])
        elif code == "MARK":
            self.marks.append(len(stack))
        elif code in ("BINPUT", "LONG_BINPUT"):
            self.memory[argument] = stack[-1]
        elif code == "MEMOIZE":
            self.memory[len(self.memory)] = stack[-1]
        elif code in ("BINGET", "LONG_BINGET"):
            stack.append(self.memory[argument])
        elif code in ("APPEND", "APPENDS"):
            self._extend(self._take(1) if code == "APPEND" else self._marked())
        elif code in ("SETITEM", "SETITEMS"):
            self._set(self._take(2) if code == "SETITEM" else self._marked())
        elif code in ("TUPLE", "TUPLE1", "TUPLE2", "TUPLE3"):
            items = self._marked() if code == "TUPLE" else self._take(int(code[-1]))
            stack.append(tuple(items))
        elif code == "GLOBAL":
            stack.append(_known(argument))
        elif code == "STACK_GLOBAL":
            stack.append(_known(" ".join(self._take(2))))
        elif code == "REDUCE":
            function, arguments = self._take(2)
            stack.append(self._call(function, arguments))
        elif code == "BUILD":
            (state,) = self._take(1)
            self._build(stack[-1], state)
        else:
            raise UnsafePickleError(f"the instruction {code}")

    def _take(self, count: int) -> list[Any]:
        if len(self.stack) < count:
            raise IndexError("stack is empty")
        items = self.stack[-count:]
        del self.stack[-count:]
        return items

    def _marked(self) -> list[Any]:
        mark = self.marks.pop()
        items = self.stack[mark:]
        del self.stack[mark:]
        return items

    def _extend(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if type(target) is not list:
            raise UnsafePickleError("items added to what is no list")
        target += items

    def _set(self, items: list[Any]) -> None:
        target = self.stack[-1]
        keys = items[::2]
        # Tuples of tuples could take forever to hash.
        if type(target) is not dict or not all(type(key) in (bytes, str) for key in keys):
            raise UnsafePickleError("a dictionary with keys that are no text")
        target.update(zip(keys, items[1::2], strict=True))

    def _call(self, function: Any, arguments: Any) -> Any:
        name = str(function) if isinstance(function, _Name) else ""
        if name in _RECONSTRUCT and arguments in (
            ("numpy ndarray", (0,), b"b"),
            ("numpy ndarray", (0,), "b"),
        ):
            return _Array()
        if name == "numpy dtype" and arguments[0] in (b"u1", "u1") and arguments[1:] == (0, 1):
            return _Byte()
        if name == "_codecs encode" and len(arguments) == 2 and arguments[1] == "latin1":
            self.budget -= len(arguments[0])
            if self.budget < 0:
                raise UnsafePickleError("more text than the file can hold")
            return arguments[0].encode("latin-1")
        raise UnsafePickleError(f"a call of {name or 'an unknown function'} that makes no bytes")

    def _build(self, target: Any, state: Any) -> None:
        if isinstance(target, _Byte):
            if len(state) != len(_STATE_OF_BYTE) or tuple(map(_text, state)) != _STATE_OF_BYTE:
                raise UnsafePickleError("an array of values that are no bytes")
            return
        if not isinstance(target, _Array):
            raise UnsafePickleError("an object with a state")
        version, shape, kind, fortran, content = state
        if (
            version != 1
            or not isinstance(kind, _Byte)
            or type(content) is not bytes
            or type(shape) is not tuple
            or len(shape) != 2  # also: a product of millions of numbers could take forever
            or not all(type(side) is int and side >= 0 for side in shape)
            or math.prod(shape) != len(content)
        ):
            raise UnsafePickleError("an array that does not hold the bytes it declares")
        rows, columns = reversed(shape) if fortran is True else shape
        value = np.frombuffer(content, dtype=np.uint8).reshape(rows, columns)
        target.value = value.T if fortran is True else value


def _known(name: str) -> _Name:
    if name not in _NAMES:
        raise UnsafePickleError(f"the name {name[:60]!r}")
    return _Name(name)


def _text(value: Any) -> Any:
    return value.decode("latin-1") if type(value) is bytes else value


def _plain(result: Any) -> dict[str, Any]:
    """Arrays in place of what stood for them, in a dictionary whose keys are text."""
    if type(result) is not dict:
        raise UnsafePickleError(f"no dictionary but {type(result).__name__}")
    return {
        _text(key): value.value if isinstance(value, _Array) else value
        for key, value in result.items()
    }
