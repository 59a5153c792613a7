"""The covariance within classes and systems of equations with it, for one training part of one sphere.

What scatters shared between folds and permutations cannot give: shrinkage, classes weighted otherwise than by
their samples, and covariances that are singular or nearly so, each as scikit-learn's solver treats it.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from slcluster.kernels.cholesky import add_outer_products, factor, inverse_trace, solve_factored
from slcluster.kernels.compiling import inner
from slcluster.kernels.vectors import fma

__all__ = ["LEAST_EIGENVALUE", "Rule", "scale_and_factor", "solve_within"]

#: Correlation matrices with a smaller eigenvalue are left to LAPACK's singular values, which see the samples.
LEAST_EIGENVALUE = 1e-6

#: The same for covariances: scikit-learn too has no more than the matrix then.
_LEAST_OF_COVARIANCE = 1e-11

_EPSILON = np.finfo(np.float64).eps


class Rule(NamedTuple):
    """What a linear discriminant analysis is asked for."""

    n_classes: int
    #: Whether singular values of samples decide the rank, as scikit-learn's solver ``svd`` has it.
    is_svd: bool
    #: Part of the identity in each class's covariance; -1 for what Ledoit and Wolf choose.
    shrinkage: float
    #: Singular values not above are zero.
    tol: float
    #: float64, (K,), or empty: shares of the training samples.
    priors: np.ndarray
    #: Whether decisions of several classes are wanted, of samples as they are and not less their mean.
    is_absolute: bool


@inner
def scale_and_factor(matrix, negligible, scale):
    """Replace a covariance by the factor of its correlation matrix, and ``scale`` by one over deviations.

    Voxels whose variance is at most ``negligible`` have a scale of zero and no correlation. Returns a bound from
    below on the smallest eigenvalue, zero if there is none.
    """
    size = len(matrix)
    for j in range(size):
        scale[j] = 1.0 / np.sqrt(matrix[j, j]) if matrix[j, j] > negligible[j] else 0.0
    for j in range(size):
        row, own = matrix[j], scale[j]
        for k in range(j, size):
            row[k] *= own * scale[k]
        if own == 0.0:
            row[j] = 1.0
    if not factor(matrix, size):
        return 0.0
    return 1.0 / inverse_trace(matrix, size)


@inner
def solve_within(rows, chosen, y, counts, means, priors, levels, negligible, rule, right):
    """Replace each row of ``right`` by the (pseudo-)inverse of the covariance within classes, times it.

    ``rows`` are samples less ``levels``, ``y`` codes of all samples, ``chosen`` the training samples; ``counts``,
    ``means`` and ``priors`` of classes; ``negligible`` the variance below which a voxel is constant.
    """
    away, codes = np.empty((len(chosen), rows.shape[1])), np.empty(len(chosen), np.int64)
    for i in range(len(chosen)):
        codes[i] = y[chosen[i]]
        source, middle = rows[chosen[i]], means[codes[i]]
        for j in range(rows.shape[1]):
            away[i, j] = source[j] - middle[j]
    if rule.is_svd:
        _solve_by_samples(away, codes, counts, negligible, rule.tol, right)
        return
    covariance = _covariance(away, codes, counts, means, priors, levels, negligible, rule.shrinkage)
    work, scale = covariance.copy(), np.empty(len(covariance))
    if scale_and_factor(work, np.zeros(len(work)), scale) > _LEAST_OF_COVARIANCE:
        for k in range(len(right)):
            row = right[k]  # contiguous, which those of a loop over rows are not known to be
            row *= scale
            solve_factored(work, row, len(row))
            row *= scale
    else:
        _solve_by_eigenvalues(covariance, max(away.shape) * _EPSILON, right)


# --- singular values of samples


@inner
def _solve_by_samples(away, codes, counts, negligible, tol, right):
    """scikit-learn's solver ``svd``: voxels by their deviation within classes, singular values above ``tol``."""
    n, size = away.shape
    scale = np.zeros(size)
    for i in range(n):
        for j in range(size):
            scale[j] += away[i, j] * away[i, j]
    for j in range(size):
        scale[j] = 1.0 / np.sqrt(scale[j] / n) if scale[j] / n > negligible[j] else 0.0
    for i in range(n):
        for j in range(size):
            away[i, j] *= scale[j] / np.sqrt(n)
    right *= scale
    if size <= n - len(counts) or not _solve_by_products(away, codes, counts, tol, right):
        _, values, directions = np.linalg.svd(away, full_matrices=False)
        _project(directions, values, tol, right)
    right *= scale


