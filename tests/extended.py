"""The squared-hinge SVM in extended precision: what iterative solvers approach and do not reach on raw data."""

from __future__ import annotations

import numpy as np
from sklearn.svm import LinearSVC

__all__ = ["converge", "decision_of", "svm_weights"]


def _solve(matrix: np.ndarray, right: np.ndarray) -> np.ndarray:
    """A symmetric system by Cholesky's method; LAPACK has no extended precision."""
    factor, x = matrix.copy(), right.copy()
    for j in range(len(x)):
        factor[j, j:] /= np.sqrt(factor[j, j])
        factor[j + 1 :, j + 1 :] -= np.outer(factor[j, j + 1 :], factor[j, j + 1 :])
    for j in range(len(x)):
        x[j] /= factor[j, j]
        x[j + 1 :] -= factor[j, j + 1 :] * x[j]
    for j in range(len(x))[::-1]:
        x[j] = (x[j] - factor[j, j + 1 :] @ x[j + 1 :]) / factor[j, j]
    return x


def svm_weights(
    x: np.ndarray, y: np.ndarray, inside: np.ndarray, c: float = 1.0
) -> tuple[np.ndarray, np.longdouble]:
    """Weights and intercept that are optimal if just these samples are inside the margin.

    In the unknowns w and t = w·m + b, so that a large mean m costs no digits.
    """
    x = x.astype(np.longdouble)
    mean = x.mean(axis=0)
    z = np.column_stack([x - mean, np.ones(len(x), np.longdouble)])
    shear = np.append(-mean, np.longdouble(1))
    penalty = np.diag(np.append(np.ones(len(mean), np.longdouble), np.longdouble(0))) + np.outer(shear, shear)
    matrix = penalty + 2 * c * z[inside].T @ z[inside]
    found = _solve(matrix, 2 * c * z[inside].T @ y[inside].astype(np.longdouble))
    return found[:-1], found[-1] - found[:-1] @ mean


def decision_of(weights: np.ndarray, intercept: np.longdouble, x: np.ndarray) -> np.ndarray:
    return x.astype(np.longdouble) @ weights + intercept


def converge(fitted: LinearSVC, x: np.ndarray, y: np.ndarray) -> LinearSVC:
    """Bring a fitted SVM to its optimum, by Newton's steps from where liblinear stopped."""
    classes = fitted.classes_[1:] if len(fitted.classes_) == 2 else fitted.classes_
    for row, label in enumerate(classes):
        sign = np.where(y == label, 1.0, -1.0)
        inside = sign * (x @ fitted.coef_[row] + fitted.intercept_[row]) < 1
        for _ in range(100):
            weights, intercept = svm_weights(x, sign, inside, fitted.C)
            now = sign * decision_of(weights, intercept, x) < 1
            if (now == inside).all():
                break
            inside = now
        else:
            raise AssertionError("the set inside the margin does not settle")
        fitted.coef_[row], fitted.intercept_[row] = weights, intercept
    return fitted
