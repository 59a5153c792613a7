"""Linear discriminant analysis: normal densities with one covariance for all classes.

Weights are the inverse of the covariance within classes, times differences of class means. Without shrinkage
that covariance is the total one, which labels have no part in, less one product for each class's mean. So a
sphere and fold is factored once for any number of permutations of the labels, and the means are taken out by
the formula of Sherman, Morrison and Woodbury. Where the result is not well-conditioned, and with shrinkage, each
set of labels is solved by itself, in :mod:`slcluster.kernels.lda_within`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from slcluster.errors import InputError
from slcluster.kernels.answers import check_priors, empty_answers
from slcluster.kernels.cholesky import factor, inverse_trace, solve_factored
from slcluster.kernels.compiling import entry, inner, only_if
from slcluster.kernels.lda_within import LEAST_EIGENVALUE, Rule, scale_and_factor, solve_within
from slcluster.kernels.moments import samples_of
from slcluster.kernels.scatter import joint_scatter, part_moments, shared_parts
from slcluster.kernels.spheres import Spheres
from slcluster.kernels.vectors import fma

__all__ = ["OUTPUTS", "lda"]

#: What it can return.
OUTPUTS = ("confusion", "prediction", "decision", "log_proba")

_EPSILON = np.finfo(np.float64).eps
_SMALLEST = np.finfo(np.float64).smallest_normal


class _Design(NamedTuple):
    """Samples of folds, all int64: one array of each kind, and where each fold or group starts in it."""

    trained: np.ndarray
    train_edges: np.ndarray
    tested: np.ndarray
    test_edges: np.ndarray
    members: np.ndarray
    member_edges: np.ndarray
    in_fold: np.ndarray


class _Answers(NamedTuple):
    """Outputs of :mod:`slcluster.kernels`; without centers where nobody asked."""

    confusion: np.ndarray
    prediction: np.ndarray
    decision: np.ndarray
    log_proba: np.ndarray


def lda(
    bold: np.ndarray,
    targets: np.ndarray,
    train: Sequence[np.ndarray],
    test: Sequence[np.ndarray],
    spheres: Spheres,
    *,
    outputs: Sequence[str],
    n_classes: int,
    solver: str = "svd",
    shrinkage: float | str | None = None,
    priors: Sequence[float] | None = None,
    tol: float = 1e-4,
) -> dict[str, np.ndarray]:
    """Fit and test linear discriminants in every sphere and fold; see :mod:`slcluster.kernels`.

    Equal to scikit-learn's ``LinearDiscriminantAnalysis`` given float64, where its answer is defined. Where
    it is not: a covariance that is singular without shrinkage has its pseudo-inverse with ``lsqr``, and with
    ``eigen`` too, for which scikit-learn refuses; with voxels that are all constant, which its ``svd`` refuses,
    the priors decide.

    Parameters
    ----------
    bold, targets, train, test, spheres
        See :mod:`slcluster.kernels`.
    outputs : sequence of str
        Of ``confusion``, ``prediction``, ``decision`` and ``log_proba``; the last with scikit-learn's
        rounding, which ends at the logarithm of the smallest normal number.
    n_classes : int
    solver : {"svd", "lsqr", "eigen"}
        What decides over directions without variance within classes. ``svd`` leaves out those whose singular
        values, of voxels scaled by their deviation within classes, are not above ``tol``. The others differ
        from each other in no answer, and from ``svd`` in ``decision`` of three classes and more, which is of
        samples as they are, not less their mean.
    shrinkage : None, "auto" or float from 0 to 1
        Not with ``svd``. Part of each class's covariance that is replaced by its mean variance; ``"auto"`` as
        Ledoit & Wolf (2004, *Journal of Multivariate Analysis* 88:365) choose for each class by itself, of
        voxels scaled by their deviation.
    priors : sequence of float, shape (n_classes,), optional
        Probabilities of the classes; without, their shares of the training samples. With ``lsqr`` and
        ``eigen`` they also weigh the classes' covariances.
    tol : float
        See ``solver``.

    Returns
    -------
    dict
        The outputs asked for.

    Raises
    ------
    InputError
        ``priors`` that are no probabilities of ``n_classes`` classes, or a solver or shrinkage not of these.

    Examples
    --------
    >>> y = np.tile([0, 1], 10)
    >>> bold = np.random.default_rng(0).normal(size=(3, 20)) + 5 * y
    >>> fold = (np.arange(10),), (np.arange(10, 20),)
    >>> sphere = Spheres(np.array([0, 3]), np.arange(3))
    >>> lda(bold, y[None], *fold, sphere, outputs=["confusion"], n_classes=2)["confusion"][0, 0, 0].tolist()
    [[5, 0], [0, 5]]
    """
    rule = _rule(solver, shrinkage, priors, tol, n_classes)
    rule = rule._replace(is_absolute=not rule.is_svd and n_classes > 2 and "decision" in outputs)
    design = _Design(*samples_of(train), *samples_of(test), *shared_parts(train, bold.shape[1]))
    shape = len(spheres.indptr) - 1, len(targets)
    found = empty_answers(outputs, OUTPUTS, shape, len(test), len(design.tested), n_classes)
    indptr, indices = (np.asarray(part, np.int64) for part in spheres)
    codes = np.ascontiguousarray(targets, np.int64)
    levels, answers = _levels(bold), _Answers(**found)
    is_left = _likely_left(spheres.sizes(), min(map(len, train)), rule)
    arguments = bold, levels, indptr, indices, codes, design, rule, answers, is_left
    wanted = only_if(n_classes == 2), only_if(n_classes > 2)
    _some_spheres(np.flatnonzero(~is_left), *arguments, *wanted, None)
    left = np.flatnonzero(is_left)
    if len(left):
        if "confusion" in outputs:
            found["confusion"][left] = 0
        _some_spheres(left, *arguments, *wanted, True)
    return {name: found[name] for name in outputs}


def _likely_left(sizes: np.ndarray, n_train: int, rule: Rule) -> np.ndarray:
    """Spheres that are not even tried by one factor of the total, as most would turn out to need more.

    What they are answered with does not depend on it: who wants the rest tries the factor first as well.
    """
    is_shared = rule.shrinkage == 0.0 and (rule.is_svd or not len(rule.priors))
    return (sizes > n_train // 2) | (not is_shared)


def _rule(solver: str, shrinkage: Any, priors: Sequence[float] | None, tol: float, n_classes: int) -> Rule:
    if solver not in ("svd", "lsqr", "eigen"):
        raise InputError(f"solver must be 'svd', 'lsqr' or 'eigen', got {solver!r}")
    if solver == "svd" and shrinkage is not None:
        raise InputError(f"solver='svd' has no shrinkage, got {shrinkage!r}; pass solver='lsqr' or 'eigen'")
    is_number = not isinstance(shrinkage, str) and shrinkage is not None
    if (is_number and not 0 <= shrinkage <= 1) or (isinstance(shrinkage, str) and shrinkage != "auto"):
        raise InputError(f"shrinkage must be None, 'auto' or a number from 0 to 1, got {shrinkage!r}")
    if not tol >= 0:
        raise InputError(f"tol must be zero or positive, got {tol}")
    share = -1.0 if shrinkage == "auto" else float(shrinkage or 0.0)
    given = np.empty(0) if priors is None else check_priors(priors, n_classes)
    return Rule(n_classes, solver == "svd", share, float(tol), given, False)


@entry
def _levels(bold):
    """Mean of every voxel; of a constant one, its very value."""
    levels = np.empty(len(bold))
    for voxel in range(len(bold)):
        row, total = bold[voxel], 0.0
        first = np.float64(row[0])
        for i in range(len(row)):
            total += row[i] - first
        levels[voxel] = first + total / len(row)
    return levels


@entry
def _some_spheres(
    centers, bold, levels, indptr, indices, targets, design, rule, answers, is_left, two, many, rest
):
    """Answers for these centers, of ``two`` classes or ``many``.

    Without ``rest`` those that one factor of the total cannot answer are noted in ``is_left``. What is not wanted is
    not compiled (:mod:`slcluster.kernels.compiling`).
    """
    is_shared = rule.shrinkage == 0.0 and (rule.is_svd or len(rule.priors) == 0)
    for center in centers:
        is_left[center] = False
        columns = indices[indptr[center] : indptr[center + 1]]
        if len(columns) == 0:
            continue
        rows, across, own_levels, negligible = _samples_of_sphere(bold, levels, columns, design.tested)
        parts = part_moments(
            rows, design.members, design.member_edges if is_shared else np.zeros(1, np.int64)
        )
        for fold in range(len(design.test_edges) - 1):
            chosen = design.trained[design.train_edges[fold] : design.train_edges[fold + 1]]
            total = _total(parts, design.in_fold[fold], len(columns), negligible)
            start, stop = design.test_edges[fold], design.test_edges[fold + 1]
            for permutation in range(len(targets)):
                if is_left[center]:
                    continue
                y = targets[permutation]
                part = across[:, start:stop]
                counts, means = _class_means(rows, chosen, y, rule.n_classes)
                classes = counts, means, _priors(rule, counts)
                scores, common = np.empty((0, 0)), np.zeros(stop - start)
                if two is not None:
                    scores = _score_two(
                        rows, part, chosen, y, classes, total, own_levels, negligible, rule, rest
                    )
                if many is not None:
                    scores = _score_many(
                        rows, part, chosen, y, classes, total, own_levels, negligible, rule, rest, common
                    )
                if len(scores) == 0:
                    is_left[center] = True
                    continue
                _note(
                    scores, common, y, design.tested[start:stop], start, (center, permutation, fold), answers
                )


@inner
def _samples_of_sphere(bold, levels, columns, tested):
    """Samples x voxels less the voxels' levels; voxels x test samples; levels; variances that rounding makes."""
    n_samples, size = bold.shape[1], len(columns)
    rows, across = np.empty((n_samples, size)), np.empty((size, len(tested)))
    own_levels, negligible = np.empty(size), np.empty(size)
    for j in range(size):
        source, level, largest = bold[columns[j]], levels[columns[j]], 0.0
        own_levels[j] = level
        for i in range(n_samples):
            rows[i, j] = source[i] - level
            if abs(rows[i, j]) > largest:
                largest = abs(rows[i, j])
        for i in range(len(tested)):
            across[j, i] = source[tested[i]] - level
        negligible[j] = (n_samples * _EPSILON * largest) ** 2
    return rows, across, own_levels, negligible


