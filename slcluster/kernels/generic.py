"""The slow twin of every engine: any scikit-learn estimator, one sphere after the other."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning

from slcluster.kernels.spheres import Spheres

__all__ = ["SphereFailure", "cross_validate", "measure_spheres"]


class SphereFailure(Exception):
    """An estimator, scorer or measure raised. ``center`` is the sphere's row; the original error is the cause."""

    def __init__(self, center: int, fold: int | None) -> None:
        super().__init__(center, fold)
        self.center = center
        self.fold = fold


def cross_validate(
    bold: np.ndarray,
    targets: np.ndarray,
    train: Sequence[np.ndarray],
    test: Sequence[np.ndarray],
    spheres: Spheres,
    *,
    outputs: Sequence[str],
    estimator: Any,
    scorer: Callable[[Any, np.ndarray, np.ndarray], Mapping[str, float] | float],
    labels: np.ndarray | None = None,
    min_voxels: int = 1,
    weights: Mapping[str, np.ndarray] | None = None,
) -> dict[str, np.ndarray]:
    """Fit and score a clone of ``estimator`` in every sphere and fold, as ``cross_val_score`` does.

    Parameters
    ----------
    bold, targets, train, test, spheres
        See :mod:`slcluster.kernels`.
    outputs : sequence of str
        Names of the metrics that ``scorer`` returns, in the order wanted.
    estimator : scikit-learn estimator
        Cloned for every fit, never changed.
    scorer : callable
        ``scorer(fitted, X, y)`` gives one number, or a mapping of metric to number.
    labels : array, shape (n_classes,), optional
        What a code in ``targets`` stands for. Estimators and scorers see labels, so that ``class_weight``
        or ``pos_label`` mean what the user wrote.
    min_voxels : int
        A sphere of fewer voxels is not fitted; its scores are NaN.
    weights : mapping of str to array, shape (n_samples,), optional
        Arguments of ``fit`` by name, of which it gets the training samples' part.

    Returns
    -------
    dict
        ``"score"``: float64 (n_centers, n_permutations, n_folds, n_metrics). ``"n_unconverged"``: int32
        (n_centers, n_permutations, n_folds), convergence warnings while fitting.

    Raises
    ------
    SphereFailure
        With the center's row and the fold, caused by the estimator's own error.
    """
    n_centers, n_folds = len(spheres.indptr) - 1, len(train)
    score = np.full((n_centers, len(targets), n_folds, len(outputs)), np.nan)
    n_unconverged = np.zeros(score.shape[:3], np.int32)
    all_y = targets if labels is None else labels[targets]
    for center in range(n_centers):
        columns = spheres.indices[spheres.indptr[center] : spheres.indptr[center + 1]]
        if len(columns) < max(min_voxels, 1):
            continue
        # Samples x voxels in Fortran order: the layout nilearn hands to its estimators. Sums over
        # samples then round alike, which a pipeline with a scaler shows in the last bit.
        x = bold[columns].T
        for permutation, y in enumerate(all_y):
            for fold in range(n_folds):
                try:
                    values, n_warned = _fit_and_score(
                        estimator, scorer, x, y, train[fold], test[fold], weights or {}
                    )
                except Exception as error:
                    raise SphereFailure(center, fold) from error
                score[center, permutation, fold] = (
                    [values[name] for name in outputs] if isinstance(values, Mapping) else values
                )
                n_unconverged[center, permutation, fold] = n_warned
    return {"score": score, "n_unconverged": n_unconverged}


def _fit_and_score(
    estimator: Any,
    scorer: Any,
    x: np.ndarray,
    y: np.ndarray,
    train: np.ndarray,
    test: np.ndarray,
    weights: Mapping[str, np.ndarray],
) -> tuple[Mapping[str, float] | float, int]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ConvergenceWarning)
        mine = {name: values[train] for name, values in weights.items()}
        fitted = clone(estimator).fit(x[train], y[train], **mine)
        values = scorer(fitted, x[test], y[test])
    n_warned = 0
    for warned in caught:
        if issubclass(warned.category, ConvergenceWarning):
            n_warned += 1
        else:  # not ours to swallow
            warnings.warn_explicit(warned.message, warned.category, warned.filename, warned.lineno)
    return values, n_warned


def measure_spheres(
    bold: np.ndarray,
    y: np.ndarray,
    spheres: Spheres,
    values: Callable[[np.ndarray, np.ndarray], np.ndarray],
    n_values: int,
) -> np.ndarray:
    """Call a function of every sphere's samples.

    Parameters
    ----------
    bold, spheres
        See :mod:`slcluster.kernels`.
    y : array, shape (n_samples,)
    values : callable
        ``values(X, y)``, with X samples x voxels, gives ``n_values`` numbers.
    n_values : int

    Returns
    -------
    numpy.ndarray
        float64 (n_centers, n_values), NaN of empty spheres.

    Raises
    ------
    SphereFailure
        With the center's row, caused by the function's own error. Its fold is None.
    """
    found = np.full((len(spheres.indptr) - 1, n_values), np.nan)
    for center in range(len(found)):
        columns = spheres.indices[spheres.indptr[center] : spheres.indptr[center + 1]]
        if len(columns):
            try:
                found[center] = values(bold[columns].T, y)
            except Exception as error:
                raise SphereFailure(center, None) from error
    return found
