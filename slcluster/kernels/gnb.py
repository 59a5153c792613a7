"""Gaussian naive Bayes: a normal density per voxel and class, voxels taken as independent.

A sphere's log-likelihood is the sum of its voxels' log-densities, and those need only each voxel's mean and
variance in each class, which all spheres share. What spheres do not share is the variance that scikit-learn adds
for stability, ``var_smoothing`` times the largest variance *in the sphere*: it is all the variance that a
constant voxel has. So means and squares are computed once a voxel, and the densities anew in every sphere.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from slcluster.errors import InputError
from slcluster.kernels.answers import answer, check_priors, empty_answers, first_largest, normalise
from slcluster.kernels.compiling import entry, inner
from slcluster.kernels.moments import (
    Moments,
    class_moments,
    columns_of,
    less_first_sample,
    samples_of,
    training_variance,
)
from slcluster.kernels.spheres import Spheres

__all__ = ["OUTPUTS", "gnb"]

#: What it can return.
OUTPUTS = ("confusion", "prediction", "log_proba", "joint_log_proba")


def gnb(
    bold: np.ndarray,
    targets: np.ndarray,
    train: Sequence[np.ndarray],
    test: Sequence[np.ndarray],
    spheres: Spheres,
    *,
    outputs: Sequence[str],
    n_classes: int,
    var_smoothing: float = 1e-9,
    priors: Sequence[float] | None = None,
    is_pooled: bool = False,
) -> dict[str, np.ndarray]:
    """Fit and test Gaussian naive Bayes in every sphere and fold; see :mod:`slcluster.kernels`.

    Equal to scikit-learn's ``GaussianNB`` given float64, or with ``is_pooled`` to
    :class:`slcluster.kernels.twins.PooledGaussianNB`, where the formula is. Where no voxel of a sphere varies
    over a training part, its densities are undefined: probabilities are NaN and the prediction is the first
    class. So it is in scikit-learn where the voxels' means are exact; else it divides rounding by rounding.

    Parameters
    ----------
    bold, targets, train, test, spheres
        See :mod:`slcluster.kernels`.
    outputs : sequence of str
        Of ``confusion``, ``prediction``, ``log_proba``, and ``joint_log_proba``: what
        ``predict_joint_log_proba`` gives, float64 of the shape of ``log_proba``.
    n_classes : int
    var_smoothing : float
        Part of the largest variance in the sphere that is added to all its variances.
    priors : sequence of float, shape (n_classes,), optional
        Probabilities of the classes; without, their shares of the training samples.
    is_pooled : bool
        One variance per voxel instead of one per voxel and class.

    Returns
    -------
    dict
        The outputs asked for.

    Raises
    ------
    InputError
        ``priors`` that are no probabilities of ``n_classes`` classes, or a negative ``var_smoothing``.

    Examples
    --------
    >>> y = np.tile([0, 1], 10)
    >>> bold = np.random.default_rng(0).normal(size=(3, 20)) + 5 * y
    >>> fold = (np.arange(10),), (np.arange(10, 20),)
    >>> sphere = Spheres(np.array([0, 3]), np.arange(3))
    >>> gnb(bold, y[None], *fold, sphere, outputs=["confusion"], n_classes=2)["confusion"][0, 0, 0].tolist()
    [[5, 0], [0, 5]]
    """
    if not var_smoothing >= 0:
        raise InputError(f"var_smoothing must be zero or positive, got {var_smoothing}")
    centred = less_first_sample(bold)
    tested, edges = samples_of(test)
    n_centers = len(spheres.indptr) - 1
    found = empty_answers(outputs, OUTPUTS, (n_centers, len(targets)), len(test), len(tested), n_classes)
    x = columns_of(centred, tested)
    smoothing = var_smoothing * training_variance(centred, train)
    for number, y in enumerate(np.asarray(targets, np.int64)):
        moments = class_moments(centred, y, train, n_classes)
        log_priors = _log_priors(priors, moments.counts)
        _all_spheres(
            x,
            y[tested],
            edges,
            moments.means,
            _variances(moments, is_pooled),
            smoothing,
            log_priors,
            np.asarray(spheres.indptr, np.int64),
            np.asarray(spheres.indices, np.int64),
            number,
            *found.values(),
        )
    return {name: found[name] for name in outputs}


def _log_priors(priors: Sequence[float] | None, counts: np.ndarray) -> np.ndarray:
    """Logarithms of the classes' probabilities in each training part: (n_folds, K)."""
    n_classes = counts.shape[1]
    if priors is None:
        shares = counts / counts.sum(axis=1, keepdims=True)
    else:
        shares = np.broadcast_to(check_priors(priors, n_classes), counts.shape)
    with np.errstate(divide="ignore"):
        return np.log(shares)


