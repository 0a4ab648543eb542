"""Import a user's code apart from ours: both may have packages called ``attacks``."""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from auditor.errors import AuditorError, InputError

OURS = ("auditor", "attacks", "profiles", "reports")
ROOT = Path(__file__).resolve().parent.parent


def describe(error: BaseException) -> str:
    """One line of at most 200 characters: the exception's type and the start of its message."""
    lines = str(error).strip().splitlines()
    text = f"{type(error).__name__}: {lines[0].strip()}" if lines else type(error).__name__
    return text if len(text) <= 200 else text[:197] + "..."


@contextlib.contextmanager
def plain_errors(doing: str) -> Iterator[None]:
    """Turn whatever a user's code raises, ``SystemExit`` included, into an :class:`InputError`."""
    try:
        yield
    except AuditorError:
        raise
    except (Exception, SystemExit) as error:
        raise InputError(f"{doing} ({describe(error)}).") from error


class UserCode:
    """A user's project: its own import path and its own modules, invisible outside.

    While :meth:`active` lasts, the project's folders come first on ``sys.path`` and our four
    package names mean the user's packages wherever the user has them. Afterwards
    ``sys.modules`` and ``sys.path`` are as they were, so that two projects (a model and its twin)
    whose files have the same names do not mix either. The user's modules are kept for the next
    :meth:`active`; an import that the user's code delays until its ``forward`` fails loudly.

    Parameters
    ----------
    folders
        Searched first, in this order.
    """

    def __init__(self, *folders: Path) -> None:
        self._folders = [str(folder.resolve()) for folder in folders]
        self._modules: dict[str, ModuleType] = {}

    @contextlib.contextmanager
    def active(self) -> Iterator[None]:
        """Import and run the user's code inside this context (not from several threads)."""
        hidden = _take({n for n in sys.modules if _top(n) in OURS or n in self._modules})
        before = set(sys.modules)
        path = sys.path[:]
        finder = _UserFirst(hidden)
        sys.modules.update(self._modules)
        sys.path[:0] = self._folders
        sys.meta_path.insert(0, finder)
        importlib.invalidate_caches()
        try:
            # A script that switches gradients off for itself must not do so for the audit, and
            # what it prints must not mix with ours on stdout.
            with contextlib.redirect_stdout(sys.stderr), torch.enable_grad():
                yield
        finally:
            sys.meta_path.remove(finder)
            roots = {*self._folders, *(str(Path(p).resolve()) for p in sys.path if p not in path)}
            sys.path[:] = path
            new = {n for n in set(sys.modules) - before if sys.modules[n] is not hidden.get(n)}
            homes = {top: _home(top) for top in map(_top, new)}
            users = {n for n in new if _top(n) in OURS or homes[_top(n)] in roots}
            users = {n for n in users if homes[_top(n)] != str(ROOT)} | (new & set(self._modules))
            self._modules.update(_take(users))
            sys.modules.update(hidden)

    def module(self, target: str, where: str) -> ModuleType:
        """Import ``target``, a dotted module or a ``.py`` file; ``where`` begins the message.

        Raises
        ------
        InputError
            If it cannot be found or fails on import.
        """
        with plain_errors(f"{where}: importing it failed"), self.active():
            if target.endswith(".py"):
                return _run_file(Path(target))
            return importlib.import_module(target)

    def factory(self, target: str, attribute: str) -> Callable[[], Any]:
        """Import ``target``, a dotted module or a ``.py`` file, and take a function out of it.

        Returns
        -------
        Callable
            Calls the user's function inside :meth:`active`.

        Raises
        ------
        InputError
            If the module cannot be found, fails on import, or has no such function; the returned
            callable raises it when the function fails.
        """
        where = f"{target}:{attribute}"
        function = getattr(self.module(target, where), attribute, None)
        if not callable(function):
            raise InputError(
                f"{where}: no function {attribute!r} there. Name a function without arguments "
                "that returns the network."
            )

        def call() -> Any:  # whatever the user returns; the caller checks it
            with plain_errors(f"{where}: calling it failed"), self.active():
                return function()

        return call


def user_factory(target: str, attribute: str) -> tuple[Callable[[], Any], UserCode]:
    """Find ``package.module`` from the current folder, or ``path/file.py`` with its siblings.

    Raises
    ------
    InputError
        As :meth:`UserCode.factory`, and if the file does not exist.
    """
    code = _project(target, "factory")
    return code.factory(target, attribute), code


def user_object(target: str, attribute: str, *, where: str) -> tuple[Any, UserCode, bytes]:
    """Whatever has this name in a user's module, and the bytes of the module's file.

    Raises
    ------
    InputError
        As :func:`user_factory`, beginning with ``where``; also if there is nothing of that name.
    """
    code = _project(target, "function")
    module = code.module(target, where)
    try:
        content = Path(module.__file__ or "").read_bytes()
    except OSError as error:
        raise InputError(f"{where}: its file cannot be read ({error.strerror}).") from error
    if not hasattr(module, attribute):
        raise InputError(f"{where}: no function {attribute!r} there. Name one that the file has.")
    return getattr(module, attribute), code, content


def _project(target: str, what: str) -> UserCode:
    """Where the imports of ``target`` are looked for."""
    if not target.endswith(".py"):
        return UserCode(Path.cwd())
    file = Path(target)
    if not os.path.isfile(file):
        raise InputError(f"{target}: no such file. Give the path of the file with the {what}.")
    return UserCode(file.resolve().parent, Path.cwd())


class _UserFirst(importlib.abc.MetaPathFinder):
    """Find our four names outside our own folder; where the user has none, they stay ours."""

    def __init__(self, ours: Mapping[str, ModuleType]) -> None:
        self._ours = ours

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname not in OURS:
            return None
        elsewhere = [entry for entry in sys.path if Path(entry or ".").resolve() != ROOT]
        spec = importlib.machinery.PathFinder.find_spec(fullname, elsewhere)
        if spec is None and fullname in self._ours:
            return importlib.util.spec_from_loader(fullname, _PutBack(self._ours))
        return spec


class _PutBack(importlib.abc.Loader):
    """Load a package of ours by putting the modules that were set aside back, not a copy."""

    def __init__(self, ours: Mapping[str, ModuleType]) -> None:
        self._ours = ours

    def exec_module(self, module: ModuleType) -> None:
        name = module.__name__
        sys.modules.update({n: m for n, m in self._ours.items() if _top(n) == name})


def _run_file(file: Path) -> ModuleType:
    # The digest keeps apart two files of one name, and a file called like an installed package.
    digest = hashlib.sha256(str(file.resolve()).encode()).hexdigest()[:8]
    name = f"_user_{digest}_{file.stem}"
    spec = importlib.util.spec_from_file_location(name, file.resolve())
    assert spec is not None  # the name ends in .py
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def _take(names: set[str]) -> dict[str, ModuleType]:
    return {name: sys.modules.pop(name) for name in names}


def _top(name: str) -> str:
    return name.partition(".")[0]


def _home(top: str) -> str | None:
    """Folder in which a top-level module lies."""
    spec = getattr(sys.modules.get(top), "__spec__", None)
    if spec is None:
        return None
    if spec.submodule_search_locations:
        return str(Path(next(iter(spec.submodule_search_locations))).resolve().parent)
    return str(Path(spec.origin).resolve().parent) if spec.has_location else None
