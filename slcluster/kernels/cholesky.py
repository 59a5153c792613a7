"""Small symmetric systems, in compiled code that never leaves the sphere it works for.

Spheres give systems of some tens of unknowns, for which the calls into LAPACK cost more than the arithmetic.
Matrices are C-ordered and only their upper triangles are read; the lower may hold anything. Work goes four rows at a
time (:mod:`slcluster.kernels.vectors`).
"""

from __future__ import annotations

import numpy as np

from slcluster.kernels.compiling import inner
from slcluster.kernels.vectors import add_multiples, dot, fma

__all__ = ["add_outer_products", "each_once", "factor", "inverse_trace", "solve_factored"]


@inner
def _add_fours(matrix, r0, r1, r2, r3, w0, w1, w2, w3, start, size):
    """Add ``w0 * outer(r0, r0) + ...`` of four rows to the upper triangle from ``start`` on."""
    rows = (r0, r1, r2, r3)
    n_fours = start + (size - start) // 4 * 4
    for j in range(start, n_fours, 4):
        # fmt: off
        factors = (
            w0 * r0[j], w1 * r1[j], w2 * r2[j], w3 * r3[j],
            w0 * r0[j + 1], w1 * r1[j + 1], w2 * r2[j + 1], w3 * r3[j + 1],
            w0 * r0[j + 2], w1 * r1[j + 2], w2 * r2[j + 2], w3 * r3[j + 2],
            w0 * r0[j + 3], w1 * r1[j + 3], w2 * r2[j + 3], w3 * r3[j + 3],
        )
        # fmt: on
        # Below the diagonal of these four rows are some numbers that nobody reads.
        add_multiples((matrix[j], matrix[j + 1], matrix[j + 2], matrix[j + 3]), rows, factors, j, size)
    for j in range(n_fours, size):
        add_multiples((matrix[j],), rows, (w0 * r0[j], w1 * r1[j], w2 * r2[j], w3 * r3[j]), j, size)


@inner
def add_outer_products(
    matrix: np.ndarray, rows: np.ndarray, chosen: np.ndarray, weights: np.ndarray, n_chosen: int, size: int
) -> None:
    """Add ``weights[i] * outer(r, r)`` to the upper triangle, for ``r = rows[chosen[i]]``, i < n_chosen."""
    n_fours = n_chosen // 4 * 4
    for i in range(0, n_fours, 4):
        r0, r1, r2, r3 = rows[chosen[i]], rows[chosen[i + 1]], rows[chosen[i + 2]], rows[chosen[i + 3]]
        _add_fours(
            matrix, r0, r1, r2, r3, weights[i], weights[i + 1], weights[i + 2], weights[i + 3], 0, size
        )
    for i in range(n_fours, n_chosen):
        row, weight = rows[chosen[i]], weights[i]
        for j in range(size):
            add_multiples((matrix[j],), (row,), (weight * row[j],), j, size)


@inner
def each_once(n: int) -> tuple[np.ndarray, np.ndarray]:
    """``chosen`` and ``weights`` for :func:`add_outer_products` of all rows as they are."""
    chosen, weights = np.empty(n, np.int64), np.empty(n)
    for i in range(n):
        chosen[i], weights[i] = i, 1.0
    return chosen, weights


@inner
def _scale(row, by, start, size):
    for k in range(start, size):
        row[k] *= by


@inner
def _factor_rows(matrix, start, stop, size):
    """Rows ``start`` to ``stop`` of the factor, at most four, from which all rows above are taken out already."""
    for j in range(start, stop):
        row = matrix[j]
        if j > start:
            above = matrix[start]
            add_multiples((row,), (above,), (-above[j],), j, size)
        if j > start + 1:
            above = matrix[start + 1]
            add_multiples((row,), (above,), (-above[j],), j, size)
        if j > start + 2:
            above = matrix[start + 2]
            add_multiples((row,), (above,), (-above[j],), j, size)
        if not row[j] > 0.0:
            return False
        _scale(row, 1.0 / np.sqrt(row[j]), j, size)
    return True


@inner
def factor(matrix: np.ndarray, size: int) -> bool:
    """Replace the upper triangle by U with ``U.T @ U`` the matrix. False if it is not positive definite."""
    for start in range(0, size, 4):
        stop = min(start + 4, size)
        if not _factor_rows(matrix, start, stop, size):
            return False
        if stop - start == 4:
            u0, u1, u2, u3 = matrix[start], matrix[start + 1], matrix[start + 2], matrix[start + 3]
            _add_fours(matrix, u0, u1, u2, u3, -1.0, -1.0, -1.0, -1.0, stop, size)
    return True


@inner
def solve_factored(matrix: np.ndarray, right: np.ndarray, size: int) -> None:
    """Replace ``right`` by the solution, given the factor that :func:`factor` left."""
    for j in range(size):
        row = matrix[j]
        right[j] /= row[j]
        add_multiples((right,), (row,), (-right[j],), j + 1, size)
    for j in range(size - 1, -1, -1):
        row = matrix[j]
        right[j] = (right[j] - dot(row, right, j + 1, size)) / row[j]


@inner
def inverse_trace(matrix: np.ndarray, size: int) -> float:
    """Trace of the inverse, given the factor that :func:`factor` left.

    No eigenvalue of the matrix is less than one over it, and the smallest is at most ``size`` times that.
    """
    inverse, squares, trace = np.zeros((size, size)), np.zeros(size), 0.0
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
    for m in range(size):
        trace += squares[m]
    return trace
