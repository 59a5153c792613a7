"""Newton's method on the two logistic losses, of two classes and of more."""

from __future__ import annotations

import numpy as np

from slcluster.kernels.cholesky import add_outer_products, factor, solve_factored
from slcluster.kernels.compiling import inner
from slcluster.kernels.vectors import fma

__all__ = ["BLAS_FROM", "fit_many", "fit_two"]

#: A step that moves every decision by less is the last: the error it leaves is of the order of its square.
_SMALL = 1e-7

#: Within this the loss is bent like its second derivative, and a whole step lowers it.
_NEAR = 1.0

#: Far above the four to twelve steps that are usual; a problem that needs more ends where it is, and is counted.
_MAX_STEPS = 100
_MAX_HALVINGS = 60

#: Unknowns from which a matrix product by BLAS beats our own loops over the upper triangle.
BLAS_FROM = 48


@inner
def _times(matrix, v, out):
    """The symmetric matrix of which the upper triangle is given, times v."""
    size = len(v)
    out[:] = 0.0
    for j in range(size):
        row, a, total = matrix[j], v[j], matrix[j, j] * v[j]
        for k in range(j + 1, size):
            total = fma(row[k], v[k], total)
            out[k] = fma(row[k], a, out[k])
        out[j] += total


@inner
def _inner(a, b):
    total = 0.0
    for i in range(len(a)):
        total = fma(a[i], b[i], total)
    return total


@inner
def _largest(values):
    """The largest absolute value, or NaN where there is one."""
    largest = 0.0
    for i in range(len(values)):
        value = abs(values[i])
        if not value <= largest:
            largest = value
            if np.isnan(value):
                return value
    return largest


@inner
def _decide(rows, chosen, v, f):
    for i in range(len(chosen)):
        f[i] = _inner(rows[chosen[i]], v)


@inner
def _sigmoid(f):
    """1 / (1 + exp(-f)), exact at both ends."""
    small = np.exp(-abs(f))
    return 1.0 / (1.0 + small) if f >= 0.0 else small / (1.0 + small)


@inner
def _slope_two(f, g, at, labels, cost, probability):
    """Derivative of the loss along the step g, ``at`` of the way; probabilities of the second class there."""
    slope = 0.0
    for i in range(len(f)):
        probability[i] = _sigmoid(f[i] + at * g[i])
        slope = fma(cost[i] * (probability[i] - labels[i]), g[i], slope)
    return slope


@inner
def _add_by_blas(hessian, rows, chosen, bend):
    """As ``add_outer_products``, of many unknowns."""
    n, size = len(chosen), len(hessian)
    own, bent = np.empty((n, size)), np.empty((n, size))
    for i in range(n):
        row = rows[chosen[i]]
        for j in range(size):
            own[i, j], bent[i, j] = row[j], bend[i] * row[j]
    product = np.empty((size, size))
    np.dot(bent.T, own, product)
    for j in range(size):
        for k in range(j, size):
            hessian[j, k] += product[j, k]


@inner
def fit_two(rows, penalty, y, cost_of, chosen, v, wide):
    """Bring v (n_unknowns) to the optimum; it comes with a first guess. Whether it got there.

    rows (n_samples, n_unknowns), penalty's upper triangle, y codes 0 and 1, the cost of each, training samples;
    ``wide`` where unknowns may be many.
    """
    n, size = len(chosen), len(v)
    labels, cost = np.empty(n), np.empty(n)
    for i in range(n):
        code = y[chosen[i]]
        labels[i], cost[i] = code, cost_of[code]
    f, g, probability, bend = np.empty(n), np.empty(n), np.empty(n), np.empty(n)
    hessian, step, pull, pushed = np.zeros((size, size)), np.empty(size), np.empty(size), np.empty(size)
    _decide(rows, chosen, v, f)
    _slope_two(f, f, 0.0, labels, cost, probability)
    for _ in range(_MAX_STEPS):
        _times(penalty, v, pull)
        for j in range(size):
            step[j] = -pull[j]
            for k in range(j, size):
                hessian[j, k] = penalty[j, k]
        for i in range(n):
            bend[i] = cost[i] * probability[i] * (1.0 - probability[i])
            a, row = cost[i] * (labels[i] - probability[i]), rows[chosen[i]]
            for j in range(size):
                step[j] = fma(a, row[j], step[j])
        is_large = False
        if wide is not None:
            is_large = size >= BLAS_FROM
            if is_large:
                _add_by_blas(hessian, rows, chosen, bend)
        if not is_large:
            add_outer_products(hessian, rows, chosen, bend, n, size)
        if not factor(hessian, size):
            return False
        solve_factored(hessian, step, size)
        _decide(rows, chosen, step, g)
        _times(penalty, step, pushed)
        r0, r1 = _inner(pull, step), _inner(pushed, step)
        at = 1.0
        slope = r0 + r1 + _slope_two(f, g, 1.0, labels, cost, probability)
        if _largest(g) > _NEAR and slope > 0.0:
            low, high = 0.0, 1.0
            # The derivative rises along the step: halve until it is still negative.
            for _ in range(_MAX_HALVINGS):
                at = 0.5 * (low + high)
                slope = r0 + at * r1 + _slope_two(f, g, at, labels, cost, probability)
                low, high = (low, at) if slope > 0.0 else (at, high)
                if slope <= 0.0 and high - low <= 0.25 * high:
                    break
        for j in range(size):
            v[j] += at * step[j]
        for i in range(n):
            f[i] += at * g[i]
        if at == 1.0 and _largest(g) <= _SMALL * (1.0 + _largest(f)):
            return True
    return False


