"""What a user does to a picture before the network: when it is read, and inside the model."""

from __future__ import annotations

import dataclasses
import hashlib
import inspect
import re
from collections.abc import Callable, Sequence
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor, nn

from auditor.arguments import Size
from auditor.decoding import UnusableImageError
from auditor.errors import InputError
from auditor.results import Check
from auditor.transforms import is_normalize, is_transform, split, weights_transform
from auditor.usercode import describe, plain_errors, user_object

REPEATS = 4
"""How often: a coin that is thrown once for each picture is caught 15 times of 16."""

ROUNDING = 1e-4
"""What pixels may exceed [0, 1] by; they are clipped."""

_RETURN = "Return a torchvision transform, a list of them, or a pair (pixels, inside)."


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Preprocess:
    """Preprocessing in two parts, made by :func:`load_preprocess`.

    Attributes
    ----------
    name
        What the user calls it.
    sha256
        Over the user's file and the text form of the transforms: another preprocessing, another
        hash. What a function in memory closes over is not seen.
    pixels
        Picture (RGB; gray for a model of one channel; mode F in [0, 1] where the file has more
        than 8 bits) → pixels (C, H, W), float in [0, 1]; done on reading. Without it images are
        resized as :func:`auditor.decoding.fit` does.
    inside
        Images (B, C, H, W) in [0, 1] → what the network takes, differentiably, in place of
        normalization.
    mean, std
        Of the Normalize that was found; ``None`` if this says nothing of normalization.
    size
        (H, W) that ``pixels`` makes of every picture; ``None`` if that depends on the picture.
    given
        Whether the user named it; else it came with the model.
    source
        What :func:`load_preprocess` found it by, if that is text.
    """

    name: str
    sha256: str
    pixels: Callable[[Image.Image], Tensor] | None = None
    inside: Callable[[Tensor], Tensor] | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    size: tuple[int, int] | None = None
    given: bool = True
    source: str | None = None

    def __deepcopy__(self, memo: object) -> Self:
        """Shared by copies of a model: it has nothing that changes."""
        return self

    @property
    def identity(self) -> str:
        """Name and hash, for records."""
        return f"{self.name}, SHA-256 {self.sha256}"

    def prepare(self, picture: Image.Image, shape: tuple[int, int, int]) -> npt.NDArray[np.float32]:
        """Pixels of a picture, float32 of the model's shape (C, H, W) in [0, 1].

        Raises
        ------
        UnusableImageError
            If the user's function fails, or what it returns is something else.
        """
        made = self._made(picture)
        if made.shape[0] not in (1, shape[0]) or made.shape[1:] != shape[1:]:
            found, needed = ("×".join(map(str, size)) for size in (made.shape, shape))
            raise UnusableImageError(f"{self.name} made {found} of it, the model takes {needed}")
        return np.ascontiguousarray(np.broadcast_to(made.clip(0, 1), shape))

    def measured(self) -> Self:
        """Try ``pixels`` on random blocks; the same with the size that it gives.

        Raises
        ------
        InputError
            If it fails, returns no pixels in [0, 1], or not the same each time.
        """
        if self.pixels is None:
            return self
        # Blocks: their edges show what overshoots, and fine noise would be averaged to gray.
        blocks = np.random.default_rng(0).integers(0, 2, (12, 16, 3), dtype=np.uint8) * 255
        wide = Image.fromarray(blocks.repeat(25, axis=0).repeat(25, axis=1))
        sizes: set[tuple[int, int]] = set()
        problems = []
        for mode in ("RGB", "L"):  # a function may be made for one of them only
            try:
                first, *others = (self._made(wide.convert(mode)) for _ in range(REPEATS + 1))
                tall = self._made(wide.transpose(Image.Transpose.ROTATE_90).convert(mode))
            except UnusableImageError as error:
                problems.append(f"{error} (tried on a picture of 300×400 pixels, {mode})")
                continue
            if not all(np.array_equal(first, other) for other in others):
                raise InputError(
                    f"{self.name}: not the same each time for the same picture. Remove what is "
                    "random, as for validation."
                )
            sizes |= {(made.shape[1], made.shape[2]) for made in (first, tall)}
        if not sizes:
            raise InputError(f"{problems[0]}.")
        return dataclasses.replace(self, size=sizes.pop() if len(sizes) == 1 else None)

    def merged(
        self,
        *,
        input_size: Size | None,
        mean: Sequence[float] | None,
        std: Sequence[float] | None,
    ) -> tuple[Size | None, Sequence[float] | None, Sequence[float] | None]:
        """Input size, mean and std, of what a user gives beside it and what it says itself.

        Raises
        ------
        InputError
            If both say something.
        """
        if self.mean is not None and (mean is not None or std is not None):
            raise InputError(
                f"--mean, --std: {self.name} takes care of normalization. Leave them out."
            )
        sides = (input_size, input_size) if isinstance(input_size, int) else tuple(input_size or ())
        if self.size is not None:
            if sides and sides[-2:] != self.size:
                given, made = ("x".join(map(str, size)) for size in (sides, self.size))
                raise InputError(
                    f"--input-size {given}: {self.name} makes pictures of {made}. Leave it out, or "
                    f"change the preprocessing."
                )
            input_size = (*sides[:-2], *self.size)
        if self.mean is None:
            return input_size, mean, std
        return input_size, self.mean, self.std

    def remarks(self) -> tuple[Check, ...]:
        """What is done where, for the preflight, unless the model's loader has told it."""
        if not self.given:
            return ()
        if self.pixels is None:
            first = "Pictures are resized to the input size."
        elif self.size is None:
            first = "Done when a picture is read."
        else:
            first = f"Done when a picture is read, which becomes {self.size[0]}×{self.size[1]}."
        if self.inside is not None:
            second = "Inside the model, with gradients: its differentiable part."
        elif self.mean is not None and self.std is not None:
            rows = [", ".join(f"{v:g}" for v in row) for row in (self.mean, self.std)]
            second = f"Inside the model, with gradients: mean {rows[0]}, std {rows[1]}."
        else:
            second = "It says nothing of normalization."
        message = f"{self.name}: {first} {second}"
        return (Check(name="preprocessing", status="note", message=message),)

    def _made(self, picture: Image.Image) -> npt.NDArray[np.float32]:
        assert self.pixels is not None
        try:
            with torch.no_grad():
                made: object = self.pixels(picture)
        except (Exception, SystemExit) as error:  # a user's function may raise anything
            raise UnusableImageError(f"{self.name} fails ({describe(error)})") from error
        if not isinstance(made, Tensor):
            kind = type(made).__name__
            raise UnusableImageError(
                f"{self.name} makes {kind} of a picture; end with ToTensor, as (C, H, W) in [0, 1]"
            )
        if made.ndim != 3 or not made.is_floating_point() or made.numel() == 0:
            shape = "×".join(map(str, made.shape))
            raise UnusableImageError(
                f"{self.name} makes {made.dtype} of shape {shape or 'nothing'}; make floats in "
                "[0, 1] of shape (C, H, W)"
            )
        values = np.asarray(made.detach().cpu().to(torch.float32).numpy())
        low, high = float(values.min()), float(values.max())
        if not (low >= -ROUNDING and high <= 1 + ROUNDING):  # also true for NaN
            raise UnusableImageError(
                f"{self.name} makes values in [{low:.3g}, {high:.3g}]; pixels are in [0, 1]: "
                "scale with Normalize or inside the model, resize before ToTensor, or clamp"
            )
        return values


