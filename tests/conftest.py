"""What all tests share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from hypothesis import settings

# A busy machine must not fail a test, and a failure must come again the next time.
settings.register_profile("steady", deadline=None, derandomize=True)
settings.load_profile("steady")


def pytest_make_parametrize_id(val: object) -> str | None:
    """Name bytes by their length: archives hold the time, and workers must agree on names."""
    return f"bytes{len(val)}" if isinstance(val, bytes) else None


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """Tiny batches gain nothing from threads, and lose much where others compute as well."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