@inner
def _slope_many(f, g, at, codes, cost, probability):
    """As :func:`_slope_two`, with decisions and probabilities (n_classes, n)."""
    n_classes, n = f.shape
    slope = 0.0
    for i in range(n):
        top = f[0, i] + at * g[0, i]
        for k in range(1, n_classes):
            top = max(top, f[k, i] + at * g[k, i])
        total = 0.0
        for k in range(n_classes):
            probability[k, i] = np.exp(f[k, i] + at * g[k, i] - top)
            total += probability[k, i]
        for k in range(n_classes):
            probability[k, i] /= total
            slope += cost[i] * (probability[k, i] - (codes[i] == k)) * g[k, i]
    return slope


@inner
def _assemble_many(rows, penalty, codes, cost, probability, has_intercept, v, pull, hessian, step):
    """Second derivative (upper triangle, class by class) and the negative of the first."""
    n_classes, size = v.shape
    n, last = len(rows), size - 1
    across, weighted, half = np.empty((size, n)), np.empty((n_classes * size, n)), np.empty((size, n))
    own = np.empty((size, size))
    for j in range(size):
        for i in range(n):
            across[j, i] = rows[i, j]
    for k in range(n_classes):
        for j in range(size):
            for i in range(n):
                weighted[k * size + j, i] = probability[k, i] * across[j, i]
    for k in range(n_classes):
        at = k * size
        for j in range(size):
            for i in range(n):
                half[j, i] = cost[i] * weighted[at + j, i]
        product = np.empty((size, len(hessian) - at))
        np.dot(half, weighted[at:].T, product)
        np.dot(half, across.T, own)
        for j in range(size):
            for m in range(len(hessian) - at):
                hessian[at + j, at + m] = -product[j, m]
            for m in range(j, size):
                hessian[at + j, at + m] += own[j, m] + penalty[j, m]
        _times(penalty, v[k], pull[k])
        for j in range(size):
            step[k * size + j] = -pull[k, j]
        for i in range(n):
            a = cost[i] * ((codes[i] == k) - probability[k, i])
            for j in range(size):
                step[k * size + j] = fma(a, rows[i, j], step[k * size + j])
    if has_intercept:
        # Free intercepts could all move together; a penalty on their sum, which is 0, holds them.
        for k in range(n_classes):
            for other in range(k, n_classes):
                hessian[k * size + last, other * size + last] += 1.0


@inner
def fit_many(rows, penalty, y, cost_of, chosen, has_intercept, v):
    """Bring v (n_classes, n_unknowns) to the optimum of the multinomial loss; it comes with a first guess.

    Whether it got there.
    """
    n_classes, size = v.shape
    n = len(chosen)
    own, codes, cost = np.empty((n, size)), np.empty(n, np.int64), np.empty(n)
    everyone = np.empty(n, np.int64)
    for i in range(n):
        everyone[i] = i
        codes[i] = y[chosen[i]]
        cost[i] = cost_of[codes[i]]
        for j in range(size):
            own[i, j] = rows[chosen[i], j]
    f, g, probability = np.empty((n_classes, n)), np.empty((n_classes, n)), np.empty((n_classes, n))
    hessian, step = np.empty((n_classes * size, n_classes * size)), np.empty(n_classes * size)
    pull, pushed = np.empty((n_classes, size)), np.empty(size)
    for k in range(n_classes):
        _decide(own, everyone, v[k], f[k])
    _slope_many(f, f, 0.0, codes, cost, probability)
    for _ in range(_MAX_STEPS):
        _assemble_many(own, penalty, codes, cost, probability, has_intercept, v, pull, hessian, step)
        if not factor(hessian, len(step)):
            return False
        solve_factored(hessian, step, len(step))
        r0 = r1 = 0.0
        for k in range(n_classes):
            part = step[k * size : (k + 1) * size]
            _decide(own, everyone, part, g[k])
            _times(penalty, part, pushed)
            r0 += _inner(pull[k], part)
            r1 += _inner(pushed, part)
        at = 1.0
        slope = r0 + r1 + _slope_many(f, g, 1.0, codes, cost, probability)
        if _largest(g.ravel()) > 0.5 * _NEAR and slope > 0.0:
            low, high = 0.0, 1.0
            for _ in range(_MAX_HALVINGS):
                at = 0.5 * (low + high)
                slope = r0 + at * r1 + _slope_many(f, g, at, codes, cost, probability)
                low, high = (low, at) if slope > 0.0 else (at, high)
                if slope <= 0.0 and high - low <= 0.25 * high:
                    break
        for k in range(n_classes):
            for j in range(size):
                v[k, j] += at * step[k * size + j]
            for i in range(n):
                f[k, i] += at * g[k, i]
        if at == 1.0 and _largest(g.ravel()) <= _SMALL * (1.0 + _largest(f.ravel())):
            return True
    return False