def _variances(moments: Moments, is_pooled: bool) -> np.ndarray:
    """Of every voxel in each class, not yet smoothed: (n_folds, K, n_voxels)."""
    if not is_pooled:
        return moments.squares / moments.counts[:, :, None]
    pooled = moments.squares.sum(axis=1, keepdims=True) / moments.counts.sum(axis=1)[:, None, None]
    return np.ascontiguousarray(np.broadcast_to(pooled, moments.squares.shape))


@entry
def _all_spheres(
    x,
    y,
    edges,
    means,
    variances,
    smoothing,
    log_priors,
    indptr,
    indices,
    permutation,
    confusion,
    prediction,
    log_proba,
    joint_log_proba,
):
    n_classes = means.shape[1]
    joint, best = np.empty((n_classes, x.shape[1])), np.empty(x.shape[1], np.int64)
    for center in range(len(indptr) - 1):
        columns = indices[indptr[center] : indptr[center + 1]]
        if len(columns) == 0:
            continue
        for fold in range(len(edges) - 1):
            start, stop = edges[fold], edges[fold + 1]
            epsilon = 0.0
            for voxel in columns:
                epsilon = max(epsilon, smoothing[fold, voxel])
            for k in range(n_classes):
                _add_densities(
                    x,
                    columns,
                    start,
                    means[fold, k],
                    variances[fold, k],
                    epsilon,
                    log_priors[fold, k],
                    joint[k, start:stop],
                )
        first_largest(joint, best)
        answer(best, y, edges, center, permutation, confusion, prediction)
        if len(joint_log_proba):
            for i in range(x.shape[1]):
                for k in range(n_classes):
                    joint_log_proba[center, permutation, i, k] = joint[k, i]
        if len(log_proba):
            normalise(joint, best, log_proba[center, permutation])


@inner
def _add_densities(x, columns, start, mean, variance, epsilon, log_prior, into):
    """Log-density of each test sample, summed over the voxels of a sphere, and the class's prior."""
    log_determinant, stop = 0.0, start + len(into)
    into[:] = 0.0
    n_even = len(columns) // 2 * 2
    for j in range(0, n_even, 2):  # two at a time, to halve the traffic of the sums
        u, v = columns[j], columns[j + 1]
        spread_u, spread_v = variance[u] + epsilon, variance[v] + epsilon
        log_determinant += np.log(2.0 * np.pi * spread_u) + np.log(2.0 * np.pi * spread_v)
        precision_u, mean_u, row_u = 1.0 / spread_u, mean[u], x[u, start:stop]
        precision_v, mean_v, row_v = 1.0 / spread_v, mean[v], x[v, start:stop]
        for i in range(len(into)):
            away_u, away_v = row_u[i] - mean_u, row_v[i] - mean_v
            into[i] += away_u * away_u * precision_u + away_v * away_v * precision_v
    for j in range(n_even, len(columns)):
        u = columns[j]
        spread_u = variance[u] + epsilon
        log_determinant += np.log(2.0 * np.pi * spread_u)
        precision_u, mean_u, row_u = 1.0 / spread_u, mean[u], x[u, start:stop]
        for i in range(len(into)):
            away_u = row_u[i] - mean_u
            into[i] += away_u * away_u * precision_u
    for i in range(len(into)):
        into[i] = log_prior - 0.5 * log_determinant - 0.5 * into[i]
