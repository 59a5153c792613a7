"""Sums of rows against the same operations one number at a time."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from numba.core.errors import TypingError

from slcluster.kernels.compiling import entry
from slcluster.kernels.vectors import add_multiples, dot, fma


@entry
def _two_of_three(a: Any, b: Any, r: Any, s: Any, t: Any, by: Any, start: int, stop: int) -> None:
    add_multiples((a, b), (r, s, t), (by[0], by[1], by[2], by[3], by[4], by[5]), start, stop)


@entry
def _one_by_one(a: Any, b: Any, r: Any, s: Any, t: Any, by: Any, start: int, stop: int) -> None:
    for k in range(start, stop):
        a[k] = fma(by[0], r[k], fma(by[1], s[k], fma(by[2], t[k], a[k])))
        b[k] = fma(by[3], r[k], fma(by[4], s[k], fma(by[5], t[k], b[k])))


@entry
def _dot(a: Any, b: Any, start: int, stop: int) -> float:
    return dot(a, b, start, stop)


@entry
def _fused(a: float, b: float, c: float) -> float:
    return fma(a, b, c)


@pytest.mark.parametrize("size", [0, 1, 3, 4, 7, 8, 9, 12, 15, 16, 31, 40])
@pytest.mark.parametrize("start", [0, 1, 5])
def test_sums_of_multiples(size: int, start: int) -> None:
    rng = np.random.default_rng(size)
    rows, by = rng.normal(size=(5, size + start + 3)), rng.normal(size=6)
    found, expected = rows.copy(), rows.copy()
    _two_of_three(*found, by, start, start + size)
    _one_by_one(*expected, by, start, start + size)
    assert found.tobytes() == expected.tobytes()
    assert found[:2, start + size :].tobytes() == rows[:2, start + size :].tobytes(), (
        "nothing after stop is touched"
    )


@pytest.mark.parametrize("size", [0, 1, 3, 4, 7, 8, 9, 12, 15, 16, 31, 100])
def test_products(size: int) -> None:
    a, b = np.random.default_rng(size).normal(size=(2, size + 2))
    exact = float(
        sum((Fraction(x) * Fraction(y) for x, y in zip(a[1:-1], b[1:-1], strict=True)), Fraction(0))
    )
    assert _dot(a, b, 1, size + 1) == pytest.approx(exact, rel=1e-13, abs=1e-14)


def test_a_product_and_a_sum_are_rounded_once() -> None:
    a, b = 1 + 2.0**-30, 1 - 2.0**-30
    assert a * b - 1.0 == 0.0
    assert _fused(a, b, -1.0) == -(2.0**-60)


def test_rows_that_are_not_contiguous_are_refused() -> None:
    table = np.ones((8, 2))
    with pytest.raises(TypingError):
        _dot(table[:, 0], table[:, 1], 0, 8)
