"""Small symmetric systems, in compiled code that never leaves the sphere it works for.

Spheres give systems of some tens of unknowns, for which the calls into LAPACK cost more than the arithmetic.
Matrices are C-ordered and only their upper triangles are used. Loops run along rows, four at a time, so that
the compiler makes vector instructions of them. The flags let it fuse and regroup operations: the same numbers
give the same bytes on one kind of processor, whatever else is computed beside them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

__all__ = ["add_outer_products", "compiled", "factor", "solve_factored"]

#: Decorator of every compiled function: kept on disk, free of the interpreter's lock. Numba looks for changes in
#: a function's own file only: who edits what others call removes their ``__pycache__``.
compiled: Any = njit(cache=True, nogil=True, fastmath={"contract", "reassoc", "nsz"}, error_model="numpy")


@compiled
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
                line[k] += (a0 * r0[k] + a1 * r1[k]) + (a2 * r2[k] + a3 * r3[k])
    for i in range(n_fours, n_chosen):
        r0, c0 = rows[chosen[i]], weights[i]
        for j in range(size):
            a0 = c0 * r0[j]
            line = matrix[j]
            for k in range(j, size):
                line[k] += a0 * r0[k]


@compiled
def factor(matrix: np.ndarray, size: int) -> bool:
    """Replace the upper triangle by U with ``U.T @ U`` the matrix. False if it is not positive definite."""
    for start in range(0, size, 4):
        stop = min(start + 4, size)
        for j in range(start, stop):
            row = matrix[j]
            for i in range(start, j):
                above = matrix[i]
                a = above[j]
                for k in range(j, size):
                    row[k] -= a * above[k]
            if not row[j] > 0.0:
                return False
            scale = 1.0 / np.sqrt(row[j])
            for k in range(j, size):
                row[k] *= scale
        if stop - start == 4:
            u0, u1, u2, u3 = matrix[start], matrix[start + 1], matrix[start + 2], matrix[start + 3]
            for j in range(stop, size):
                a0, a1, a2, a3 = u0[j], u1[j], u2[j], u3[j]
                row = matrix[j]
                for k in range(j, size):
                    row[k] -= (a0 * u0[k] + a1 * u1[k]) + (a2 * u2[k] + a3 * u3[k])
    return True


@compiled
def solve_factored(matrix: np.ndarray, right: np.ndarray, size: int) -> None:
    """Replace ``right`` by the solution, given the factor that :func:`factor` left."""
    for j in range(size):
        row = matrix[j]
        right[j] /= row[j]
        a = right[j]
        for k in range(j + 1, size):
            right[k] -= a * row[k]
    for j in range(size - 1, -1, -1):
        row = matrix[j]
        total = right[j]
        for k in range(j + 1, size):
            total -= row[k] * right[k]
        right[j] = total / row[j]
