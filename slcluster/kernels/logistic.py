"""Logistic regression with an L2 penalty, at its optimum, by Newton's method.

Two classes are one problem: minimise

    0.5 |w|² + C Σ cᵢ log(1 + exp(-yᵢ (w·xᵢ + t)))

More are one multinomial problem, in which every class has weights, all of them penalised. Both are
scikit-learn's ``LogisticRegression``, where the intercept is free; its solver ``"liblinear"``, for two classes
only, appends it to the voxels as one more of value s (``intercept_scaling``) and penalises it with the others.

The loss is smooth, and bends no more than its own second derivative where no decision moves by more than one
(Bach 2010, *Electronic Journal of Statistics* 4:384): there a whole Newton step lowers it, farther away the
step ends where the loss along it is least or before. When a step moves no decision by more than 1e-7 the next
would move none by more than rounding.

Arithmetic is centred by each voxel's mean, of which the problem knows nothing (:mod:`slcluster.kernels.centring`).
With more voxels than samples, both are turned into the samples' own coordinates, which changes neither inner
products nor the answer. Each fold starts from the optimum of the fold before, of the same sphere and targets.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from slcluster.kernels.answers import answer, decide, empty_answers, first_largest, normalise
from slcluster.kernels.centring import as_rows, centred, regulariser
from slcluster.kernels.compiling import entry, inner, only_if
from slcluster.kernels.folds import as_masks
from slcluster.kernels.logistic_newton import BLAS_FROM, fit_many, fit_two
from slcluster.kernels.moments import samples_of
from slcluster.kernels.spheres import Spheres
from slcluster.kernels.vectors import dot

__all__ = ["logistic"]

_OUTPUTS = ("confusion", "prediction", "decision", "log_proba")


def logistic(
    bold: np.ndarray,
    targets: np.ndarray,
    train: Sequence[np.ndarray],
    test: Sequence[np.ndarray],
    spheres: Spheres,
    *,
    outputs: Sequence[str],
    n_classes: int,
    c: float = 1.0,
    class_weight: Any = None,
    fit_intercept: bool = True,
    intercept_scaling: float | None = None,
) -> dict[str, np.ndarray]:
    """Fit and test logistic regression in every sphere and fold; see :mod:`slcluster.kernels`.

    Parameters
    ----------
    bold, targets, train, test, spheres
        See :mod:`slcluster.kernels`.
    outputs : sequence of str
        Of ``confusion``, ``prediction``, ``decision``, ``log_proba`` and ``n_unconverged``.
    n_classes : int
    c : float
        Strength of the data against the penalty.
    class_weight : None, "balanced", or array of float (n_classes,)
        Factor on ``c`` of the samples of a class.
    fit_intercept : bool
    intercept_scaling : float, optional
        Value of the voxel that stands for a penalised intercept, for two classes; None leaves it free.

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
    >>> found = logistic(bold, y[None], *fold, sphere, outputs=["confusion"], n_classes=2)
    >>> found["confusion"][0, 0, 0].tolist()
    [[5, 0], [0, 5]]
    """
    assert n_classes == 2 or intercept_scaling is None, "only two classes have a penalised intercept"
    in_train = as_masks(train, bold.shape[1])
    trained, train_edges = samples_of([*map(np.flatnonzero, in_train)])
    tested, edges = samples_of(test)
    targets = np.ascontiguousarray(targets, np.int64)
    shape = len(spheres.indptr) - 1, len(targets)
    answers = [name for name in outputs if name != "n_unconverged"]
    found = empty_answers(answers, _OUTPUTS, shape, len(test), len(tested), n_classes)
    n_unconverged = np.zeros((*shape, len(test)), np.int32)
    scaling = 0.0 if not fit_intercept else -1.0 if intercept_scaling is None else float(intercept_scaling)
    arguments = (
        bold,
        bold.mean(axis=1, dtype=np.float64) if fit_intercept else np.zeros(len(bold)),
        np.asarray(spheres.indptr, np.int64),
        np.asarray(spheres.indices, np.int64),
        targets,
        np.ascontiguousarray(targets[:, tested]),
        trained,
        train_edges,
        tested,
        edges,
        _costs(targets, in_train, n_classes, class_weight) * c,
        scaling,
        n_unconverged,
        *found.values(),
    )
    is_wide = spheres.sizes() + 1 >= min(BLAS_FROM, bold.shape[1])
    for centers, wide in ((np.flatnonzero(~is_wide), None), (np.flatnonzero(is_wide), True)):
        if len(centers):
            _some_spheres(centers, *arguments, only_if(n_classes == 2), only_if(n_classes > 2), wide)
    found["n_unconverged"] = n_unconverged
    return {name: found[name] for name in outputs}


def _costs(targets: np.ndarray, in_train: np.ndarray, n_classes: int, class_weight: Any) -> np.ndarray:
    """Factor on C of each class's samples: (n_permutations, n_folds, K)."""
    shape = (len(targets), len(in_train), n_classes)
    if class_weight is None:
        return np.ones(shape)
    if isinstance(class_weight, str):
        counts = np.stack([(targets == k).astype(np.int64) @ in_train.T for k in range(n_classes)], axis=-1)
        return np.asarray(counts.sum(axis=-1, keepdims=True) / (n_classes * counts))
    return np.broadcast_to(np.asarray(class_weight, np.float64), shape).copy()


