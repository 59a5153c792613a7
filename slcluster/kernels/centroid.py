"""Nearest centroid: the class whose mean pattern is closest, in the Euclidean sense, to a sample."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from slcluster.errors import InputError
from slcluster.kernels.answers import answer, check_priors, decide, empty_answers, first_largest, normalise
from slcluster.kernels.compiling import entry, inner
from slcluster.kernels.moments import Moments, class_moments, columns_of, less_first_sample, samples_of
from slcluster.kernels.spheres import Spheres

__all__ = ["OUTPUTS", "nearest_centroid"]

#: What it can return.
OUTPUTS = ("confusion", "prediction", "decision", "log_proba")


def nearest_centroid(
    bold: np.ndarray,
    targets: np.ndarray,
    train: Sequence[np.ndarray],
    test: Sequence[np.ndarray],
    spheres: Spheres,
    *,
    outputs: Sequence[str],
    n_classes: int,
    priors: str | Sequence[float] = "uniform",
) -> dict[str, np.ndarray]:
    """Fit and test nearest centroids in every sphere and fold; see :mod:`slcluster.kernels`.

    Equal to scikit-learn's ``NearestCentroid`` with the Euclidean metric and without shrinkage. Note that
    it (since 1.6) measures in two ways. With equal priors a prediction goes by plain distances; ``decision`` and
    ``log_proba``, and predictions with unequal priors, go by discriminant scores

        2 log πₖ - Σᵥ (x(v) - mₖ(v))² / s²(v)

    (Hastie, Tibshirani & Friedman 2009, *The Elements of Statistical Learning*, eq. 18.2), where s² is the
    variance within classes with N - K degrees of freedom and voxels without any count as if it were 1. So
    the largest decision need not be the prediction. Equal distances go to the first class. Where no voxel of a
    sphere varies over a training part scikit-learn refuses; here all distances are then equal.

    Parameters
    ----------
    bold, targets, train, test, spheres
        See :mod:`slcluster.kernels`.
    outputs : sequence of str
        Of ``confusion``, ``prediction``, ``decision`` and ``log_proba``.
    n_classes : int
    priors : "uniform", "empirical" or sequence of float, shape (n_classes,)
        Probabilities of the classes: equal, their shares of the training samples, or these.

    Returns
    -------
    dict
        The outputs asked for.

    Raises
    ------
    InputError
        ``priors`` that are no probabilities of ``n_classes`` classes.

    Examples
    --------
    >>> y = np.tile([0, 1], 10)
    >>> bold = np.random.default_rng(0).normal(size=(3, 20)) + 5 * y
    >>> fold = (np.arange(10),), (np.arange(10, 20),)
    >>> sphere = Spheres(np.array([0, 3]), np.arange(3))
    >>> found = nearest_centroid(bold, y[None], *fold, sphere, outputs=["confusion"], n_classes=2)
    >>> found["confusion"][0, 0, 0].tolist()
    [[5, 0], [0, 5]]
    """
    centred = less_first_sample(bold)
    tested, edges = samples_of(test)
    n_centers = len(spheres.indptr) - 1
    found = empty_answers(outputs, OUTPUTS, (n_centers, len(targets)), len(test), len(tested), n_classes)
    x = columns_of(centred, tested)
    for number, y in enumerate(np.asarray(targets, np.int64)):
        moments = class_moments(centred, y, train, n_classes)
        shares = _shares(priors, moments.counts)
        with np.errstate(divide="ignore"):
            log_priors = np.log(shares)
        _all_spheres(
            x,
            y[tested],
            edges,
            moments.means,
            _precisions(moments),
            log_priors,
            np.isclose(shares, 1 / n_classes).all(axis=1),
            np.asarray(spheres.indptr, np.int64),
            np.asarray(spheres.indices, np.int64),
            number,
            *found.values(),
        )
    return {name: found[name] for name in outputs}


def _shares(priors: str | Sequence[float], counts: np.ndarray) -> np.ndarray:
    """Probabilities of the classes in each training part: (n_folds, K)."""
    n_classes = counts.shape[1]
    if isinstance(priors, str):
        if priors == "uniform":
            return np.full(counts.shape, 1 / n_classes)
        if priors == "empirical":
            return counts / counts.sum(axis=1, keepdims=True)
        raise InputError(f"priors must be 'uniform', 'empirical' or probabilities, got {priors!r}")
    return np.broadcast_to(check_priors(priors, n_classes), counts.shape)


def _precisions(moments: Moments) -> np.ndarray:
    """1 / s² of every voxel in each training part, 1 where s² is zero: (n_folds, n_voxels)."""
    freedom = moments.counts.sum(axis=1) - moments.counts.shape[1]
    with np.errstate(divide="ignore", invalid="ignore"):
        variance = moments.squares.sum(axis=1) / freedom[:, None]
        return np.where(variance == 0, 1.0, 1.0 / variance)


@entry
def _all_spheres(
    x,
    y,
    edges,
    means,
    precisions,
    log_priors,
    is_uniform,
    indptr,
    indices,
    permutation,
    confusion,
    prediction,
    decision,
    log_proba,
):
    n_classes, one = means.shape[1], np.ones(len(x))
    nearness, scores = np.empty((n_classes, x.shape[1])), np.empty((n_classes, x.shape[1]))
    best, best_score = np.empty(x.shape[1], np.int64), np.empty(x.shape[1], np.int64)
    needs_scores = len(decision) > 0 or len(log_proba) > 0
    for center in range(len(indptr) - 1):
        columns = indices[indptr[center] : indptr[center + 1]]
        if len(columns) == 0:
            continue
        for fold in range(len(edges) - 1):
            start, stop = edges[fold], edges[fold + 1]
            for k in range(n_classes):
                mean, double = means[fold, k], 2.0 * log_priors[fold, k]
                if needs_scores or not is_uniform[fold]:
                    _score(x, columns, start, mean, precisions[fold], double, scores[k, start:stop])
                if is_uniform[fold]:
                    _score(x, columns, start, mean, one, 0.0, nearness[k, start:stop])
                else:
                    for i in range(start, stop):
                        nearness[k, i] = scores[k, i]
        first_largest(nearness, best)
        answer(best, y, edges, center, permutation, confusion, prediction)
        if len(decision):
            decide(scores, decision[center, permutation])
        if len(log_proba):
            first_largest(scores, best_score)
            normalise(scores, best_score, log_proba[center, permutation])


@inner
def _score(x, columns, start, mean, precision, double, into):
    """``double`` (of the logarithm of the prior) less the squared distance, weighted by voxel, of each sample from a mean pattern."""
    stop = start + len(into)
    into[:] = 0.0
    n_even = len(columns) // 2 * 2
    for j in range(0, n_even, 2):  # two at a time, to halve the traffic of the sums
        u, v = columns[j], columns[j + 1]
        weight_u, mean_u, row_u = precision[u], mean[u], x[u, start:stop]
        weight_v, mean_v, row_v = precision[v], mean[v], x[v, start:stop]
        for i in range(len(into)):
            away_u, away_v = row_u[i] - mean_u, row_v[i] - mean_v
            into[i] += away_u * away_u * weight_u + away_v * away_v * weight_v
    for j in range(n_even, len(columns)):
        u = columns[j]
        weight_u, mean_u, row_u = precision[u], mean[u], x[u, start:stop]
        for i in range(len(into)):
            away_u = row_u[i] - mean_u
            into[i] += away_u * away_u * weight_u
    for i in range(len(into)):
        into[i] = double - into[i]