@inner
def _total(parts, is_in, size, negligible):
    """Mean of a training part, its correlation matrix as :func:`scale_and_factor` has it, and the bound."""
    mean, matrix, scale = np.zeros(size), np.zeros((size, size)), np.zeros(size)
    counts, means, scatters = parts
    if len(counts) == 0:
        return mean, matrix, scale, 0.0
    n = joint_scatter(counts, means, scatters, is_in, mean, matrix)
    for j in range(size):
        for k in range(j, size):
            matrix[j, k] /= n
    return mean, matrix, scale, scale_and_factor(matrix, negligible, scale)


@inner
def _priors(rule, counts):
    """Probabilities of the classes: as they were given, else their shares of the training samples."""
    priors, n = np.empty(len(counts)), _sum(counts)
    for k in range(len(counts)):
        priors[k] = rule.priors[k] if len(rule.priors) else counts[k] / n
    return priors


@inner
def _score_two(rows, across, chosen, y, classes, total, levels, negligible, rule, rest):
    """Scores of test samples (columns), of the second class over the first. None where they need the rest, unwanted."""
    counts, means, priors = classes
    size = rows.shape[1]
    right, middle, offsets = np.empty((1, size)), np.empty(size), np.empty(1)
    for j in range(size):
        right[0, j] = means[1, j] - means[0, j]
        middle[j] = means[0, j] + means[1, j]
    if rule.is_svd and (priors[0] == 0.0 or priors[1] == 0.0):
        right[:] = 0.0  # the means' directions count by their priors, and the other is the reference
    elif not _solve_two(total, counts, rule, right[0]):
        if rest is None:
            return np.empty((0, 0))
        solve_within(rows, chosen, y, counts, means, priors, levels, negligible, rule, right)
    offsets[0] = np.log(priors[1]) - np.log(priors[0]) - 0.5 * _dot(right[0], middle)
    return _combine(right, offsets, across)


