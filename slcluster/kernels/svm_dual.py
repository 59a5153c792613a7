"""The squared-hinge SVM of many voxels: Newton on the samples' coefficients."""

from __future__ import annotations

import numpy as np

from slcluster.kernels.cholesky import add_outer_products, each_once, factor, solve_factored
from slcluster.kernels.compiling import inner
from slcluster.kernels.margins import (
    CLIMB,
    DESCENT,
    EDGE,
    LEAST_SCALE,
    MAX_STEPS,
    PATIENCE,
    count_misplaced,
    step_length,
)
from slcluster.kernels.vectors import add_multiples, fma

__all__ = ["fit_dual", "inner_products"]


@inner
def inner_products(x, mean, scaling):
    """What the dual needs of a sphere: G - a a'/κ, e = 1 + a/κ, and κ.

    With G the inner products of the centred samples, a those with the mean, and κ = |m|² + s², the decision is
    ``f = (G - a a'/κ) α + e t`` and the regulariser ``α' (G - a a'/κ) α + t²/κ``: the large products with the
    mean, which would drown all others, are gone. Without intercept t is 0, and κ does not matter.
    """
    n_samples = x.shape[1]
    gram = np.zeros((n_samples, n_samples))
    n_voxels = len(x)
    add_outer_products(gram, x, *each_once(n_voxels), n_voxels, n_samples)
    for i in range(n_samples):
        for k in range(i):
            gram[i, k] = gram[k, i]
    edge, kappa = np.zeros(n_samples), 1.0
    if scaling > 0.0:
        kappa = scaling * scaling
        a = np.zeros(n_samples)
        for j in range(len(mean)):
            kappa += mean[j] * mean[j]
            row = x[j]
            for i in range(n_samples):
                a[i] = fma(mean[j], row[i], a[i])
        for i in range(n_samples):
            b, row = a[i] / kappa, gram[i]
            edge[i] = 1.0 + b
            for k in range(n_samples):
                row[k] -= b * a[k]
    return gram, edge, kappa


@inner
def _solve_dual(gram, edge, kappa, y, cost, scale, chosen, size, work, alpha, beta, new_f):
    """Coefficients (in alpha), intercept (returned) and decision of the samples chosen; beta is scratch."""
    for j in range(size):
        source, row = gram[chosen[j]], work[j]
        for k in range(j, size):
            row[k] = source[chosen[k]]
        row[j] += 1.0 / (scale * cost[chosen[j]])
        alpha[j], beta[j] = y[chosen[j]], edge[chosen[j]]
    factor(work, size)
    solve_factored(work, alpha, size)
    solve_factored(work, beta, size)
    above, below = 0.0, 1.0 / kappa
    for j in range(size):
        above += edge[chosen[j]] * alpha[j]
        below += edge[chosen[j]] * beta[j]
    t = above / below
    for j in range(size):
        alpha[j] -= t * beta[j]
    for i in range(len(new_f)):
        new_f[i] = edge[i] * t
    _add_rows(gram, chosen, alpha, size, new_f)
    return t


@inner
def fit_dual(gram, edge, kappa, y, cost, in_train, inside, f, work):
    """Newton on the samples' coefficients, from a guess of the set. Leaves the set and the decision.

    Whether it ends at the optimum.

    The guess decides how many steps it takes and nothing else: the last solution is made afresh from the set
    alone, and samples on the edge are never in it.
    """
    n_samples = len(y)
    alpha, beta, v = np.empty(n_samples), np.empty(n_samples), np.zeros(n_samples)
    chosen, new_f, slack = np.empty(n_samples, np.int64), np.empty(n_samples), np.empty(n_samples)
    f[:] = 0.0
    old_t = 0.0
    fewest, patience = n_samples + 1, PATIENCE
    scale, climbs = 1.0, False
    for _ in range(MAX_STEPS):
        size = 0
        for i in range(n_samples):
            if inside[i] and in_train[i] and cost[i] > 0.0:
                chosen[size] = i
                size += 1
            else:
                inside[i] = False
        t = _solve_dual(gram, edge, kappa, y, cost, scale, chosen, size, work, alpha, beta, new_f)
        for i in range(n_samples):
            slack[i] = 1.0 - y[i] * new_f[i]
        for j in range(size):  # from the coefficients, which have all their digits however small they are
            slack[chosen[j]] = y[chosen[j]] * alpha[j] / (scale * cost[chosen[j]])
        n_misplaced, largest = count_misplaced(slack, cost, in_train, inside)
        if n_misplaced < fewest:
            fewest, patience = n_misplaced, PATIENCE
        else:
            patience -= 1
        if patience < 0 and not climbs and scale > LEAST_SCALE:
            scale *= DESCENT
            fewest, patience = n_samples + 1, PATIENCE
            old_t = 0.0
            for i in range(n_samples):
                v[i], f[i], inside[i] = 0.0, 0.0, True
            continue
        # The solution, from here on in beta and new_f; or a part of the way to it.
        for i in range(n_samples):
            beta[i] = 0.0
        for j in range(size):
            beta[chosen[j]] = alpha[j]
        if n_misplaced > 0 and patience < 0:
            t = _stop_short(y, cost, scale, in_train, edge, kappa, f, v, old_t, new_f, beta, t)
            for i in range(n_samples):
                slack[i] = 1.0 - y[i] * new_f[i]
        old_t = t
        n_edge, is_last = 0, n_misplaced == 0 and scale == 1.0
        for i in range(n_samples):
            v[i], f[i] = beta[i], new_f[i]
            least = (EDGE * min(largest, 1.0) if inside[i] else EDGE) if is_last else 0.0
            n_edge += inside[i] and slack[i] <= least
            inside[i] = slack[i] > least
        if n_misplaced == 0:
            if is_last and n_edge == 0:
                return True
            if scale < 1.0:
                scale, climbs = min(1.0, CLIMB * scale), True
                fewest, patience = n_samples + 1, PATIENCE
    return False


@inner
def _stop_short(y, cost, scale, in_train, edge, kappa, f, v, t, new_f, new_v, new_t):
    """Replace a solution (new_f, new_v, and t returned) by the best point on the way to it."""
    dt = new_t - t
    r0, r1 = t * dt / kappa, dt * dt / kappa
    for i in range(len(y)):
        new_f[i] -= f[i]
        new_v[i] -= v[i]
        r0 += new_v[i] * (f[i] - edge[i] * t)
        r1 += new_v[i] * (new_f[i] - edge[i] * dt)
    at = step_length(y, cost, in_train, f, new_f, r0 / scale, r1 / scale)
    for i in range(len(y)):
        new_f[i] = f[i] + at * new_f[i]
        new_v[i] = v[i] + at * new_v[i]
    return t + at * dt


@inner
def _add_rows(rows, chosen, by, n_chosen, total):
    """Add ``by[j] * rows[chosen[j]]`` to ``total``, j < n_chosen."""
    n_fours, size = n_chosen // 4 * 4, len(total)
    for j in range(0, n_fours, 4):
        four = (rows[chosen[j]], rows[chosen[j + 1]], rows[chosen[j + 2]], rows[chosen[j + 3]])
        add_multiples((total,), four, (by[j], by[j + 1], by[j + 2], by[j + 3]), 0, size)
    for j in range(n_fours, n_chosen):
        add_multiples((total,), (rows[chosen[j]],), (by[j],), 0, size)
