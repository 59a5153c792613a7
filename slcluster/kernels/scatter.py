"""Scatter matrices of training parts, put together from those of samples that folds share.

The training parts of a k-fold or leave-one-run-out have most samples in common. Samples that are in the same
training parts are summed once, about their own mean, and each fold adds up what it needs: a scatter about a
joint mean is the sum of those about the members' means and of the means' own (Chan, Golub & LeVeque 1983,
*The American Statistician* 37:242). Only squares are added, so nothing cancels.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from slcluster.kernels.cholesky import add_outer_products
from slcluster.kernels.compiling import inner
from slcluster.kernels.folds import as_masks
from slcluster.kernels.moments import samples_of

__all__ = ["joint_scatter", "part_moments", "scatter_about_mean", "shared_parts"]


def shared_parts(train: Sequence[np.ndarray], n_samples: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Samples grouped by the training parts that they are in.

    Parameters
    ----------
    train : n_folds index arrays
    n_samples : int

    Returns
    -------
    members : numpy.ndarray
        int64, samples of the first group, then of the second, and so on.
    edges : numpy.ndarray
        int64, shape (n_groups + 1,): where each group starts.
    in_fold : numpy.ndarray
        bool, shape (n_folds, n_groups). Where folds share too little, as shuffled ones do, each training part is
        a group of its own.

    Examples
    --------
    >>> shared_parts([np.array([2, 3, 4, 5]), np.array([0, 1, 4, 5])], 6)[0].tolist()
    [0, 1, 2, 3, 4, 5]
    """
    patterns, group = np.unique(as_masks(train, n_samples), axis=1, return_inverse=True)
    is_used = patterns.any(axis=0)
    if is_used.sum() > len(train) + 1:
        return *samples_of(train), np.eye(len(train), dtype=bool)
    groups = [np.flatnonzero(np.ravel(group) == number) for number in np.flatnonzero(is_used)]
    return *samples_of(groups), np.ascontiguousarray(patterns[:, is_used])


@inner
def scatter_about_mean(rows, members, mean, scatter):
    """Mean of some rows, and the upper triangle of their scatter about it; both replaced."""
    n, size = len(members), rows.shape[1]
    mean[:] = 0.0
    for i in members:
        row = rows[i]
        for j in range(size):
            mean[j] += row[j]
    for j in range(size):
        mean[j] /= n
    away = np.empty((n, size))
    for i in range(n):
        row, into = rows[members[i]], away[i]
        for j in range(size):
            into[j] = row[j] - mean[j]
    np.dot(away.T, away, scatter)


@inner
def part_moments(rows, members, edges):
    """Counts, means and scatters of all groups of :func:`shared_parts`."""
    n_parts, size = len(edges) - 1, rows.shape[1]
    counts, means = np.empty(n_parts), np.empty((n_parts, size))
    scatters = np.empty((n_parts, size, size))
    for part in range(n_parts):
        chosen = members[edges[part] : edges[part + 1]]
        counts[part] = len(chosen)
        scatter_about_mean(rows, chosen, means[part], scatters[part])
    return counts, means, scatters


@inner
def joint_scatter(counts, means, scatters, is_in, mean, scatter):
    """Mean of the groups that are in, and the upper triangle of their scatter about it; both replaced. Returns their count."""
    n_parts, size = means.shape
    chosen, weights, n_chosen, n = np.empty(n_parts, np.int64), np.empty(n_parts), 0, 0.0
    mean[:] = 0.0
    scatter[:] = 0.0
    for part in range(n_parts):
        if is_in[part]:
            chosen[n_chosen], weights[n_chosen] = n_chosen, counts[part]
            n_chosen, n = n_chosen + 1, n + counts[part]
            for j in range(size):
                mean[j] += counts[part] * means[part, j]
                source, into = scatters[part, j], scatter[j]
                for k in range(j, size):
                    into[k] += source[k]
    for j in range(size):
        mean[j] /= n
    away, at = np.empty((n_chosen, size)), 0
    for part in range(n_parts):
        if is_in[part]:
            for j in range(size):
                away[at, j] = means[part, j] - mean[j]
            at += 1
    add_outer_products(scatter, away, chosen, weights, n_chosen, size)
    return n