@inner
def _score_many(rows, across, chosen, y, classes, total, levels, negligible, rule, rest, common):
    """The same of each of several classes.

    Replaces ``common`` by what the decisions have in common, for those who want them of samples as they are.
    """
    counts, means, priors = classes
    n_classes, size = means.shape
    reference = np.zeros(size)
    for k in range(n_classes):
        for j in range(size):
            reference[j] += priors[k] * means[k, j]
    away, absolute = np.empty((n_classes, size)), np.empty(size)
    right = np.empty((n_classes + rule.is_absolute, size))
    for j in range(size):
        absolute[j] = reference[j] + levels[j]
        for k in range(n_classes):
            away[k, j] = means[k, j] - reference[j]
            right[k, j] = away[k, j]
        if rule.is_absolute:
            right[-1, j] = absolute[j]
    if not _solve_many(total, counts, means, rule, right):
        if rest is None:
            return np.empty((0, 0))
        solve_within(rows, chosen, y, counts, means, priors, levels, negligible, rule, right)
    if rule.is_absolute:
        half = np.empty(1)
        half[0] = 0.5 * _dot(right[-1], absolute) - _dot(right[-1], reference)
        shared = _combine(right[-1:], half, across)
        for i in range(len(common)):
            common[i] = shared[0, i]
    weights = right[:n_classes]
    offsets = _offsets(weights, away, priors, rule, rest)
    if len(offsets) == 0:
        return np.empty((0, 0))
    for k in range(n_classes):
        offsets[k] = offsets[k] + np.log(priors[k]) - _dot(weights[k], reference)
    return _combine(weights, offsets, across)


