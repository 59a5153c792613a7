"""The squared-hinge SVM of few voxels: Newton on the weights."""

from __future__ import annotations

import numpy as np

from slcluster.kernels.centring import regulariser
from slcluster.kernels.cholesky import add_outer_products, factor, solve_factored
from slcluster.kernels.compiling import inner
from slcluster.kernels.margins import (
    CLIMB,
    DESCENT,
    LEAST_SCALE,
    LEAST_SLACK,
    MAX_STEPS,
    PATIENCE,
    count_misplaced,
    step_length,
)
from slcluster.kernels.vectors import add_multiples

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
        add_multiples(
            (f,), (x[j], x[j + 1], x[j + 2], x[j + 3]), (v[j], v[j + 1], v[j + 2], v[j + 3]), 0, n_samples
        )
    for j in range(n_fours, n_voxels):
        add_multiples((f,), (x[j],), (v[j],), 0, n_samples)


@inner
def _move(rows, mean, scaling, y, cost, in_train, matrix, right, inside, f):
    """Bring ``inside``, and the system that belongs to it, to the samples inside the margin at ``f``."""
    n_samples, size = rows.shape
    changed, by = np.empty(n_samples, np.int64), np.empty(n_samples)
    n_changed, n_inside = 0, 0
    for i in range(n_samples):
        is_inside = y[i] * f[i] < 1.0 and in_train[i] and cost[i] > 0.0
        n_inside += is_inside
        if is_inside != inside[i]:
            changed[n_changed] = i
            by[n_changed] = cost[i] if is_inside else -cost[i]
            n_changed += 1
    if n_changed > n_inside:
        start(matrix, right, inside, mean, scaling)
        n_changed = 0
        for i in range(n_samples):
            if y[i] * f[i] < 1.0 and in_train[i] and cost[i] > 0.0:
                changed[n_changed], by[n_changed] = i, cost[i]
                n_changed += 1
    for k in range(n_changed):
        i = changed[k]
        inside[i] = not inside[i]
        add_multiples((right,), (rows[i],), (by[k] * y[i],), 0, size)
    add_outer_products(matrix, rows, changed, by, n_changed, size)


@inner
def _solve_primal(matrix, right, penalty, scale, work, solution):
    """The weights that the system asks for, with C scaled: all but the regulariser is."""
    size = len(right)
    for j in range(size):
        solution[j] = scale * right[j]
        row, source, fixed = work[j], matrix[j], penalty[j]
        if scale == 1.0:
            for k in range(j, size):
                row[k] = source[k]
        else:
            for k in range(j, size):
                row[k] = scale * source[k] + (1.0 - scale) * fixed[k]
    factor(work, size)
    solve_factored(work, solution, size)


@inner
def fit_primal(x, rows, mean, scaling, y, cost, in_train, penalty, matrix, right, inside, f, v):
    """Newton on the weights. The system, f and v of the fold before are where it starts.

    Whether it ends at the optimum, and has the digits to tell.
    """
    n_samples, size = rows.shape
    work, solution, new_f = np.empty((size, size)), np.empty(size), np.empty(n_samples)
    slack = np.empty(n_samples)
    fewest, patience = n_samples + 1, PATIENCE
    scale, climbs = 1.0, False
    for _ in range(MAX_STEPS):
        _move(rows, mean, scaling, y, cost, in_train, matrix, right, inside, f)
        _solve_primal(matrix, right, penalty, scale, work, solution)
        _decide(x, solution, size, new_f)
        for i in range(n_samples):
            slack[i] = 1.0 - y[i] * new_f[i]
        n_misplaced, largest = count_misplaced(slack, cost, in_train, inside)
        if n_misplaced < fewest:
            fewest, patience = n_misplaced, PATIENCE
        else:
            patience -= 1
        if patience < 0 and not climbs and scale > LEAST_SCALE:
            scale *= DESCENT
            fewest, patience = n_samples + 1, PATIENCE
            f[:] = 0.0
            v[:] = 0.0
            continue
        at = 1.0
        if n_misplaced > 0 and patience < 0:
            r0, r1 = _penalty_along(v, solution, mean, scaling)
            for i in range(n_samples):
                new_f[i] -= f[i]
            at = step_length(y, cost, in_train, f, new_f, r0 / scale, r1 / scale)
            for i in range(n_samples):
                new_f[i] = f[i] + at * new_f[i]
        for j in range(size):
            v[j] += at * (solution[j] - v[j])
        for i in range(n_samples):
            f[i] = new_f[i]
        if n_misplaced == 0:
            if scale == 1.0:
                return largest >= LEAST_SLACK
            scale, climbs = min(1.0, CLIMB * scale), True
            fewest, patience = n_samples + 1, PATIENCE
    return False


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
