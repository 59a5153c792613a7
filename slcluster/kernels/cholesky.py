"""Small symmetric systems, in compiled code that never leaves the sphere it works for.

Spheres give systems of some tens of unknowns, for which the calls into LAPACK cost more than the arithmetic.
Matrices are C-ordered and only their upper triangles are used. Loops run along rows, four at a time, so that
the compiler makes vector instructions of them. It may neither fuse nor regroup operations: a function that is
inlined twice would round in two ways, and a map depend on how many steps its neighbours took. Where a product
and a sum are one rounding, :func:`fma` says so.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit, types
from numba.extending import intrinsic

__all__ = ["add_outer_products", "compiled", "factor", "fma", "inner", "inverse_trace", "solve_factored"]

_OPTIONS: dict[str, Any] = {"cache": True, "nogil": True, "error_model": "numpy"}

#: Decorator of every compiled function: kept on disk, free of the interpreter's lock. Numba looks for changes in
#: a function's own file only: who edits what others call removes their ``__pycache__``.
compiled: Any = njit(**_OPTIONS)

#: The same for what only compiled functions call. Without a way in from Python it compiles sooner.
inner: Any = njit(**(_OPTIONS | {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}))


def _fma(context: Any, a: Any, b: Any, c: Any) -> Any:

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.fma(*arguments)

    return types.float64(types.float64, types.float64, types.float64), generate


#: ``fma(a, b, c)`` is ``a * b + c`` with one rounding, in compiled functions, whatever the processor.
fma: Any = intrinsic(_fma)


@inner
def add_outer_products(
    matrix: np.ndarray, rows: np.ndarray, chosen: np.ndarray, weights: np.ndarray, n_chosen: int, size: int
) -> None:
    """Add ``weights[i] * outer(r, r)`` to the upper triangle, for ``r = rows[chosen[i]]``, i < n_chosen."""
    n_fours = n_chosen // 4 * 4
    for i in range(0, n_fours, 4):
        r0, r1, r2, r3 = rows[chosen[i]], rows[chosen[i + 1]], rows[chosen[i + 2]], rows[chosen[i + 3]]
        c0, c1, c2, c3 = weights[i], weights[i + 1], weights[i + 2], weights[i + 3]
        for j in range(size):
            a0, a1, a2, a3 = c0 * r0[j], c1 * r1[j], c2 * r2[j], c3 * r3[j]
            line = matrix[j]
            for k in range(j, size):
                line[k] = fma(a0, r0[k], fma(a1, r1[k], fma(a2, r2[k], fma(a3, r3[k], line[k]))))
    for i in range(n_fours, n_chosen):
        r0, c0 = rows[chosen[i]], weights[i]
        for j in range(size):
            a0 = c0 * r0[j]
            line = matrix[j]
            for k in range(j, size):
                line[k] = fma(a0, r0[k], line[k])


@compiled
def factor(matrix: np.ndarray, size: int) -> bool:
    """Replace the upper triangle by U with ``U.T @ U`` the matrix. False if it is not positive definite."""
    for start in range(0, size, 4):
        stop = min(start + 4, size)
        for j in range(start, stop):
            row = matrix[j]
            for i in range(start, j):
                above = matrix[i]
                a = -above[j]
                for k in range(j, size):
                    row[k] = fma(a, above[k], row[k])
            if not row[j] > 0.0:
                return False
            scale = 1.0 / np.sqrt(row[j])
            for k in range(j, size):
                row[k] *= scale
        if stop - start == 4:
            u0, u1, u2, u3 = matrix[start], matrix[start + 1], matrix[start + 2], matrix[start + 3]
            for j in range(stop, size):
                a0, a1, a2, a3 = -u0[j], -u1[j], -u2[j], -u3[j]
                row = matrix[j]
                for k in range(j, size):
                    row[k] = fma(a0, u0[k], fma(a1, u1[k], fma(a2, u2[k], fma(a3, u3[k], row[k]))))
    return True


@inner
def solve_factored(matrix: np.ndarray, right: np.ndarray, size: int) -> None:
    """Replace ``right`` by the solution, given the factor that :func:`factor` left."""
    for j in range(size):
        row = matrix[j]
        right[j] /= row[j]
        a = -right[j]
        for k in range(j + 1, size):
            right[k] = fma(a, row[k], right[k])
    for j in range(size - 1, -1, -1):
        row = matrix[j]
        # Four sums at a time: one would wait for itself.
        s0, s1, s2, s3 = right[j], 0.0, 0.0, 0.0
        n_fours = (size - j - 1) // 4 * 4
        for k in range(j + 1, j + 1 + n_fours, 4):
            s0 = fma(-row[k], right[k], s0)
            s1 = fma(-row[k + 1], right[k + 1], s1)
            s2 = fma(-row[k + 2], right[k + 2], s2)
            s3 = fma(-row[k + 3], right[k + 3], s3)
        for k in range(j + 1 + n_fours, size):
            s0 = fma(-row[k], right[k], s0)
        right[j] = ((s0 + s1) + (s2 + s3)) / row[j]


@compiled
def inverse_trace(matrix: np.ndarray, size: int) -> float:
    """Trace of the inverse, given the factor that :func:`factor` left.

    No eigenvalue of the matrix is less than one over it, and the smallest is at most ``size`` times that.
    """
    inverse, squares = np.zeros((size, size)), np.zeros(size)
    for j in range(size - 1, -1, -1):
        row, line = inverse[j], matrix[j]
        n_fours = (size - j - 1) // 4 * 4
        for k in range(j + 1, j + 1 + n_fours, 4):
            a0, a1, a2, a3 = -line[k], -line[k + 1], -line[k + 2], -line[k + 3]
            r0, r1, r2, r3 = inverse[k], inverse[k + 1], inverse[k + 2], inverse[k + 3]
            for m in range(k, size):
                row[m] = fma(a0, r0[m], fma(a1, r1[m], fma(a2, r2[m], fma(a3, r3[m], row[m]))))
        for k in range(j + 1 + n_fours, size):
            a0, r0 = -line[k], inverse[k]
            for m in range(k, size):
                row[m] = fma(a0, r0[m], row[m])
        row[j], scale = 1.0, 1.0 / line[j]
        for m in range(j, size):
            row[m] *= scale
            squares[m] += row[m] * row[m]
    return squares.sum()