@inner
def _class_means(rows, chosen, y, n_classes):
    """Training samples of each class, and their means."""
    size = rows.shape[1]
    counts, means = np.zeros(n_classes), np.zeros((n_classes, size))
    for i in chosen:
        row, total = rows[i], means[y[i]]
        counts[y[i]] += 1.0
        for j in range(size):
            total[j] += row[j]
    for k in range(n_classes):
        for j in range(size):
            means[k, j] /= counts[k]
    return counts, means


@inner
def _sum(values):
    """What numba makes of ``values.sum()`` takes four times as long to compile."""
    total = 0.0
    for k in range(len(values)):
        total += values[k]
    return total


@inner
def _dot(a, b):
    total = 0.0
    for j in range(len(a)):
        total = fma(a[j], b[j], total)
    return total


@inner
def _combine(weights, offsets, across):
    """``weights @ across`` plus an offset a row; loops run along samples, of which there are many."""
    found = np.empty((len(weights), across.shape[1]))
    for k in range(len(weights)):
        into = found[k]
        into[:] = offsets[k]
        for j in range(len(across)):
            a, row = weights[k, j], across[j]
            for i in range(len(into)):
                into[i] = fma(a, row[i], into[i])
    return found


# --- one factor of the total for all labels


@inner
def _least_allowed(rule):
    return max(LEAST_EIGENVALUE, 4.0 * rule.tol * rule.tol) if rule.is_svd else LEAST_EIGENVALUE


@inner
def _solve_two(total, counts, rule, right):
    """Replace the difference of two means by the inverse within classes times it; False if ill-conditioned."""
    _, matrix, scale, least = total
    if not least > _least_allowed(rule):
        return False
    size = len(right)
    solved = np.empty(size)
    for j in range(size):
        solved[j] = right[j] * scale[j]
    solve_factored(matrix, solved, size)
    for j in range(size):
        solved[j] *= scale[j]
    # The total less share * difference * difference.T; its determinant is less by this factor.
    share = counts[0] * counts[1] / (counts[0] + counts[1]) ** 2
    left = 1.0 - share * _dot(right, solved)
    if not left * least > _least_allowed(rule):
        return False
    for j in range(size):
        right[j] = solved[j] / left
    return True


@inner
def _solve_many(total, counts, means, rule, right):
    """The same for rows of ``right``, whatever they are."""
    middle, matrix, scale, least = total
    if not least > _least_allowed(rule):
        return False
    n_classes, size = means.shape
    # The total less the outer products of these.
    taken = np.empty((n_classes, size))
    for k in range(n_classes):
        share = np.sqrt(counts[k] / _sum(counts))
        for j in range(size):
            taken[k, j] = share * (means[k, j] - middle[j])
    solved = _solve_total(matrix, scale, taken)
    left = np.eye(n_classes)
    for k in range(n_classes):
        for m in range(k, n_classes):
            left[k, m] -= _dot(taken[k], solved[m])
    if not factor(left, n_classes):
        return False
    if not least / inverse_trace(left, n_classes) > _least_allowed(rule):
        return False
    parts = np.empty(n_classes)
    found = _solve_total(matrix, scale, right)
    for number in range(len(right)):
        for k in range(n_classes):
            parts[k] = _dot(solved[k], right[number])
        solve_factored(left, parts, n_classes)
        into = right[number]
        for j in range(size):
            into[j] = found[number, j]
        for k in range(n_classes):
            for j in range(size):
                into[j] += parts[k] * solved[k, j]
    return True


