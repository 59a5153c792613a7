"""Cross-validated Mahalanobis distances between classes: without effect their mean is zero."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from slcluster.kernels.compiling import entry, inner
from slcluster.kernels.moments import class_moments, less_first_sample, samples_of
from slcluster.kernels.noise import (
    INVERSE_SCALES,
    noise_covariance,
    noise_factor,
    parse_shrinkage,
    voxel_scales,
    whiten,
)
from slcluster.kernels.spheres import Spheres

__all__ = ["crossnobis"]


def crossnobis(
    bold: np.ndarray,
    targets: np.ndarray,
    train: Sequence[np.ndarray],
    test: Sequence[np.ndarray],
    spheres: Spheres,
    *,
    n_classes: int,
    shrinkage: str | float = "auto",
) -> dict[str, np.ndarray]:
    """Distance of each pair of classes in every sphere, mean over folds.

    With mean patterns of classes a and b in the training and the test part of a fold and the noise covariance S
    of the training part (:mod:`slcluster.kernels.noise`), over p voxels:

        d = (a_train - b_train)' S⁻¹ (a_test - b_test) / p

    (Nili et al. 2014, *PLoS Computational Biology* 10:e1003553; Walther et al. 2016, *NeuroImage* 137:188). The
    parts' noise being independent, its expectation is zero where the classes do not differ, so it may be
    negative and can be tested against zero.

    Parameters
    ----------
    bold, targets, train, test, spheres
        See :mod:`slcluster.kernels`. Parts should be whole runs, else their noise is not independent.
    n_classes : int
    shrinkage : "auto", float from 0 to 1, "diagonal" or "none"
        Of the covariance: Ledoit and Wolf's, this one, variances alone (a voxel without noise in the training
        part then counts as one without difference), or the identity: cross-validated squared Euclidean distance.

    Returns
    -------
    dict
        ``distance``: float64 (n_centers, n_permutations, n_pairs), pairs in the order (0, 1), (0, 2), ...,
        (1, 2), ... of ``scipy.spatial.distance.squareform``. Folds whose test part lacks one of two classes
        don't count for their pair. NaN of empty spheres, of a pair without folds, and where the covariance of a
        fold is singular (no shrinkage with more voxels than degrees of freedom, duplicated or constant voxels).

    Raises
    ------
    InputError
        For another ``shrinkage``.

    Examples
    --------
    >>> y = np.tile([0, 1, 2], 20)
    >>> bold = np.random.default_rng(0).normal(size=(4, 60)) + 3 * (y == 2)
    >>> halves = (np.arange(30), np.arange(30, 60)), (np.arange(30, 60), np.arange(30))
    >>> sphere = Spheres(np.array([0, 4]), np.arange(4))
    >>> d = crossnobis(bold, y[None], *halves, sphere, n_classes=3)["distance"][0, 0]
    >>> bool(abs(d[0]) < 1 < d[1:].min())
    True
    """
    weight = parse_shrinkage(shrinkage)
    centred = less_first_sample(bold)
    n_centers = len(spheres.indptr) - 1
    distance = np.full((n_centers, len(targets), n_classes * (n_classes - 1) // 2), np.nan)
    for number, y in enumerate(np.asarray(targets, np.int64)):
        moments = class_moments(centred, y, train, n_classes)
        _all_spheres(
            centred,
            y,
            *samples_of(train),
            moments.means,
            class_moments(centred, y, test, n_classes).means,
            voxel_scales(moments, shrinkage),
            weight,
            np.asarray(spheres.indptr, np.int64),
            np.asarray(spheres.indices, np.int64),
            number,
            distance,
        )
    return {"distance": distance}


@entry
def _all_spheres(
    centred,
    y,
    samples,
    edges,
    means,
    test_means,
    scales,
    shrinkage,
    indptr,
    indices,
    permutation,
    distance,
):
    n_folds, n_classes = means.shape[:2]
    for center in range(len(indptr) - 1):
        columns = indices[indptr[center] : indptr[center + 1]]
        p, sums = len(columns), np.zeros(distance.shape[2])
        if p == 0:
            continue
        n_added = np.zeros(len(sums))
        some, other = np.empty((n_classes, p)), np.empty((n_classes, p))
        matrix, variances = np.empty((p, p)), np.empty(p)
        for fold in range(n_folds):
            for k in range(n_classes):
                for j in range(p):
                    some[k, j] = means[fold, k, columns[j]] * scales[fold, columns[j]]
                    other[k, j] = test_means[fold, k, columns[j]] * scales[fold, columns[j]]
            if shrinkage != INVERSE_SCALES:
                part = samples[edges[fold] : edges[fold + 1]]
                if not (
                    noise_covariance(centred, y, part, means[fold], columns, shrinkage, matrix)
                    and noise_factor(matrix, variances)
                ):
                    sums[:] = np.nan
                    break
                whiten(matrix, some)
                whiten(matrix, other)
            _add_distances(some, other, sums, n_added)
        distance[center, permutation] = sums / (n_added * p)


@inner
def _add_distances(some, other, sums, n_added):
    """Products of the differences between patterns of one part and of the other, where both are there."""
    n_classes, p = some.shape
    pair = 0
    for a in range(n_classes):
        for b in range(a + 1, n_classes):
            product = 0.0
            for j in range(p):
                product += (some[a, j] - some[b, j]) * (other[a, j] - other[b, j])
            # A class without test samples has no mean.
            if not (np.isnan(other[a, 0]) or np.isnan(other[b, 0])):
                sums[pair] += product
                n_added[pair] += 1.0
            pair += 1