def load_preprocess(given: object) -> Preprocess:
    """Find a user's preprocessing and split it.

    Parameters
    ----------
    given
        ``path/file.py:fn``, ``package.module:fn`` or ``torchvision:WEIGHTS``; in Python also the
        object itself. A transform of torchvision, or a list of them, is split at its first
        Normalize; a pair is ``(pixels, inside)``, either of them may be ``None``. A function that
        needs no argument is called and returns one of these; a function of one argument is
        ``inside``.

    Raises
    ------
    InputError
        If it cannot be found, fails, is random, or is none of these.
    """
    if isinstance(given, Preprocess):
        return given
    if not isinstance(given, str):
        name = getattr(given, "__qualname__", type(given).__name__)
        return _build(given, f"preprocess {name}").measured()
    where = f"--preprocess {given}"
    target, _, short = given.rpartition(":")
    if target == "torchvision":
        found = _build(weights_transform(short), where)
        return dataclasses.replace(found.measured(), source=given)
    if not target or not short.isidentifier():
        raise InputError(
            f"{where}: not understood. Write path/file.py:fn, package.module:fn or "
            "torchvision:WEIGHTS."
        )
    value, code, content = user_object(target, short, where=where)
    with code.active():
        found = _build(value, where, content)
    return dataclasses.replace(found.measured(), source=given)


def _build(given: object, where: str, content: bytes = b"") -> Preprocess:
    """From what the user's name stands for to the two parts; not yet tried out."""
    whole = given if is_transform(given) or isinstance(given, tuple) else _call(given, where)
    pair: tuple[Any, ...] = whole if isinstance(whole, tuple) and len(whole) == 2 else (None, None)
    if is_normalize(pair[1]):
        whole = [part for part in pair if part is not None]
    pixels: Any = None
    inside: Any = None
    mean, std = None, None
    if is_transform(whole):
        with plain_errors(f"{where}: cannot be split"):
            found = split(whole, where)
        pixels, inside, mean, std = found.pixels, found.inside, found.mean, found.std
    elif pair != (None, None) and all(part is None or callable(part) for part in pair):
        pixels, inside = pair
    else:
        raise InputError(f"{where}: is {type(whole).__name__}. {_RETURN}")
    if isinstance(inside, nn.Module):  # no dropout; and only images have gradients
        inside = inside.eval().requires_grad_(False)
    digest = hashlib.sha256(content)
    for member in (given, *(whole if isinstance(whole, list | tuple) else [whole])):
        digest.update(_text(member).encode())
    return Preprocess(
        name=where.removeprefix("--preprocess "),
        sha256=digest.hexdigest(),
        pixels=pixels,
        inside=inside,
        mean=mean if inside is None else (),
        std=std if inside is None else (),
    )


def _call(given: object, where: str) -> object:
    """What a function without arguments returns; a function of one argument is ``inside``."""
    if not callable(given):
        raise InputError(f"{where}: is {type(given).__name__}, no function. {_RETURN}")
    if isinstance(given, nn.Module):
        return None, given
    try:
        parameters = inspect.signature(given).parameters.values()
    except ValueError:  # some functions of C do not tell: they are no factories
        return None, given
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    needed = sum(p.kind in kinds and p.default is p.empty for p in parameters)
    if needed == 1:
        return None, given
    if needed > 1:
        raise InputError(f"{where}: needs {needed} arguments. Name a function of none or of one.")
    with plain_errors(f"{where}: calling it failed"):
        returned: object = given()
    return returned


def _text(value: object) -> str:
    """What can be told of an object: a function's source, else its text form without addresses."""
    if inspect.isroutine(value):
        try:
            return inspect.getsource(value)
        except (OSError, TypeError):
            pass
    return re.sub(r" at 0x[0-9a-fA-F]+", "", repr(value))
