from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from auditor.bounds.lanczos import dominant


def operators(seed: int, size: int, rows: int = 3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    a = torch.randn(rows, size, size, generator=generator, dtype=torch.float64)
    return a + a.mT


@given(seed=st.integers(0, 10_000), size=st.integers(1, 12))
def test_small_symmetric_matrices_are_solved_exactly(seed, size):
    a = operators(seed, size)
    start = torch.randn(3, size, generator=torch.Generator().manual_seed(seed)).double()
    found = dominant(lambda v: (a @ v[:, :, None])[:, :, 0], start, steps=size, tolerance=0)
    values = torch.linalg.eigvalsh(a)
    expected = values.gather(1, values.abs().argmax(dim=1, keepdim=True))[:, 0]
    # λ and −λ may be equally large, to rounding.
    torch.testing.assert_close(found.eigenvalue.abs(), expected.abs(), rtol=1e-8, atol=1e-10)
    assert (found.residual <= 1e-6 * expected.abs() + 1e-10).all()


def test_sign_and_early_stop():
    diagonal = torch.tensor([[-5.0, 1, 1, 1, 1, 1], [1, 2, 3, 4, 5, 9]]).double()
    start = torch.ones(2, 6).double()
    found = dominant(lambda v: diagonal * v, start, steps=6)
    torch.testing.assert_close(found.eigenvalue, torch.tensor([-5.0, 9.0]).double())
    first = dominant(lambda v: diagonal[:1] * v, start[:1], steps=6)
    assert first.products == 3  # two different eigenvalues, and one product for the residual


@pytest.mark.parametrize("steps", [1, 2, 5, 30])
def test_some_eigenvalue_lies_within_the_residual(steps):
    a = operators(1, 40)
    start = torch.randn(3, 40, generator=torch.Generator().manual_seed(0)).double()
    found = dominant(lambda v: (a @ v[:, :, None])[:, :, 0], start, steps=steps, tolerance=0)
    distance = (torch.linalg.eigvalsh(a) - found.eigenvalue[:, None]).abs().amin(dim=1)
    assert (distance <= found.residual + 1e-9).all()


def test_zero_operator():
    found = dominant(torch.zeros_like, torch.ones(2, 3))
    assert found.eigenvalue.tolist() == found.residual.tolist() == [0.0, 0.0]
    assert not found.vector.any()


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="start that is not zero"):
        dominant(lambda v: v, torch.zeros(1, 3))
    with pytest.raises(ValueError, match="not finite"):
        dominant(lambda v: v * torch.nan, torch.ones(1, 3))
