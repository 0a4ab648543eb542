"""Import what an extra installs, or say how to install it."""

from __future__ import annotations

import importlib
from typing import Any

from auditor.errors import InputError
from auditor.usercode import describe


def needed(module: str, *, extra: str) -> Any:
    """The imported module.

    Raises
    ------
    InputError
        If it is not installed, or its import fails.
    """
    try:
        return importlib.import_module(module)
    except Exception as error:  # a broken installation raises anything
        raise InputError(
            f"This needs the package {module} ({describe(error)}). Install "
            f"attribution-auditor[{extra}]."
        ) from error
