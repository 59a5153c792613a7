"""The squared-hinge SVM of few voxels: Newton on the weights."""

from __future__ import annotations

import numpy as np

from slcluster.kernels.centring import regulariser
from slcluster.kernels.cholesky import add_outer_products, factor, fma, inner, solve_factored
from slcluster.kernels.margins import MAX_STEPS, PATIENCE, count_misplaced, step_length

__all__ = ["fit_primal", "start"]


@inner
def start(matrix, right, inside, mean, scaling):
    """Nobody inside: the regulariser alone."""
    inside[:] = False
    right[:] = 0.0
    regulariser(matrix, mean, scaling)


@inner
def _decide(x, v, size, f):
    """``f = w·x + t`` of every sample; t is the last of ``size`` unknowns, if they are more than the voxels."""
    n_voxels, n_samples = x.shape
    t = v[n_voxels] if size > n_voxels else 0.0
    for i in range(n_samples):
        f[i] = t
    n_fours = n_voxels // 4 * 4
    for j in range(0, n_fours, 4):
        a0, a1, a2, a3 = v[j], v[j + 1], v[j + 2], v[j + 3]
        x0, x1, x2, x3 = x[j], x[j + 1], x[j + 2], x[j + 3]
        for i in range(n_samples):
            f[i] = fma(a0, x0[i], fma(a1, x1[i], fma(a2, x2[i], fma(a3, x3[i], f[i]))))
    for j in range(n_fours, n_voxels):
        a0, x0 = v[j], x[j]
        for i in range(n_samples):
            f[i] = fma(a0, x0[i], f[i])


@inner
def _move(rows, mean, scaling, y, cost, in_train, matrix, right, inside, f):
    """Bring ``inside``, and the system that belongs to it, to the samples inside the margin at ``f``."""
    n_samples, size = rows.shape
    changed, by = np.empty(n_samples, np.int64), np.empty(n_samples)
    n_changed, n_inside = np.int64(0), np.int64(0)  # a literal would be compiled for by itself
    for i in range(n_samples):
        is_inside = y[i] * f[i] < 1.0 and in_train[i] and cost[i] > 0.0
        n_inside += is_inside
        if is_inside != inside[i]:
            changed[n_changed] = i
            by[n_changed] = cost[i] if is_inside else -cost[i]
            n_changed += 1
    if n_changed > n_inside:
        start(matrix, right, inside, mean, scaling)
        n_changed = np.int64(0)
        for i in range(n_samples):
            if y[i] * f[i] < 1.0 and in_train[i] and cost[i] > 0.0:
                changed[n_changed], by[n_changed] = i, cost[i]
                n_changed += 1
    for k in range(n_changed):
        i = changed[k]
        inside[i] = not inside[i]
        a, row = by[k] * y[i], rows[i]
        for j in range(size):
            right[j] = fma(a, row[j], right[j])
    add_outer_products(matrix, rows, changed, by, n_changed, size)


@inner
def fit_primal(x, rows, mean, scaling, y, cost, in_train, matrix, right, inside, f, v):
    """Newton on the weights. The system, f and v of the fold before are where it starts."""
    n_samples, size = rows.shape
    work, solution, new_f = np.empty((size, size)), np.empty(size), np.empty(n_samples)
    fewest, patience = n_samples + 1, PATIENCE
    for _ in range(MAX_STEPS):
        _move(rows, mean, scaling, y, cost, in_train, matrix, right, inside, f)
        for j in range(size):
            solution[j] = right[j]
            for k in range(j, size):
                work[j, k] = matrix[j, k]
        factor(work, size)
        solve_factored(work, solution, size)
        _decide(x, solution, size, new_f)
        n_misplaced = count_misplaced(y, cost, in_train, new_f, inside)
        if n_misplaced < fewest:
            fewest, patience = n_misplaced, PATIENCE
        else:
            patience -= 1
        at = 1.0
        if n_misplaced > 0 and patience < 0:
            r0, r1 = _penalty_along(v, solution, mean, scaling)
            for i in range(n_samples):
                new_f[i] -= f[i]
            at = step_length(y, cost, in_train, f, new_f, r0, r1)
            for i in range(n_samples):
                new_f[i] = f[i] + at * new_f[i]
        for j in range(size):
            v[j] += at * (solution[j] - v[j])
        for i in range(n_samples):
            f[i] = new_f[i]
        if n_misplaced == 0:
            return


@inner
def _penalty_along(v, solution, mean, scaling):
    """The regulariser's derivative along the step from v to the solution: r0 + at * r1."""
    wm = dm = r0 = r1 = 0.0
    n_voxels = len(mean)
    for j in range(n_voxels):
        d = solution[j] - v[j]
        r0 += v[j] * d
        r1 += d * d
        wm += v[j] * mean[j]
        dm += d * mean[j]
    if scaling > 0.0:
        b = (v[n_voxels] - wm) / scaling
        db = (solution[n_voxels] - v[n_voxels] - dm) / scaling
        r0 += b * db
        r1 += db * db
    return r0, r1
