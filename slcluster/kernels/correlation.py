"""Correlations of patterns over the voxels of a sphere, as in Haxby et al. (2001): a classifier and a measure."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from slcluster.kernels.answers import answer, decide, empty_answers, first_largest
from slcluster.kernels.compiling import entry, inner
from slcluster.kernels.moments import class_moments, columns_of, less_first_sample, samples_of
from slcluster.kernels.spheres import Spheres

__all__ = ["FLAT", "OUTPUTS", "correlation", "split_half_correlation", "unit_patterns"]

#: What the classifier can return.
OUTPUTS = ("confusion", "prediction", "decision")

#: A pattern whose deviations from its mean over voxels are shorter than this part of itself does not vary.
FLAT = 1e-10

#: Correlations are cut here before Fisher's transform, so that a perfect one (1) stays finite (14.2).
_LARGEST_R = 1.0 - 1e-12


def correlation(
    bold: np.ndarray,
    targets: np.ndarray,
    train: Sequence[np.ndarray],
    test: Sequence[np.ndarray],
    spheres: Spheres,
    *,
    outputs: Sequence[str],
    n_classes: int,
    subtract_mean: bool = False,
) -> dict[str, np.ndarray]:
    """Assign test samples to the class of the most correlated mean pattern; see :mod:`slcluster.kernels`.

    Equal to :class:`slcluster.kernels.twins.CorrelationClassifier`, which defines it.

    Parameters
    ----------
    bold, targets, train, test, spheres
        See :mod:`slcluster.kernels`.
    outputs : sequence of str
        Of ``confusion``, ``prediction`` and ``decision``: the correlations with the classes, of two
        classes the second's less the first's.
    n_classes : int
    subtract_mean : bool
        Subtract the mean over classes of the mean training patterns from everything first.

    Returns
    -------
    dict
        The outputs asked for.

    Examples
    --------
    >>> y = np.tile([0, 1], 10)
    >>> bold = np.random.default_rng(0).normal(size=(3, 20)) + np.outer([5, 0, -5], y)
    >>> fold = (np.arange(10),), (np.arange(10, 20),)
    >>> sphere = Spheres(np.array([0, 3]), np.arange(3))
    >>> found = correlation(bold, y[None], *fold, sphere, outputs=["decision"], n_classes=2)
    >>> found["decision"].shape
    (1, 1, 10, 1)
    """
    tested, edges = samples_of(test)
    n_centers = len(spheres.indptr) - 1
    found = empty_answers(outputs, OUTPUTS, (n_centers, len(targets)), len(test), len(tested), n_classes)
    x = columns_of(np.asarray(bold, np.float64), tested)
    centred, first = less_first_sample(bold), np.asarray(bold[:, 0], np.float64)
    for number, y in enumerate(np.asarray(targets, np.int64)):
        means = class_moments(centred, y, train, n_classes).means + first
        shared = means.mean(axis=1) if subtract_mean else np.zeros((len(train), len(bold)))
        _all_spheres(
            x,
            y[tested],
            edges,
            means,
            shared,
            np.asarray(spheres.indptr, np.int64),
            np.asarray(spheres.indices, np.int64),
            number,
            *found.values(),
        )
    return {name: found[name] for name in outputs}


def split_half_correlation(
    bold: np.ndarray,
    targets: np.ndarray,
    train: Sequence[np.ndarray],
    test: Sequence[np.ndarray],
    spheres: Spheres,
    *,
    n_classes: int,
    subtract_mean: bool = True,
) -> dict[str, np.ndarray]:
    """How much more a class's pattern correlates with itself in other data than with other classes.

    Mean patterns of the classes in the training and in the test part of a fold are correlated over the
    voxels of each sphere, and the correlations transformed by Fisher's z = artanh r. The measure of Haxby et al.
    (2001, *Science* 293:2425) is the mean z within classes less the mean z between classes, in both directions;
    there the parts were odd and even runs. Without any effect its expectation is zero.

    Parameters
    ----------
    bold, targets, train, test, spheres
        See :mod:`slcluster.kernels`.
    n_classes : int
    subtract_mean : bool
        Subtract from each part's patterns their mean over classes first, as Haxby et al. did.

    Returns
    -------
    dict
        ``within``, ``between`` and ``difference``: float64 (n_centers, n_permutations, n_folds). NaN in
        spheres of fewer than three voxels, where any two patterns correlate by 1 or -1; where a pattern does
        not vary over voxels; and where a class has no test sample.

    Examples
    --------
    >>> y = np.tile([0, 1], 10)
    >>> bold = np.random.default_rng(0).normal(size=(5, 20)) + np.outer([5, 1, 0, 1, -5], y)
    >>> halves = (np.arange(10),), (np.arange(10, 20),)
    >>> sphere = Spheres(np.array([0, 5]), np.arange(5))
    >>> found = split_half_correlation(bold, y[None], *halves, sphere, n_classes=2)
    >>> found["difference"].item() > 1
    True
    """
    shape = (len(spheres.indptr) - 1, len(targets), len(train))
    found = {name: np.full(shape, np.nan) for name in ("within", "between", "difference")}
    centred, first = less_first_sample(bold), np.asarray(bold[:, 0], np.float64)
    for number, y in enumerate(np.asarray(targets, np.int64)):
        parts = [class_moments(centred, y, part, n_classes).means + first for part in (train, test)]
        if subtract_mean:
            shared = [part.mean(axis=1) for part in parts]
        else:
            shared = [np.zeros((len(train), len(bold)))] * 2
        _compare_halves(
            *parts,
            *shared,
            np.asarray(spheres.indptr, np.int64),
            np.asarray(spheres.indices, np.int64),
            number,
            *found.values(),
        )
    return found


@entry
def _all_spheres(x, y, edges, means, shared, indptr, indices, permutation, confusion, prediction, decision):
    n_classes = means.shape[1]
    r, best = np.empty((n_classes, x.shape[1])), np.empty(x.shape[1], np.int64)
    for center in range(len(indptr) - 1):
        columns = indices[indptr[center] : indptr[center + 1]]
        if len(columns) == 0:
            continue
        for fold in range(len(edges) - 1):
            start, stop = edges[fold], edges[fold + 1]
            units = unit_patterns(means[fold], shared[fold], columns)
            _correlate(x, shared[fold], columns, start, stop, units, r)
        first_largest(r, best)
        answer(best, y, edges, center, permutation, confusion, prediction)
        if len(decision):
            decide(r, decision[center, permutation])


@inner
def unit_patterns(patterns, shared, columns):
    """Patterns (K, n_voxels) over a sphere, centred and of length 1: (K, n_columns). Zero where flat."""
    units = np.empty((len(patterns), len(columns)))
    for k in range(len(patterns)):
        unit, size, total, length = units[k], 0.0, 0.0, 0.0
        for j in range(len(columns)):
            value = patterns[k, columns[j]]
            size += value * value
            unit[j] = value - shared[columns[j]]
            total += unit[j]
        for j in range(len(columns)):
            unit[j] -= total / len(columns)
            length += unit[j] * unit[j]
        is_flat = length <= FLAT * FLAT * size
        scale = 1.0 / np.sqrt(length)
        for j in range(len(columns)):
            unit[j] = 0.0 if is_flat else unit[j] * scale
    return units


@inner
def _correlate(x, shared, columns, start, stop, units, r):
    """Correlation of some samples with each pattern of length 1, to 12 decimals, into r (K, n_samples)."""
    n_classes, n = len(r), stop - start
    mean, size, length, away = np.zeros(n), np.zeros(n), np.zeros(n), np.empty(n)
    for voxel in columns:
        row, offset = x[voxel, start:stop], shared[voxel]
        for i in range(n):
            mean[i] += row[i] - offset
            size[i] += row[i] * row[i]
    mean /= len(columns)
    r[:, start:stop] = 0.0
    for j in range(len(columns)):
        row, offset = x[columns[j], start:stop], shared[columns[j]]
        for i in range(n):
            away[i] = row[i] - offset - mean[i]
            length[i] += away[i] * away[i]
        for k in range(n_classes):
            weight, into = units[k, j], r[k, start:stop]
            for i in range(n):
                into[i] += away[i] * weight
    for i in range(n):
        is_flat = length[i] <= FLAT * FLAT * size[i]
        for k in range(n_classes):
            value = r[k, start + i] / np.sqrt(length[i])
            r[k, start + i] = 0.0 if is_flat else np.rint(value * 1e12) / 1e12


@entry
def _compare_halves(
    first, second, shared, other_shared, indptr, indices, permutation, within, between, difference
):
    n_folds, n_classes = first.shape[:2]
    for center in range(len(indptr) - 1):
        columns = indices[indptr[center] : indptr[center + 1]]
        if len(columns) < 3:
            continue
        for fold in range(n_folds):
            some = unit_patterns(first[fold], shared[fold], columns)
            other = unit_patterns(second[fold], other_shared[fold], columns)
            same, different = 0.0, 0.0
            for a in range(n_classes):
                for b in range(n_classes):
                    z = _fisher_z(some[a], other[b])
                    if a == b:
                        same += z / n_classes
                    else:
                        different += z / (n_classes * (n_classes - 1))
            within[center, permutation, fold] = same
            between[center, permutation, fold] = different
            difference[center, permutation, fold] = same - different


@inner
def _fisher_z(some, other):
    """Of two patterns of length 1 or, NaN then, 0."""
    r, length, other_length = 0.0, 0.0, 0.0
    for j in range(len(some)):
        r += some[j] * other[j]
        length += some[j] * some[j]
        other_length += other[j] * other[j]
    if length == 0.0 or other_length == 0.0:
        return np.nan
    return np.arctanh(min(max(r, -_LARGEST_R), _LARGEST_R))
