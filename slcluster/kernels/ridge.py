"""Ridge regression and the ridge classifier: one factorisation a sphere and fold, for any number of targets.

Held-out predictions are linear in the training targets, so what costs, the factorisation of the regularised
scatter matrix, is shared by all classes and all permutations (Treder 2018, arXiv:1803.10016). Centring by the
training mean makes the intercept exact. With more voxels than training samples the system is that of the
samples' inner products instead.

Where several strengths of the penalty are given, each training part chooses among them by its leave-one-out
error, which needs no refitting: residual over one minus leverage (Golub, Heath & Wahba 1979, *Technometrics*
21:215). This is what scikit-learn's ``RidgeCV`` does, and what nilearn's names ``ridge`` and
``ridge_classifier`` stand for.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from slcluster.kernels.cholesky import add_outer_products, each_once, factor, solve_factored
from slcluster.kernels.compiling import entry, inner, only_if
from slcluster.kernels.confusion import count_confusion
from slcluster.kernels.folds import as_masks
from slcluster.kernels.moments import samples_of
from slcluster.kernels.spheres import Spheres
from slcluster.kernels.vectors import add_multiples

__all__ = ["ridge", "ridge_classifier"]


def ridge(
    bold: np.ndarray,
    targets: np.ndarray,
    train: Sequence[np.ndarray],
    test: Sequence[np.ndarray],
    spheres: Spheres,
    *,
    outputs: Sequence[str],
    alphas: Sequence[float] = (1.0,),
    fit_intercept: bool = True,
) -> dict[str, np.ndarray]:
    """Predict numbers in every sphere and fold; see :mod:`slcluster.kernels`.

    Parameters
    ----------
    bold, targets, train, test, spheres
        See :mod:`slcluster.kernels`; targets are float64.
    outputs : sequence of str
        ``prediction``.
    alphas : sequence of float
        Strengths of the penalty, positive. The first with the least leave-one-out error is taken, for each
        sphere, fold and set of targets by itself.
    fit_intercept : bool

    Returns
    -------
    dict
        ``prediction``: float64 (n_centers, n_permutations, n_tested).

    Examples
    --------
    >>> bold = np.arange(12.0)[None] % 5
    >>> fold = (np.arange(8),), (np.arange(8, 12),)
    >>> sphere = Spheres(np.array([0, 1]), np.array([0]))
    >>> found = ridge(bold, 2 * bold, *fold, sphere, outputs=["prediction"], alphas=[1e-9])
    >>> found["prediction"].round(6).tolist()
    [[[6.0, 8.0, 0.0, 2.0]]]
    """
    targets = np.asarray(targets, np.float64)[:, None]
    prediction = _predict(bold, targets, train, test, spheres, alphas, fit_intercept)
    return {name: {"prediction": prediction[..., 0]}[name] for name in outputs}


def ridge_classifier(
    bold: np.ndarray,
    targets: np.ndarray,
    train: Sequence[np.ndarray],
    test: Sequence[np.ndarray],
    spheres: Spheres,
    *,
    outputs: Sequence[str],
    n_classes: int,
    alphas: Sequence[float] = (1.0,),
    fit_intercept: bool = True,
) -> dict[str, np.ndarray]:
    """Classify by ridge regression on -1 and 1, each class against the rest where there are more than two.

    Parameters
    ----------
    bold, targets, train, test, spheres
        See :mod:`slcluster.kernels`.
    outputs : sequence of str
        Of ``confusion``, ``prediction`` and ``decision``.
    n_classes : int
    alphas, fit_intercept
        As for :func:`ridge`; one strength is chosen for all classes together.

    Returns
    -------
    dict
        The outputs asked for. The class is that of the largest decision, the first of equal ones.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> y = np.tile([0, 1], 10)
    >>> bold = rng.normal(size=(3, 20)) + 5 * y
    >>> fold = (np.arange(10),), (np.arange(10, 20),)
    >>> sphere = Spheres(np.array([0, 3]), np.arange(3))
    >>> found = ridge_classifier(bold, y[None], *fold, sphere, outputs=["confusion"], n_classes=2)
    >>> found["confusion"][0, 0, 0].tolist()
    [[5, 0], [0, 5]]
    """
    targets = np.ascontiguousarray(targets, np.int64)
    own = [1] if n_classes == 2 else list(range(n_classes))
    signs = np.stack([np.where(targets == k, 1.0, -1.0) for k in own], axis=1)
    decision = _predict(bold, signs, train, test, spheres, alphas, fit_intercept)
    prediction = (decision[..., 0] > 0).astype(np.int64) if n_classes == 2 else decision.argmax(axis=-1)
    prediction[spheres.sizes() == 0] = -1
    found = {"decision": decision, "prediction": prediction}
    if "confusion" in outputs:
        found["confusion"] = count_confusion(prediction, targets, *samples_of(test), n_classes)
    return {name: found[name] for name in outputs}


def _predict(
    bold: np.ndarray,
    targets: np.ndarray,
    train: Sequence[np.ndarray],
    test: Sequence[np.ndarray],
    spheres: Spheres,
    alphas: Sequence[float],
    fit_intercept: bool,
) -> np.ndarray:
    """Held-out predictions of (n_permutations, n_columns, n_samples): (n_centers, n_permutations, n_tested, n_columns)."""
    tested, edges = samples_of(test)
    # Of masks: which samples, and not in which order.
    trained, train_edges = samples_of([*map(np.flatnonzero, as_masks(train, bold.shape[1]))])
    n_permutations, n_columns, _ = targets.shape
    found = np.full((len(spheres.indptr) - 1, n_permutations, len(tested), n_columns), np.nan)
    arguments = (
        bold,
        bold.mean(axis=1, dtype=np.float64) if fit_intercept else np.zeros(len(bold)),
        np.asarray(spheres.indptr, np.int64),
        np.asarray(spheres.indices, np.int64),
        np.ascontiguousarray(targets),
        trained,
        train_edges,
        tested,
        edges,
        np.array(alphas, np.float64),
        fit_intercept,
        found,
    )
    n_train, sizes = [*map(len, train)], spheres.sizes()
    is_primal, is_dual = ~_takes_dual(sizes, max(n_train)), _takes_dual(sizes, min(n_train))
    for primal, dual in ((True, False), (False, True), (True, True)):  # the last where folds differ in size
        centers = np.flatnonzero((is_primal == primal) & (is_dual == dual))
        if len(centers):
            _some_spheres(centers, *arguments, only_if(primal), only_if(dual), only_if(len(alphas) > 1))
    return found


def _takes_dual(size: Any, n_train: int) -> Any:
    """Whether inner products of samples are the smaller system."""
    return size + 1 >= n_train


_is_dual = inner(_takes_dual)


@entry
def _some_spheres(
    centers,
    bold,
    means,
    indptr,
    indices,
    targets,
    trained,
    train_edges,
    tested,
    edges,
    alphas,
    fit_intercept,
    found,
    primal,
    dual,
    several,
):
    """Predictions of these centers; what is not wanted is not compiled (:mod:`slcluster.kernels.compiling`)."""
    n_samples = bold.shape[1]
    for center in centers:
        columns = indices[indptr[center] : indptr[center + 1]]
        size = len(columns)
        if size == 0:
            continue
        rows = np.empty((n_samples, size))
        for j in range(size):
            source, mean = bold[columns[j]], means[columns[j]]
            for i in range(n_samples):
                rows[i, j] = source[i] - mean
        for fold in range(len(edges) - 1):
            chosen = trained[train_edges[fold] : train_edges[fold + 1]]
            held_out = tested[edges[fold] : edges[fold + 1]]
            # Training samples first, then those to predict, all less the training mean.
            z = np.empty((len(chosen) + len(held_out), size))
            middle = np.zeros(size)
            if fit_intercept:
                for i in chosen:
                    for j in range(size):
                        middle[j] += rows[i, j]
                for j in range(size):
                    middle[j] /= len(chosen)
            for i in range(len(z)):
                source_row = rows[chosen[i]] if i < len(chosen) else rows[held_out[i - len(chosen)]]
                for j in range(size):
                    z[i, j] = source_row[j] - middle[j]
            _fit_fold(
                z, chosen, targets, alphas, fit_intercept, found[center], edges[fold], primal, dual, several
            )


@inner
def _fit_fold(z, chosen, targets, alphas, fit_intercept, found, first, primal, dual, several):
    """All targets of one fold, the strength of the penalty chosen where there are several."""
    n_train, n_alphas = len(chosen), len(alphas)
    n_permutations, n_columns = targets.shape[0], targets.shape[1]
    predicted = np.zeros((n_alphas, n_permutations, n_columns, len(z)))
    error = np.zeros((n_alphas, n_permutations))
    y = np.empty((n_permutations, n_columns, n_train))
    level = np.zeros((n_permutations, n_columns))
    for permutation in range(n_permutations):
        for column in range(n_columns):
            source, own = targets[permutation, column], y[permutation, column]
            total = 0.0
            for i in range(n_train):
                own[i] = source[chosen[i]]
                total += own[i]
            if fit_intercept:
                level[permutation, column] = total / n_train
                for i in range(n_train):
                    own[i] -= total / n_train
    is_dual = _is_dual(z.shape[1], n_train)
    if dual is not None and is_dual:
        products = np.empty((n_train, len(z)))
        np.dot(z[:n_train], z.T, products)
        for k in range(n_alphas):
            left = _fit_dual(products, y, alphas[k], predicted[k], fit_intercept, several)
            if several is not None:
                _add_errors(error[k], y, predicted[k], left)
    if primal is not None and not is_dual:
        scatter, across, sums = _sums(z, y, n_train)
        for k in range(n_alphas):
            left = _fit_primal(
                scatter, across, sums, n_train, alphas[k], predicted[k], fit_intercept, several
            )
            if several is not None:
                _add_errors(error[k], y, predicted[k], left)
    for permutation in range(n_permutations):
        best = 0
        for k in range(1, n_alphas):
            if error[k, permutation] < error[best, permutation]:
                best = k
        for column in range(n_columns):
            for i in range(n_train, len(z)):
                value = predicted[best, permutation, column, i] + level[permutation, column]
                found[permutation, first + i - n_train, column] = value


@inner
def _add_errors(error, y, predicted, left):
    """Add squared errors of training samples, each as if it had been left out, to those of the permutations."""
    for i in range(len(left)):
        for permutation in range(len(error)):
            for column in range(y.shape[1]):
                residual = y[permutation, column, i] - predicted[permutation, column, i]
                error[permutation] += (residual / left[i]) ** 2


@inner
def _sums(z, y, n_train):
    """Upper triangle of the training part's scatter matrix; all samples as voxels x samples; products with targets."""
    size, n_permutations, n_columns = z.shape[1], y.shape[0], y.shape[1]
    matrix, across = np.zeros((size, size)), np.empty((size, len(z)))
    add_outer_products(matrix, z, *each_once(n_train), n_train, size)
    for i in range(len(z)):
        for j in range(size):
            across[j, i] = z[i, j]
    sums = np.zeros((n_permutations, n_columns, size))
    for permutation in range(n_permutations):
        for column in range(n_columns):
            _add_rows(sums[permutation, column], z, y[permutation, column], n_train)
    return matrix, across, sums


