"""The linear support vector machine with squared hinge loss, at its optimum.

The problem is that of scikit-learn's ``LinearSVC`` with its defaults: minimise

    0.5 (|w|² + b²) + C Σ cᵢ max(0, 1 - yᵢ (w·xᵢ + s b))²

where the intercept is a further feature of value s (``intercept_scaling``) and is regularised as such. It is
strictly convex and piecewise quadratic, so that a Newton method on the set of samples inside the margin ends
after a few steps at the optimum itself (Keerthi & DeCoste 2005, *JMLR* 6:341; Chapelle 2007, *Neural
Computation* 19:1155): within a set it solves one linear system, and where the solution leaves the set
unchanged it is the optimum. Where steps overshoot, a smaller C makes the problem easier, and its optimum is followed
up to the C asked for, with an exact line search where even that overshoots (:mod:`slcluster.kernels.margins`).

With fewer voxels than training samples the system is of the weights (primal), updated by the samples that
enter or leave the set; otherwise of the samples' coefficients (dual), from inner products computed once a
sphere. The arithmetic is about the mean, the problem is not
(:mod:`slcluster.kernels.centring`). Where one of the two does not end at an optimum, or has not the digits to tell, as
with a C that is large for the scale of the voxels, the other tries. Each fold starts from the optimum of the fold before, of the same sphere and
the same targets; nothing is carried from sphere to sphere.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from slcluster.kernels.centring import as_rows, centred, regulariser
from slcluster.kernels.compiling import entry, only_if
from slcluster.kernels.confusion import count_confusion
from slcluster.kernels.folds import as_masks
from slcluster.kernels.moments import samples_of
from slcluster.kernels.spheres import Spheres
from slcluster.kernels.svm_dual import fit_dual, inner_products
from slcluster.kernels.svm_primal import fit_primal, start

__all__ = ["squared_hinge_svm"]

#: The dual where the unknowns of the primal are more than this part of the training samples (measured).
_DUAL_FROM = 0.5


def squared_hinge_svm(
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
    intercept_scaling: float = 1.0,
) -> dict[str, np.ndarray]:
    """Fit and test the squared-hinge SVM in every sphere and fold; see :mod:`slcluster.kernels`.

    Parameters
    ----------
    bold, targets, train, test, spheres
        See :mod:`slcluster.kernels`.
    outputs : sequence of str
        Of ``confusion``, ``prediction``, ``decision`` and ``n_unconverged``.
    n_classes : int
        Two classes are one problem; of more, each is told from the rest and the largest decision wins, the
        first of equal ones, as in scikit-learn.
    c : float
    class_weight : None, "balanced", or array of float (n_classes,)
        Factor on ``c`` of the samples of a class. With more than two classes it weighs a class where it is
        told from the rest, and the rest not at all: liblinear's rule.
    fit_intercept : bool
    intercept_scaling : float

    Returns
    -------
    dict
        The outputs asked for.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> y = np.tile([0, 1], 10)
    >>> bold = rng.normal(size=(3, 20)) + 5 * y
    >>> fold = (np.arange(10),), (np.arange(10, 20),)
    >>> sphere = Spheres(np.array([0, 3]), np.arange(3))
    >>> found = squared_hinge_svm(bold, y[None], *fold, sphere, outputs=["confusion"], n_classes=2)
    >>> found["confusion"][0, 0, 0].tolist()
    [[5, 0], [0, 5]]
    """
    n_samples = bold.shape[1]
    in_train = as_masks(train, n_samples)
    tested, edges = samples_of(test)
    n_problems = 1 if n_classes == 2 else n_classes
    targets = np.ascontiguousarray(targets, np.int64)
    costs = _costs(targets, in_train, n_classes, class_weight) * c
    n_centers = len(spheres.indptr) - 1
    decision = np.full((n_centers, len(targets), len(tested), n_problems), np.nan)
    # Without intercept there is nothing that could take the means up.
    means = bold.mean(axis=1, dtype=np.float64) if fit_intercept else np.zeros(len(bold))
    n_unconverged = np.zeros((n_centers, len(targets), len(train)), np.int32)
    arguments = (
        bold,
        means,
        np.asarray(spheres.indptr, np.int64),
        np.asarray(spheres.indices, np.int64),
        targets,
        in_train,
        tested,
        edges,
        costs,
        float(intercept_scaling) if fit_intercept else 0.0,
        decision,
        n_unconverged,
    )

    def fit(centers: np.ndarray, *, by_dual: bool) -> np.ndarray:
        """Those of the centers that one way did not bring to the optimum. Compiled only where some sphere takes it."""
        if len(centers):
            _some_spheres(centers, *arguments, only_if(not by_dual), only_if(by_dual))
        return centers[n_unconverged[centers].any(axis=(1, 2))]

    n_train = min(map(len, train))
    is_dual = spheres.sizes() + 1 > _DUAL_FROM * n_train
    left_by_primal = fit(np.flatnonzero(~is_dual), by_dual=False)
    left_by_dual = fit(np.flatnonzero(is_dual), by_dual=True)
    fit(left_by_primal, by_dual=True)
    # With more voxels than samples, coefficients are all that there is to know.
    fit(left_by_dual[spheres.sizes()[left_by_dual] < n_train], by_dual=False)
    is_empty = spheres.sizes() == 0
    prediction = (decision[..., 0] > 0).astype(np.int64) if n_problems == 1 else decision.argmax(axis=-1)
    prediction[is_empty] = -1
    found = {"decision": decision, "prediction": prediction, "n_unconverged": n_unconverged}
    if "confusion" in outputs:
        found["confusion"] = count_confusion(prediction, targets, tested, edges, n_classes)
    return {name: found[name] for name in outputs}


def _costs(targets: np.ndarray, in_train: np.ndarray, n_classes: int, class_weight: Any) -> np.ndarray:
    """Factor on C of a problem's own class and of the rest: (n_permutations, n_folds, n_problems, 2)."""
    n_problems = 1 if n_classes == 2 else n_classes
    shape = (len(targets), len(in_train), n_problems, 2)
    if class_weight is None:
        return np.ones(shape)
    if isinstance(class_weight, str):
        counts = np.stack([(targets == k).astype(np.int64) @ in_train.T for k in range(n_classes)], axis=-1)
        weights = counts.sum(axis=-1, keepdims=True) / (n_classes * counts)
    else:
        weights = np.broadcast_to(np.asarray(class_weight, np.float64), (*shape[:2], n_classes))
    if n_classes == 2:
        return weights[..., None, ::-1].copy()
    return np.stack([weights, np.ones_like(weights)], axis=-1)