@inner
def _solve_total(matrix, scale, right):
    found = np.empty_like(right)
    for number in range(len(found)):
        row, size = found[number], len(scale)
        for j in range(size):
            row[j] = right[number, j] * scale[j]
        solve_factored(matrix, row, size)
        for j in range(size):
            row[j] *= scale[j]
    return found


# --- several classes


@inner
def _offsets(weights, away, priors, rule, rest):
    """Minus half of each class's squared length; ``away`` are class means less the reference.

    scikit-learn's ``svd`` then keeps only directions in which the means, weighted by their priors, lie apart by
    more than ``tol`` of the largest such distance. It may be all that there are; else weights are changed.
    """
    n_classes = len(weights)
    lengths = np.empty((n_classes, n_classes))
    for k in range(n_classes):
        for m in range(n_classes):
            lengths[k, m] = _dot(weights[k], away[m])
    roots = np.sqrt(priors)
    if rule.is_svd and not _keeps_all(lengths, roots, rule.tol):
        if rest is None:
            return np.empty(0)
        kept = _kept_directions(lengths, roots, rule.tol)
        np.dot(kept, weights.copy(), weights)
        lengths = np.dot(kept, lengths)
    halves = np.empty(n_classes)
    for k in range(n_classes):
        halves[k] = -0.5 * lengths[k, k]
    return halves


@inner
def _weighted(lengths, roots):
    """Inner products of the means' directions, weighted by their priors."""
    weighted = np.empty_like(lengths)
    for k in range(len(roots)):
        for m in range(len(roots)):
            weighted[k, m] = roots[k] * 0.5 * (lengths[k, m] + lengths[m, k]) * roots[m]
    return weighted


@inner
def _keeps_all(lengths, roots, tol):
    """Whether no direction is left out; False also where a factor cannot tell."""
    filled, least = _weighted(lengths, roots), 4.0 * tol * tol
    # One direction is no distance: the means' mean is the reference. Filled up, the rest is definite.
    bound = np.trace(filled)
    for k in range(len(roots)):
        for m in range(len(roots)):
            filled[k, m] += bound * roots[k] * roots[m]
        filled[k, k] -= bound * least
    return least < 1.0 and factor(filled, len(roots))


@inner
def _kept_directions(lengths, roots, tol):
    """What is to be multiplied with weights and lengths."""
    n_classes = len(roots)
    values, directions = np.linalg.eigh(_weighted(lengths, roots))
    kept = np.zeros((n_classes, n_classes))
    for r in range(n_classes):
        if values[r] > tol * tol * values[-1]:
            one = directions[:, r] * roots
            for k in range(n_classes):
                for m in range(n_classes):
                    kept[k, m] += one[k] * one[m] / values[r]
    return np.dot(lengths, kept)


# --- answers


@inner
def _note(scores, common, y, tested, start, place, answers):
    """Write the answers for the test samples of one fold."""
    center, permutation, fold = place
    for i in range(len(tested)):
        best = 0
        if len(scores) == 1:
            best = 1 if scores[0, i] > 0.0 else 0
        for k in range(1, len(scores)):
            if scores[k, i] > scores[best, i]:
                best = k
        if len(answers.confusion):
            answers.confusion[center, permutation, fold, y[tested[i]], best] += 1
        if len(answers.prediction):
            answers.prediction[center, permutation, start + i] = best
        if len(answers.decision):
            for k in range(len(scores)):
                answers.decision[center, permutation, start + i, k] = scores[k, i] + common[i]
        if len(answers.log_proba):
            into = answers.log_proba[center, permutation, start + i]
            if len(scores) == 1:
                into[1] = 1.0 / (1.0 + np.exp(-scores[0, i]))
                into[0] = 1.0 - into[1]
            else:
                for k in range(len(scores)):
                    into[k] = np.exp(scores[k, i] - scores[best, i])
                total = _sum(into)
                for k in range(len(into)):
                    into[k] /= total
            for k in range(len(into)):
                into[k] = np.log(into[k] if into[k] != 0.0 else _SMALLEST)
