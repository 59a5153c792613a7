"""Means and squares of every voxel in every class and training part, shared by the spheres a voxel belongs to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from slcluster.kernels.compiling import entry

__all__ = ["Moments", "class_moments", "columns_of", "less_first_sample", "samples_of", "training_variance"]

#: Voxels summed at a time: 216 samples of them fill 200 kB, less than any second-level cache.
_VOXELS_AT_ONCE = 128


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
    bold = np.asarray(bold)
    return np.ascontiguousarray(np.subtract(bold, bold[:, :1], dtype=np.float64))


def columns_of(centred: np.ndarray, samples: np.ndarray) -> np.ndarray:
    """These samples of voxels x samples, C order; the array itself where they are all of them in order."""
    if np.array_equal(samples, np.arange(centred.shape[1])):
        return centred
    return np.take(centred, samples, axis=1)


def samples_of(parts: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """All parts' samples one after the other, and where each part starts: both int64."""
    edges = np.cumsum([0, *map(len, parts)]).astype(np.int64)
    return np.concatenate([np.zeros(0, np.int64), *parts]).astype(np.int64), edges


def class_moments(
    centred: np.ndarray, targets: np.ndarray, train: Sequence[np.ndarray], n_classes: int
) -> Moments:
    """Counts, means and squares in two passes, float64.

    Parameters
    ----------
    centred : array of float64, shape (n_voxels, n_samples), C order
        From :func:`less_first_sample`.
    targets : array of int, shape (n_samples,)
        Codes of classes, 0 to ``n_classes - 1``.
    train : n_folds index arrays
    n_classes : int

    Returns
    -------
    Moments

    Examples
    --------
    >>> x = np.array([[1.0, 3.0, 7.0]])
    >>> class_moments(x, np.array([0, 0, 1]), [np.arange(3)], 2).means.tolist()
    [[[2.0], [7.0]]]
    """
    shape = (len(train), n_classes, len(centred))
    moments = Moments(np.zeros(shape[:2]), np.zeros(shape), np.zeros(shape))
    targets = np.asarray(targets, np.int64)
    for fold, index in enumerate(train):
        moments.counts[fold] = np.bincount(targets[index], minlength=n_classes)
    _sum_classes(centred, targets, *samples_of(train), *moments)
    return moments


def training_variance(centred: np.ndarray, train: Sequence[np.ndarray]) -> np.ndarray:
    """Variance of every voxel over all samples of each training part, ddof = 0: float64 (n_folds, n_voxels)."""
    moments = class_moments(centred, np.zeros(centred.shape[1], np.int64), train, 1)
    return moments.squares[:, 0] / moments.counts


@entry
def _sum_classes(centred, targets, samples, edges, counts, means, squares):
    n_voxels, n_samples = centred.shape
    # Some voxels at a time, so that they stay in the cache, and sums that run over many voxels at once, each
    # voxel's in the order of the samples.
    by_sample = np.empty((n_samples, _VOXELS_AT_ONCE))
    for start in range(0, n_voxels, _VOXELS_AT_ONCE):
        n = min(_VOXELS_AT_ONCE, n_voxels - start)
        for voxel in range(n):
            row = centred[start + voxel]
            for i in range(n_samples):
                by_sample[i, voxel] = row[i]
        for fold in range(len(edges) - 1):
            part = samples[edges[fold] : edges[fold + 1]]
            mean, square = means[fold, :, start : start + n], squares[fold, :, start : start + n]
            for i in part:
                row, total = by_sample[i], mean[targets[i]]
                for voxel in range(n):
                    total[voxel] += row[voxel]
            for k in range(len(mean)):
                for voxel in range(n):
                    mean[k, voxel] /= counts[fold, k]
            for i in part:
                row, middle, total = by_sample[i], mean[targets[i]], square[targets[i]]
                for voxel in range(n):
                    away = row[voxel] - middle[voxel]
                    total[voxel] += away * away