@inner
def _add_rows(total, rows, weights, n_rows):
    """Add ``weights @ rows``, of the first rows, to total."""
    n_fours = n_rows // 4 * 4
    for j in range(0, n_fours, 4):
        four = (rows[j], rows[j + 1], rows[j + 2], rows[j + 3])
        factors = (weights[j], weights[j + 1], weights[j + 2], weights[j + 3])
        add_multiples((total,), four, factors, 0, len(total))
    for j in range(n_fours, n_rows):
        add_multiples((total,), (rows[j],), (weights[j],), 0, len(total))


@inner
def _substitute(upper, rows):
    """Replace rows (unknowns x right sides) by the solution of ``upper.T @ found = rows``."""
    size = len(rows)
    factors = np.empty(size)
    for k in range(size):
        row = rows[k]
        for j in range(k):
            factors[j] = -upper[j, k]
        _add_rows(row, rows, factors, k)
        scale = 1.0 / upper[k, k]
        for i in range(len(row)):
            row[i] *= scale


@inner
def _fit_primal(scatter, across, sums, n_train, alpha, predicted, fit_intercept, several):
    """Predictions of all samples, and of each training sample one minus its leverage.

    ``across`` holds all samples as voxels x samples, ``sums`` the products of the training part with each target.
    Leverages are wanted where the penalty has several strengths to choose from.
    """
    size = len(across)
    work, weights = scatter.copy(), np.empty(size)
    for j in range(size):
        work[j, j] += alpha
    factor(work, size)
    for permutation in range(sums.shape[0]):
        for column in range(sums.shape[1]):
            for j in range(size):
                weights[j] = sums[permutation, column, j]
            solve_factored(work, weights, size)
            _add_rows(predicted[permutation, column], across, weights, size)
    left = np.empty(n_train)
    left[:] = 1.0 - 1.0 / n_train if fit_intercept else 1.0
    if several is not None:
        rows = np.empty((size, n_train))
        for j in range(size):
            for i in range(n_train):
                rows[j, i] = across[j, i]
        _substitute(work, rows)
        for j in range(size):
            for i in range(n_train):
                left[i] -= rows[j, i] * rows[j, i]
    return left


