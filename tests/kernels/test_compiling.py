"""What kernels are compiled by: parts without machine code of their own, entries kept on disk."""

from __future__ import annotations

import gc
from typing import Any

import numpy as np
import psutil
import pytest

from slcluster.kernels.compiling import _unburdened, entry, inner, only_if


@inner
def _halves(values: Any) -> Any:
    out = np.empty(len(values))
    for i in range(len(values)):
        out[i] = 0.5 * values[i]
    return out, len(values)


@inner
def _sum_of_halves(values: Any, wanted: Any) -> Any:
    halves, n = _halves(values)
    total = 0.0
    if wanted is not None:
        for i in range(n):
            total += halves[i]
    return total


@entry
def _quarters(values: Any, wanted: Any) -> Any:
    halves, _ = _halves(values)
    return 0.5 * _sum_of_halves(values, wanted), _sum_of_halves(halves, wanted)


@entry
def _ratio(a: float, b: float) -> float:
    return _divided(a, b)


@inner
def _divided(a: float, b: float) -> float:
    return a / b


@entry
def _wrong(values: Any) -> Any:
    return _sum_of_halves(values)


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int16])
def test_parts_call_parts_and_return_arrays_and_numbers(dtype: Any) -> None:
    values = np.arange(9).astype(dtype)
    assert _quarters(values, only_if(True)) == (9.0, 9.0)
    assert _quarters(values, only_if(False)) == (0.0, 0.0)


def test_what_parts_allocate_is_freed() -> None:
    values = np.ones(2_000_000)
    _quarters(values, None)
    process = psutil.Process()
    before = process.memory_info().rss
    for _ in range(50):  # 16 MB each
        _quarters(values, None)
    assert process.memory_info().rss - before < 200_000_000


def test_parts_divide_as_numpy_does() -> None:
    assert _ratio(1.0, 0.0) == np.inf
    assert np.isnan(_ratio(0.0, 0.0))


def test_parts_are_not_called_from_python() -> None:
    with pytest.raises(NotImplementedError):
        _halves(np.ones(3))


def test_a_call_that_lacks_arguments_is_refused_by_the_compiler() -> None:
    with pytest.raises(TypeError, match="takes 2 arguments"):
        _wrong(np.ones(3))


def test_garbage_from_before_is_left_alone_while_compiling_and_not_after() -> None:
    assert gc.get_freeze_count() == 0
    with _unburdened():
        assert gc.get_freeze_count() > 0
        with _unburdened():  # of another thread
            pass
        assert gc.get_freeze_count() > 0
    assert gc.get_freeze_count() == 0