@entry
def _some_spheres(
    centers,
    bold,
    means,
    indptr,
    indices,
    targets,
    in_train,
    tested,
    edges,
    costs,
    scaling,
    decision,
    n_unconverged,
    primal,
    dual,
):
    """Decisions of these centers, in the one way that is wanted: see :mod:`slcluster.kernels.compiling`."""
    n_samples, n_folds, n_problems = bold.shape[1], len(edges) - 1, decision.shape[3]
    y, cost, work = np.empty(n_samples), np.empty(n_samples), np.empty((n_samples, n_samples))
    # The dual's guess of the set inside the margin: that of the sphere before.
    guess = np.empty((len(targets), n_problems, n_folds, n_samples), np.bool_)
    guess[:] = True
    for center in centers:
        columns = indices[indptr[center] : indptr[center + 1]]
        if len(columns) == 0:
            continue
        x, mean = centred(bold, means, columns)
        size = 1
        if primal is not None:
            rows = as_rows(x, scaling > 0.0)
            size = rows.shape[1]
            penalty = np.empty((size, size))
            regulariser(penalty, mean, scaling)
        if dual is not None:
            gram, edge, kappa = inner_products(x, mean, scaling)
        n_unconverged[center] = 0
        for permutation in range(len(targets)):
            for problem in range(n_problems):
                own = 1 if n_problems == 1 else problem
                matrix, right = np.empty((size, size)), np.empty(size)
                inside = np.zeros(n_samples, np.bool_)
                f, v = np.zeros(n_samples), np.zeros(len(columns) + 1)
                weights = np.empty(2)
                weights[:] = np.nan
                for fold in range(n_folds):
                    new_weights = costs[permutation, fold, problem]
                    if new_weights[0] != weights[0] or new_weights[1] != weights[1]:
                        weights = new_weights
                        for i in range(n_samples):
                            is_own = targets[permutation, i] == own
                            y[i] = 1.0 if is_own else -1.0
                            cost[i] = 2.0 * (weights[0] if is_own else weights[1])
                        if primal is not None:
                            start(matrix, right, inside, mean, scaling)
                    is_optimum = False
                    if primal is not None:
                        is_optimum = fit_primal(
                            x,
                            rows,
                            mean,
                            scaling,
                            y,
                            cost,
                            in_train[fold],
                            penalty,
                            matrix,
                            right,
                            inside,
                            f,
                            v,
                        )
                    if dual is not None:
                        guessed = guess[permutation, problem, fold]
                        for _ in range(2):
                            if (
                                not is_optimum
                            ):  # again from all samples, so that the end depends on no other sphere
                                is_optimum = fit_dual(
                                    gram, edge, kappa, y, cost, in_train[fold], guessed, f, work
                                )
                            if not is_optimum:
                                guessed[:] = True
                    if not is_optimum:
                        n_unconverged[center, permutation, fold] = 1
                    for k in range(edges[fold], edges[fold + 1]):
                        decision[center, permutation, k, problem] = f[tested[k]]