@inner
def _fit_dual(products, y, alpha, predicted, fit_intercept, several):
    """As :func:`_fit_primal`, from inner products of all samples (columns) with those of the training part.

    Centred samples leave the direction of the ones to the penalty alone, and its share would drown the leverages.
    Targets are centred too, so a weight of that direction changes no prediction: it is given that of a sample.
    """
    n_train = y.shape[2]
    work, weights, trace = np.empty((n_train, n_train)), np.empty(n_train), 0.0
    for i in range(n_train):
        trace += products[i, i]
    ones = trace / n_train if fit_intercept else 0.0
    for i in range(n_train):
        for j in range(n_train):
            work[i, j] = products[i, j] + ones
        work[i, i] += alpha
    factor(work, n_train)
    for permutation in range(y.shape[0]):
        for column in range(y.shape[1]):
            for i in range(n_train):
                weights[i] = y[permutation, column, i]
            solve_factored(work, weights, n_train)
            _add_rows(predicted[permutation, column], products, weights, n_train)
    left = np.empty(n_train)
    left[:] = 1.0
    if several is not None:
        # The diagonal of alpha times the inverse: the squares of a column of the factor's inverse.
        inverse, rest = np.zeros((n_train, n_train)), 0.0
        if fit_intercept:
            rest = -alpha / (n_train * (alpha + ones * n_train))
        for i in range(n_train):
            inverse[i, i], left[i] = 1.0, rest
        _substitute(work, inverse)
        for j in range(n_train):
            for i in range(n_train):
                left[i] += alpha * inverse[j, i] * inverse[j, i]
    return left
