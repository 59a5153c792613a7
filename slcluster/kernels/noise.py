"""The noise of a sphere: covariance of what class means leave unexplained, and patterns in units of it.

Noise covariance is estimated from the residuals of N samples about the means of their K classes, with N - K
degrees of freedom, and shrunk towards a multiple of the identity:

    S = N / (N - K) · [(1 - λ) C + λ tr(C)/p I],    C = R'R / N over p voxels

With λ by the formula of Ledoit & Wolf (2004, *Journal of Multivariate Analysis* 88:365) the bracket is
``sklearn.covariance.ledoit_wolf(R)``; the factor before it makes the variances unbiased (Walther et al. 2016,
*NeuroImage* 137:188).
"""

from __future__ import annotations

import numpy as np

from slcluster.errors import InputError
from slcluster.kernels.cholesky import add_outer_products, factor
from slcluster.kernels.compiling import inner
from slcluster.kernels.moments import Moments
from slcluster.kernels.vectors import fma

__all__ = [
    "AUTO",
    "INVERSE_SCALES",
    "noise_covariance",
    "noise_factor",
    "parse_shrinkage",
    "voxel_scales",
    "whiten",
    "whiten_symmetrically",
]

#: In place of a shrinkage: Ledoit and Wolf's; and: no covariance at all, voxels have scales of their own.
AUTO, INVERSE_SCALES = -1.0, -2.0

#: A voxel of which the voxels before it leave less than this part of its noise variance is one too many.
_LEAST_UNEXPLAINED = 1e-12


def parse_shrinkage(shrinkage: str | float) -> float:
    """The number that stands for a shrinkage in compiled functions.

    Raises
    ------
    InputError
        If it is neither "auto", "diagonal", "none" nor a number from 0 to 1.

    Examples
    --------
    >>> parse_shrinkage("auto"), parse_shrinkage(0.4)
    (-1.0, 0.4)
    """
    named = {"auto": AUTO, "diagonal": INVERSE_SCALES, "none": INVERSE_SCALES}
    if isinstance(shrinkage, str) and shrinkage in named:
        return named[shrinkage]
    if not isinstance(shrinkage, str) and 0 <= shrinkage <= 1:
        return float(shrinkage)
    raise InputError(f"shrinkage must be 'auto', 'diagonal', 'none' or from 0 to 1, got {shrinkage!r}")


def voxel_scales(moments: Moments, shrinkage: str | float) -> np.ndarray:
    """What each voxel is multiplied by: (n_folds, n_voxels), float64.

    One over the standard deviation of its noise for "diagonal", 0 where there is none: nothing can be said of
    such a voxel's signal. Else 1.
    """
    scales = np.ones((len(moments.counts), moments.means.shape[2]))
    if shrinkage != "diagonal":
        return scales
    freedom = moments.counts.sum(axis=1) - moments.counts.shape[1]
    with np.errstate(divide="ignore", invalid="ignore"):
        variance = moments.squares.sum(axis=1) / freedom[:, None]
        return np.where(variance > 0, 1 / np.sqrt(variance), np.where(variance == 0, 0.0, np.nan))


@inner
def noise_covariance(centred, y, samples, means, columns, shrinkage, matrix):
    """Upper triangle of a sphere's noise covariance into ``matrix``. False without degrees of freedom."""
    n, p, n_classes = len(samples), len(columns), len(means)
    if n <= n_classes:
        return False
    rows, beta = np.empty((n, p)), 0.0
    for j in range(p):
        voxel, mean = centred[columns[j]], means[:, columns[j]]
        for t in range(n):
            rows[t, j] = voxel[samples[t]] - mean[y[samples[t]]]
    for t in range(n):
        length = 0.0
        for j in range(p):
            length += rows[t, j] * rows[t, j]
        beta += length * length
    matrix[:] = 0.0
    add_outer_products(matrix, rows, np.arange(n), np.full(n, 1.0 / n), n, p)
    average = 0.0
    for j in range(p):
        average += matrix[j, j] / p
    weight = _ledoit_wolf(matrix, average, beta / n, n) if shrinkage == AUTO else shrinkage
    unbias = n / (n - n_classes)
    for j in range(p):
        for k in range(j, p):
            matrix[j, k] *= (1.0 - weight) * unbias
        matrix[j, j] += weight * average * unbias
    return True


@inner
def _ledoit_wolf(matrix, average, beta, n):
    """Shrinkage of a covariance (upper triangle), from the mean over samples of their squared square length."""
    p, total = len(matrix), 0.0
    for j in range(p):
        total += matrix[j, j] * matrix[j, j]
        for k in range(j + 1, p):
            total += 2.0 * matrix[j, k] * matrix[j, k]
    delta = (total - p * average * average) / p
    beta = min((beta - total) / (p * n), delta)
    return 0.0 if beta == 0.0 or p == 1 else beta / delta


@inner
def noise_factor(matrix, variances):
    """Replace a covariance by its factor U. False where it is singular, to rounding.

    ``variances`` is room for as many numbers as there are voxels.
    """
    p = len(matrix)
    for j in range(p):
        variances[j] = matrix[j, j]
    is_regular = factor(matrix, p)
    for j in range(p):
        is_regular = is_regular and matrix[j, j] * matrix[j, j] >= _LEAST_UNEXPLAINED * variances[j]
    return is_regular


@inner
def whiten(matrix, patterns):
    """Replace each pattern x (a row) by z with U'z = x: products of z are those of x with the inverse between."""
    p = len(matrix)
    for i in range(len(patterns)):
        pattern = patterns[i]
        for j in range(p):
            row = matrix[j]
            pattern[j] /= row[j]
            a = -pattern[j]
            for k in range(j + 1, p):
                pattern[k] = fma(a, row[k], pattern[k])


@inner
def whiten_symmetrically(matrix, patterns):
    """Multiply each pattern (a row) by the symmetric inverse root of a covariance. False where it is singular.

    Products of patterns are those of :func:`whiten`, but voxels remain voxels: their mean has a meaning.
    """
    p = len(matrix)
    for j in range(p):
        for k in range(j):
            matrix[j, k] = matrix[k, j]
    values, vectors = np.linalg.eigh(matrix)
    if not values[0] > _LEAST_UNEXPLAINED * values[p - 1]:
        return False
    for j in range(p):
        for k in range(p):
            matrix[j, k] = vectors[j, k] / np.sqrt(values[k])
    patterns[:] = np.dot(patterns, np.dot(matrix, vectors.T))
    return True
