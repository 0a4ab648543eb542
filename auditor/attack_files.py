"""Files of an attack: the target that it reads, the folder of pictures and maps that it writes."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from auditor.attack_result import AttackResult
from auditor.decoding import MAX_FILE_BYTES, UnusableImageError, decode
from auditor.errors import IncompleteRunError, InputError
from auditor.usercode import describe
from reports.maps import map_png, scale_top

RECORD = "attack.json"
OURS = {RECORD, "maps.npz", "images", "maps"}


def read_target(path: Path, size: tuple[int, int]) -> Tensor:
    """A target map or mask (H, W) from a picture, or from an array in an ``.npy`` file.

    A picture becomes gray and is resized and cropped as the images are; an array has to have the
    size of the map.

    Raises
    ------
    InputError
        If the file cannot be read, or the array is no such map.
    """
    if not os.path.isfile(path):
        raise InputError(f"{path}: there is no such file. Give a picture or .npy.")
    try:
        if os.path.getsize(path) > MAX_FILE_BYTES:
            raise InputError(f"{path}: larger than {MAX_FILE_BYTES // 2**20} MiB.")
        if path.suffix == ".npy":
            return _array(path, size)
        return torch.tensor(decode(path.read_bytes(), (1, *size))[0])
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}).") from error
    except UnusableImageError as error:
        raise InputError(f"{path}: cannot be used ({error}). Give a picture or .npy.") from error


def check_folder(out: Path, *, overwrite: bool) -> None:
    """Refuse a folder that holds something else, or that cannot be made.

    Raises
    ------
    InputError
        If the folder is not empty, unless it holds an earlier attack and ``overwrite`` is given.
    """
    if os.path.lexists(out) and not os.path.isdir(out):
        raise InputError(f"{out}: is a file. Give the name of a folder.")
    if os.path.isdir(out) and os.listdir(out):
        if not _is_attack(out):
            raise InputError(f"{out}: exists and holds something else. Name another folder.")
        if not overwrite:
            raise InputError(f"{out}: holds an attack. Use --overwrite, or name another folder.")
    existing = next(p for p in out.absolute().parents if os.path.exists(p))
    if not os.path.isdir(existing) or not os.access(existing, os.W_OK):
        raise InputError(f"{out}: {existing} is not a writable folder. Name another folder.")


def write_attack(result: AttackResult, out: Path) -> int:
    """Write everything to the folder ``out``, which is there as a whole or not at all.

    Every perturbed image is read back: it has to be what was measured, to the bit.

    Returns
    -------
    int
        Number of files.

    Raises
    ------
    IncompleteRunError
        If something cannot be written.
    """
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        beside = Path(tempfile.mkdtemp(prefix=f".{out.name}.partial-", dir=out.parent.absolute()))
    except OSError as error:
        raise _unwritable(out, error) from error
    try:
        new = beside / "new"
        new.mkdir()
        _fill(new, result)
        count = sum(len(names) for _, _, names in os.walk(new))
        if os.path.isdir(out):
            out.rename(beside / "old")
        new.rename(out)
    except OSError as error:
        raise _unwritable(out, error) from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return count


def file_names(names: Sequence[str]) -> list[str]:
    """A file name without suffix for each image: plain characters only, no two alike."""
    plain = [re.sub(r"[^\w.-]+", "-", os.path.splitext(n)[0], flags=re.ASCII)[-80:] for n in names]
    plain = [name.strip("-.") or "image" for name in plain]
    often = Counter(name.lower() for name in plain)
    twice = any(count > 1 for count in often.values())
    # With the number of the image on all of them, none can be taken for another's.
    return [f"{name}-{i}" for i, name in enumerate(plain)] if twice else plain


def _fill(folder: Path, result: AttackResult) -> None:
    arrays = result.arrays
    (folder / "images").mkdir()
    (folder / "maps").mkdir()
    for row, name in enumerate(file_names(result.names)):
        if not arrays["attacked"][row]:
            continue
        kept = [e for e in range(len(result.rows)) if arrays["kept"][e, row]]
        before = _magnitude(arrays["map_before"][row])
        after = [_magnitude(arrays["map_after"][e, row]) for e in kept]
        top = scale_top(before, *after)  # one color scale for all maps of an image
        _write_image(folder / "images" / f"{name}-clean.png", arrays["clean"][row])
        (folder / "maps" / f"{name}-clean.png").write_bytes(map_png(before, top))
        for index, moved in zip(kept, after, strict=True):
            label = f"{name}-eps{result.rows[index].epsilon:g}.png"
            _write_image(folder / "images" / label, arrays["perturbed"][index, row])
            (folder / "maps" / label).write_bytes(map_png(moved, top))
    np.savez(
        folder / "maps.npz",
        names=np.array(result.names),
        epsilons=np.array([row.epsilon for row in result.rows]),
        before=arrays["map_before"],
        after=arrays["map_after"],
        attacked=arrays["attacked"],
        kept=arrays["kept"],
    )
    text = result.to_json()
    (folder / RECORD).write_bytes(text.encode("utf-8", "backslashreplace"))


def _write_image(path: Path, levels: npt.NDArray[np.uint8]) -> None:
    pixels = levels[0] if len(levels) == 1 else np.moveaxis(levels, 0, -1)
    Image.fromarray(np.ascontiguousarray(pixels)).save(path, format="PNG")
    back = decode(path.read_bytes(), (levels.shape[0], levels.shape[1], levels.shape[2]))
    if not np.array_equal(back, levels.astype(np.float32) / np.float32(255)):
        raise IncompleteRunError(f"{path.name}: does not read back as what was measured.")


def _magnitude(raw: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    total: npt.NDArray[np.float32] = np.abs(raw).sum(axis=0)
    return total


def _array(path: Path, size: tuple[int, int]) -> Tensor:
    try:
        # Mapped, so that a header that declares more than the file holds allocates nothing.
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # hostile files raise many things
        raise InputError(f"{path}: cannot be read as an array ({describe(error)}).") from error
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "biuf":
        raise InputError(f"{path}: holds no array of numbers. Save one with np.save.")
    if array.shape != size:
        found, needed = ("×".join(map(str, shape)) for shape in (array.shape, size))
        raise InputError(f"{path}: the array is {found or 'one number'}, maps are {needed}.")
    return torch.from_numpy(np.array(array, dtype=np.float32))


def _is_attack(folder: Path) -> bool:
    """Whether everything in a folder is what an attack writes."""
    if not os.path.isfile(folder / RECORD) or set(os.listdir(folder)) - OURS:
        return False
    inside = [entry for name in ("images", "maps") for entry in (folder / name).iterdir()]
    return all(entry.suffix == ".png" for entry in inside)


def _unwritable(path: Path, error: OSError) -> IncompleteRunError:
    return IncompleteRunError(
        f"{path}: cannot be written ({error.strerror}). Make room, or name another folder."
    )
