"""Means and squares of every voxel in every class and training part, shared by the spheres a voxel belongs to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from slcluster.kernels.cholesky import compiled

__all__ = ["Moments", "class_moments", "less_first_sample", "samples_of", "training_variance"]


class Moments(NamedTuple):
    """Of one set of targets: K classes, in each of the training parts."""

    #: float64, (n_folds, K): training samples.
    counts: np.ndarray
    #: float64, (n_folds, K, n_voxels): mean over a class's training samples; NaN without samples.
    means: np.ndarray
    #: float64, (n_folds, K, n_voxels): sum of squares about that mean.
    squares: np.ndarray


def less_first_sample(bold: np.ndarray) -> np.ndarray:
    """Float64 voxels x samples, every voxel less its first sample.

    Raw BOLD is some hundred times larger than its variation. Differences of integers or float32 of like size
    are exact in float64, and a constant voxel becomes exactly zero, which no mean, itself rounded, could promise.
    """
    wide = np.asarray(bold, np.float64)
    return np.ascontiguousarray(wide - wide[:, :1])


def samples_of(parts: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """All parts' samples one after the other, and where each part starts: both int64."""
    edges = np.cumsum([0, *map(len, parts)]).astype(np.int64)
    return np.concatenate([np.zeros(0, np.int64), *parts]).astype(np.int64), edges


def class_moments(
    by_sample: np.ndarray, targets: np.ndarray, train: Sequence[np.ndarray], n_classes: int
) -> Moments:
    """Counts, means and squares in two passes, float64.

    Parameters
    ----------
    by_sample : array of float64, shape (n_samples, n_voxels), C order
        So that sums run over samples for many voxels at once, each voxel's in the order of the samples.
    targets : array of int, shape (n_samples,)
        Codes of classes, 0 to ``n_classes - 1``.
    train : n_folds index arrays
    n_classes : int

    Returns
    -------
    Moments

    Examples
    --------
    >>> x = np.array([[1.0], [3.0], [7.0]])
    >>> class_moments(x, np.array([0, 0, 1]), [np.arange(3)], 2).means.tolist()
    [[[2.0], [7.0]]]
    """
    shape = (len(train), n_classes, by_sample.shape[1])
    moments = Moments(np.zeros(shape[:2]), np.zeros(shape), np.zeros(shape))
    _sum_classes(by_sample, np.asarray(targets, np.int64), *samples_of(train), *moments)
    return moments


def training_variance(by_sample: np.ndarray, train: Sequence[np.ndarray]) -> np.ndarray:
    """Variance of every voxel over all samples of each training part, ddof = 0: float64 (n_folds, n_voxels)."""
    moments = class_moments(by_sample, np.zeros(len(by_sample), np.int64), train, 1)
    return moments.squares[:, 0] / moments.counts


@compiled
def _sum_classes(by_sample, targets, samples, edges, counts, means, squares):
    n_voxels = by_sample.shape[1]
    for fold in range(len(edges) - 1):
        for i in samples[edges[fold] : edges[fold + 1]]:
            row, total = by_sample[i], means[fold, targets[i]]
            counts[fold, targets[i]] += 1.0
            for voxel in range(n_voxels):
                total[voxel] += row[voxel]
        for k in range(means.shape[1]):
            total = means[fold, k]
            for voxel in range(n_voxels):
                total[voxel] /= counts[fold, k]
        for i in samples[edges[fold] : edges[fold + 1]]:
            row, mean, square = by_sample[i], means[fold, targets[i]], squares[fold, targets[i]]
            for voxel in range(n_voxels):
                away = row[voxel] - mean[voxel]
                square[voxel] += away * away
