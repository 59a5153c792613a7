"""Representational similarity: how alike a sphere's dissimilarities between classes are to those of models."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.stats import rankdata

from slcluster.errors import InputError
from slcluster.kernels.compiling import entry, inner
from slcluster.kernels.correlation import unit_patterns
from slcluster.kernels.crossnobis import crossnobis
from slcluster.kernels.moments import class_moments, less_first_sample
from slcluster.kernels.noise import (
    INVERSE_SCALES,
    noise_covariance,
    noise_factor,
    parse_shrinkage,
    voxel_scales,
    whiten,
    whiten_symmetrically,
)
from slcluster.kernels.spheres import Spheres

__all__ = ["rsa"]

#: What it can return.
OUTPUTS = ("correlation", "dissimilarity")


def rsa(
    bold: np.ndarray,
    targets: np.ndarray,
    train: Sequence[np.ndarray],
    test: Sequence[np.ndarray],
    spheres: Spheres,
    *,
    n_classes: int,
    models: np.ndarray,
    dissimilarity: str = "correlation",
    shrinkage: str | float | None = None,
    comparison: str = "spearman",
    outputs: Sequence[str] = ("correlation",),
) -> dict[str, np.ndarray]:
    """Correlate each sphere's dissimilarity matrix with model matrices (Kriegeskorte et al. 2008).

    Dissimilarities are between the mean patterns of classes over all samples of ``bold``, whatever the folds:
    1 - Pearson's r over voxels, or the Euclidean distance, as ``scipy.spatial.distance.pdist`` has them. Or
    they are the cross-validated distances of :func:`slcluster.kernels.crossnobis.crossnobis`, over the folds.

    Parameters
    ----------
    bold, targets, train, test, spheres
        See :mod:`slcluster.kernels`.
    n_classes : int
        At least three: with two there is one dissimilarity, and nothing to correlate.
    models : array of float, shape (n_models, n_pairs)
        Dissimilarities expected by each model, pairs in the order (0, 1), (0, 2), ..., (1, 2), ... of
        ``scipy.spatial.distance.squareform``.
    dissimilarity : "correlation", "euclidean" or "crossnobis"
    shrinkage : "auto", float from 0 to 1, "diagonal", "none", optional
        Patterns are first multiplied by the inverse root of this noise covariance (S of
        :mod:`slcluster.kernels.noise`, from all samples; the symmetric root, Walther et al. 2016). Without:
        "auto" for crossnobis distances, "none" for others.
    comparison : "spearman" or "pearson"
        Correlation of ranks, equal values sharing their mean rank, or of values.
    outputs : sequence of str
        Of ``correlation`` and ``dissimilarity``.

    Returns
    -------
    dict
        ``correlation``: float64 (n_centers, n_permutations, n_models). ``dissimilarity``: float64 (n_centers,
        n_permutations, n_pairs). NaN for empty spheres, with a singular noise covariance, where correlation
        distances are undefined (one voxel; a pattern that does not vary over voxels) and, of the correlation,
        where all dissimilarities are equal.

    Raises
    ------
    InputError
        For fewer than three classes, models of another shape, not finite or all of one value, or a name that
        is none of the above.

    References
    ----------
    Kriegeskorte, Mur & Bandettini (2008), *Frontiers in Systems Neuroscience* 2:4. Nili et al. (2014), *PLoS
    Computational Biology* 10:e1003553. Walther et al. (2016), *NeuroImage* 137:188.

    Examples
    --------
    >>> y = np.tile([0, 1, 2], 20)
    >>> bold = np.random.default_rng(0).normal(size=(4, 60)) + 3 * (y == 2)
    >>> sphere = Spheres(np.array([0, 4]), np.arange(4))
    >>> last_differs = np.array([[0.0, 1.0, 1.0]])
    >>> found = rsa(bold, y[None], (), (), sphere, n_classes=3, models=last_differs, dissimilarity="euclidean")
    >>> found["correlation"].round(2).tolist()
    [[[0.87]]]
    """
    known = {"outputs": OUTPUTS, "comparison": ("spearman", "pearson")}
    for name, given in (("outputs", tuple(outputs)), ("comparison", (comparison,))):
        if not set(given) <= set(known[name]):
            raise InputError(f"{name} must be of {', '.join(known[name])}; got {', '.join(map(str, given))}")
    by_rank = comparison == "spearman"
    units = _unit_models(models, n_classes, by_rank)
    if dissimilarity == "crossnobis":
        chosen = "auto" if shrinkage is None else shrinkage
        matrices = crossnobis(bold, targets, train, test, spheres, n_classes=n_classes, shrinkage=chosen)[
            "distance"
        ]
    elif dissimilarity in ("correlation", "euclidean"):
        chosen = "none" if shrinkage is None else shrinkage
        matrices = _dissimilarities(bold, targets, spheres, n_classes, dissimilarity == "correlation", chosen)
    else:
        raise InputError(f"dissimilarity must be correlation, euclidean or crossnobis, got {dissimilarity!r}")
    found = {"dissimilarity": matrices}
    if "correlation" in outputs:
        found["correlation"] = np.full((*matrices.shape[:2], len(units)), np.nan)
        _compare(matrices, units, by_rank, found["correlation"])
    return {name: found[name] for name in outputs}


def _unit_models(models: np.ndarray, n_classes: int, by_rank: bool) -> np.ndarray:
    """Models, or their ranks, about their mean and of length 1."""
    if n_classes < 3:
        raise InputError(f"dissimilarity matrices are compared from three classes on, got {n_classes}")
    models, n_pairs = np.asarray(models, np.float64), n_classes * (n_classes - 1) // 2
    if models.ndim != 2 or models.shape[1] != n_pairs or not np.isfinite(models).all():
        raise InputError(
            f"models must be finite, of shape (n_models, {n_pairs}) for {n_classes} classes, got {models.shape}"
        )
    if (np.ptp(models, axis=1) == 0).any():
        raise InputError("a model has the same dissimilarity for all pairs; nothing correlates with it")
    away = rankdata(models, axis=1) if by_rank else models
    away = away - away.mean(axis=1, keepdims=True)
    return away / np.linalg.norm(away, axis=1, keepdims=True)


def _dissimilarities(
    bold: np.ndarray,
    targets: np.ndarray,
    spheres: Spheres,
    n_classes: int,
    is_correlation: bool,
    shrinkage: str | float,
) -> np.ndarray:
    """Between mean patterns over all samples: (n_centers, n_permutations, n_pairs)."""
    weight = parse_shrinkage(shrinkage)
    centred, first = less_first_sample(bold), np.asarray(bold[:, 0], np.float64)
    n_centers = len(spheres.indptr) - 1
    matrices = np.full((n_centers, len(targets), n_classes * (n_classes - 1) // 2), np.nan)
    for number, y in enumerate(np.asarray(targets, np.int64)):
        moments = class_moments(centred, y, [np.arange(len(y))], n_classes)
        _all_spheres(
            centred,
            y,
            moments.means[0],
            # Differences do not see what is added to a voxel; correlations do.
            first if is_correlation else np.zeros(len(bold)),
            voxel_scales(moments, shrinkage)[0],
            weight,
            is_correlation,
            np.asarray(spheres.indptr, np.int64),
            np.asarray(spheres.indices, np.int64),
            number,
            matrices,
        )
    return matrices


@entry
def _all_spheres(
    centred,
    y,
    means,
    first,
    scales,
    shrinkage,
    is_correlation,
    indptr,
    indices,
    permutation,
    matrices,
):
    n_classes = len(means)
    for center in range(len(indptr) - 1):
        columns = indices[indptr[center] : indptr[center + 1]]
        p = len(columns)
        if p == 0:
            continue
        patterns, matrix = np.empty((n_classes, p)), np.empty((p, p))
        for k in range(n_classes):
            for j in range(p):
                patterns[k, j] = (means[k, columns[j]] + first[columns[j]]) * scales[columns[j]]
        if shrinkage != INVERSE_SCALES:
            samples = np.arange(len(y))
            is_regular = noise_covariance(centred, y, samples, means, columns, shrinkage, matrix)
            if is_regular and is_correlation:
                is_regular = whiten_symmetrically(matrix, patterns)
            elif is_regular:
                is_regular = noise_factor(matrix, np.empty(p))
                whiten(matrix, patterns)
            if not is_regular:
                continue
        if is_correlation:
            patterns = unit_patterns(patterns, np.zeros(p), np.arange(p))
        _pairwise(patterns, is_correlation, matrices[center, permutation])


@inner
def _pairwise(patterns, is_correlation, into):
    """Euclidean distances between patterns; of patterns about their mean and of length 1, 1 - r."""
    n_classes, p = patterns.shape
    pair = 0
    for a in range(n_classes):
        for b in range(a + 1, n_classes):
            square, length, other = 0.0, 0.0, 0.0
            for j in range(p):
                away = patterns[a, j] - patterns[b, j]
                square += away * away
                length += patterns[a, j] * patterns[a, j]
                other += patterns[b, j] * patterns[b, j]
            if not is_correlation:
                into[pair] = np.sqrt(square)
            elif length > 0.0 and other > 0.0:
                # |u - v|² = 2 - 2 u·v without the cancellation.
                into[pair] = 0.5 * square
            pair += 1


@entry
def _compare(matrices, units, by_rank, into):
    """Correlation of each dissimilarity matrix, or its ranks, with each model."""
    n_pairs = matrices.shape[2]
    for center in range(len(matrices)):
        for permutation in range(matrices.shape[1]):
            values = matrices[center, permutation]
            if np.isnan(values).any() or values.min() == values.max():
                continue
            away = _mean_ranks(values) if by_rank else values.copy()
            mean, length = away.sum() / n_pairs, 0.0
            for pair in range(n_pairs):
                away[pair] -= mean
                length += away[pair] * away[pair]
            for model in range(len(units)):
                product = 0.0
                for pair in range(n_pairs):
                    product += away[pair] * units[model, pair]
                into[center, permutation, model] = product / np.sqrt(length)


@inner
def _mean_ranks(values):
    """Ranks from 1; equal values share the mean of theirs."""
    order, ranks = np.argsort(values, kind="mergesort"), np.empty(len(values))
    start = 0
    while start < len(values):
        stop = start + 1
        while stop < len(values) and values[order[stop]] == values[order[start]]:
            stop += 1
        for i in range(start, stop):
            ranks[order[i]] = 0.5 * (start + 1 + stop)
        start = stop
    return ranks