@inner
def _project(directions, values, least, right):
    """Replace rows of ``right`` by their parts along directions (rows), over the squares of their values."""
    for number in range(len(right)):
        into = right[number]
        source = into.copy()
        into[:] = 0.0
        for r in range(len(values)):
            if values[r] > least:
                part = (directions[r] * source).sum() / values[r] ** 2
                for j in range(len(into)):
                    into[j] += part * directions[r, j]


@inner
def _solve_by_products(away, codes, counts, tol, right):
    """More voxels than samples: the inner products of samples, whose null space are the classes' sums.

    With that filled up the matrix is definite, and no singular value is below ``tol``; else False.
    """
    n = len(away)
    products = np.dot(away, away.T)
    fill = np.trace(products) / n
    for i in range(n):
        for j in range(i, n):
            if codes[i] == codes[j]:
                products[i, j] += fill / counts[codes[i]]
    if not factor(products, n):
        return False
    if not 1.0 / inverse_trace(products, n) > max(LEAST_EIGENVALUE, 4.0 * tol * tol):
        return False
    for number in range(len(right)):
        weights = np.dot(away, right[number])
        solve_factored(products, weights, n)
        solve_factored(products, weights, n)
        np.dot(weights, away, right[number])
    return True


# --- covariances


@inner
def _covariance(away, codes, counts, means, priors, levels, negligible, shrinkage):
    """Each class's covariance (divided by its samples), shrunk, weighted by its prior; the upper triangle."""
    n, size = away.shape
    covariance = np.zeros((size, size))
    if shrinkage < 0.0:
        for k in range(len(counts)):
            _add_ledoit_wolf(away[codes == k], means[k] + levels, priors[k], covariance)
        return covariance
    weights = np.empty(n)
    for i in range(n):
        weights[i] = priors[codes[i]] / counts[codes[i]]
    add_outer_products(covariance, away, np.arange(n), weights, n, size)
    level = shrinkage * np.trace(covariance) / size
    for j in range(size):
        if covariance[j, j] <= negligible[j]:
            covariance[j, :] = 0.0
            covariance[:, j] = 0.0
        for k in range(j, size):
            covariance[j, k] *= 1.0 - shrinkage
        covariance[j, j] += level
    return covariance


@inner
def _add_ledoit_wolf(away, mean, prior, covariance):
    """Add one class's covariance, shrunk to its variances as Ledoit and Wolf choose.

    Voxels are scaled by their deviation first, then shrunk to the identity (Ledoit & Wolf 2004, *Journal of
    Multivariate Analysis* 88:365), then scaled back, as scikit-learn does. A voxel is constant as its
    StandardScaler has it, and its deviation then 1.
    """
    n, size = away.shape
    deviation = np.empty(size)
    for j in range(size):
        variance = 0.0
        for i in range(n):
            variance += away[i, j] * away[i, j]
        variance /= n
        is_constant = variance <= n * _EPSILON * variance + (n * mean[j] * _EPSILON) ** 2
        deviation[j] = 1.0 if is_constant else np.sqrt(variance)
    fourth = 0.0
    for i in range(n):
        length = 0.0
        for j in range(size):
            away[i, j] /= deviation[j]
            length = fma(away[i, j], away[i, j], length)
        fourth += length * length
    own = np.zeros((size, size))
    add_outer_products(own, away, np.arange(n), np.full(n, 1.0 / n), n, size)
    level = np.trace(own) / size
    share = _ledoit_wolf_share(own, fourth / n, level, n) if size > 1 else 0.0
    for j in range(size):
        for k in range(j, size):
            value = (1.0 - share) * own[j, k]
            if k == j:
                value += share * level
            covariance[j, k] += prior * (deviation[j] * value * deviation[k])


@inner
def _ledoit_wolf_share(covariance, fourth, level, n):
    """How far to shrink to ``level`` times the identity, from the mean fourth power of samples' lengths."""
    size, squares = len(covariance), 0.0
    for j in range(size):
        squares += covariance[j, j] * covariance[j, j]
        for k in range(j + 1, size):
            squares += 2.0 * covariance[j, k] * covariance[j, k]
    delta = (squares - 2.0 * level * (level * size) + size * level * level) / size
    beta = min((fourth - squares) / (size * n), delta)
    return 0.0 if beta == 0.0 else beta / delta


@inner
def _solve_by_eigenvalues(covariance, least, right):
    """The solution of least norm, for eigenvalues above ``least`` times the largest."""
    size = len(covariance)
    for j in range(size):
        for k in range(j):
            covariance[j, k] = covariance[k, j]
    values, directions = np.linalg.eigh(covariance)
    roots = np.sqrt(np.maximum(values, 0.0))
    _project(np.ascontiguousarray(directions.T), roots, roots[-1] * np.sqrt(least), right)