@inner
def _coordinates(bold, means, columns, scaling, wide):
    """A sphere's samples x unknowns, and the penalty on the unknowns; the last is the intercept, if there is one."""
    n_samples = bold.shape[1]
    x, mean = centred(bold, means, columns)
    if wide is not None and len(columns) > n_samples + 1:
        # Samples and the vector of means span what weights can be; QR gives them coordinates there.
        both = np.empty((len(columns), n_samples + 1))
        for j in range(len(columns)):
            for i in range(n_samples):
                both[j, i] = x[j, i]
            both[j, n_samples] = mean[j]
        axes, _ = np.linalg.qr(both)
        turned = np.ascontiguousarray(axes.T)
        x, mean = np.dot(turned, x), np.dot(turned, mean)
    rows = as_rows(x, scaling != 0.0)
    penalty = np.empty((rows.shape[1], rows.shape[1]))
    regulariser(penalty, mean, scaling)
    return rows, penalty


@entry
def _some_spheres(
    centers,
    bold,
    means,
    indptr,
    indices,
    targets,
    wanted,
    trained,
    train_edges,
    tested,
    edges,
    costs,
    scaling,
    n_unconverged,
    confusion,
    prediction,
    decision,
    log_proba,
    two,
    many,
    wide,
):
    """Answers for these centers, of ``two`` classes or ``many``, of few voxels or also ``wide``.

    What is not wanted is not compiled (:mod:`slcluster.kernels.compiling`).
    """
    n_permutations, n_folds, n_classes = costs.shape
    n_problems = 1 if n_classes == 2 else n_classes
    # Of two classes, the first scores nothing.
    first = n_classes - n_problems
    scores, best = np.zeros((n_classes, len(tested))), np.empty(len(tested), np.int64)
    for center in centers:
        columns = indices[indptr[center] : indptr[center + 1]]
        if len(columns) == 0:
            continue
        rows, penalty = _coordinates(bold, means, columns, scaling, wide)
        for permutation in range(n_permutations):
            y, weights = targets[permutation], np.zeros((n_problems, rows.shape[1]))
            for fold in range(n_folds):
                chosen = trained[train_edges[fold] : train_edges[fold + 1]]
                cost_of, is_optimum = costs[permutation, fold], False
                if two is not None:
                    is_optimum = fit_two(rows, penalty, y, cost_of, chosen, weights[0], wide)
                if many is not None:
                    is_optimum = fit_many(rows, penalty, y, cost_of, chosen, scaling != 0.0, weights)
                n_unconverged[center, permutation, fold] = not is_optimum
                for i in range(edges[fold], edges[fold + 1]):
                    for k in range(n_problems):
                        scores[first + k, i] = dot(rows[tested[i]], weights[k], 0, rows.shape[1])
            first_largest(scores, best)
            answer(best, wanted[permutation], edges, center, permutation, confusion, prediction)
            if len(decision):
                decide(scores, decision[center, permutation])
            if len(log_proba):
                normalise(scores, best, log_proba[center, permutation])
