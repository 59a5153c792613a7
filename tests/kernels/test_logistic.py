"""Logistic regression against scikit-learn's, run to convergence on the problem about its mean."""

from __future__ import annotations

import warnings
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import KFold, LeaveOneGroupOut, ShuffleSplit

from slcluster.kernels.logistic import logistic
from slcluster.kernels.spheres import Spheres

N_SAMPLES, N_VOXELS = 60, 80
RUNS = np.repeat(np.arange(5), 12)
#: Few voxels, one, more than samples, more than training samples, none, duplicates and constants, a constant.
SPHERES = [np.arange(7), [50], np.arange(N_VOXELS), np.arange(55), [], [1, 2, 3, 70, 71, 72], [73]]
OUTPUTS = ("confusion", "decision", "log_proba", "prediction")


@pytest.fixture(scope="module", params=["standardised", "raw", "large"])
def bold(request: pytest.FixtureRequest) -> np.ndarray:
    z = np.random.default_rng(0).normal(size=(N_VOXELS, N_SAMPLES))
    z[70], z[71] = z[1], z[2]
    z[72] = z[73] = 0.0
    return {
        "standardised": z,
        "raw": (600 + 12 * z).astype(np.float32),
        "large": np.round(20_000 + 150 * z).astype(np.int16).astype(np.float32),
    }[request.param]


def _folds(name: str) -> list[tuple[np.ndarray, np.ndarray]]:
    cv: Any = {
        "k-fold": KFold(4),
        "runs": LeaveOneGroupOut(),
        "shuffled": ShuffleSplit(3, train_size=0.6, test_size=0.2, random_state=0),
    }[name]
    return list(cv.split(np.zeros((N_SAMPLES, 1)), None, RUNS if name == "runs" else None))


def _call(bold: np.ndarray, targets: np.ndarray, folds: Any, some: Any = SPHERES, **params: Any) -> Any:
    spheres = Spheres(np.cumsum([0, *map(len, some)]), np.concatenate(some).astype(np.int64))
    return logistic(bold, targets, [a for a, _ in folds], [b for _, b in folds], spheres, **params)


def _targets(n_classes: int) -> np.ndarray:
    rng = np.random.default_rng(1)
    first = np.concatenate([rng.permutation(np.arange(12) % n_classes) for _ in range(5)])
    return np.stack([first, rng.permutation(first)])


def _twin(x: np.ndarray, y: np.ndarray, train: Any, test: Any, **params: Any) -> np.ndarray:
    """Decisions (n_tested, D) of the twin, converged; a free intercept takes any shift of the voxels up."""
    twin = LogisticRegression(solver="newton-cholesky", tol=1e-12, max_iter=30, **params)
    if params.get("fit_intercept", True):
        x = x - x[train].mean(axis=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # says that it could come no nearer
        return twin.fit(x[train], y[train]).decision_function(x[test]).reshape(len(test), -1)


@pytest.mark.parametrize("n_classes", [2, 8])
@pytest.mark.parametrize("splitter", ["k-fold", "runs", "shuffled"])
def test_scikit_learn(splitter: str, n_classes: int, bold: np.ndarray) -> None:
    targets, folds = _targets(n_classes), _folds(splitter)
    found = _call(bold, targets, folds, outputs=OUTPUTS, n_classes=n_classes)
    for center, columns in enumerate(SPHERES):
        if not len(columns):
            assert np.isnan(found["decision"][center]).all()
            assert (found["prediction"][center] == -1).all()
            continue
        x = bold[np.asarray(columns)].T.astype(np.float64)
        for permutation, y in enumerate(targets):
            expected = np.concatenate([_twin(x, y, a, b) for a, b in folds])
            decision = found["decision"][center, permutation]
            # The twin ends up to 6e-6 from the optimum, as the next test's measure of it says; ours at 1e-11.
            np.testing.assert_allclose(
                decision, expected, rtol=1e-5, atol=1e-5 * max(abs(expected).max(), 1e-3)
            )


def _distance(x: np.ndarray, y: np.ndarray, f: np.ndarray, c: float, s: float | None) -> float:
    """How far decisions f of the training samples are from the optimum: one Newton step on its conditions.

    There the weights are the sum of the samples times c (y - p), with p the probabilities. So f is K c (y - p) + t
    with K the inner products, and the free intercept t is such that the sum of y - p is 0; a penalised one is one
    voxel more of value s. The conditions are evaluated in extended precision: K makes rounding large.
    """
    x, n = x.astype(np.longdouble), len(x)
    x = x - x.mean(axis=0) if s is None else x
    gram = x @ x.T if s is None else x @ x.T + s**2
    wide = (
        np.column_stack([np.zeros(n), f]).astype(np.longdouble)
        if f.shape[1] == 1
        else f.astype(np.longdouble)
    )
    p = np.exp(wide - wide.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    d = f.shape[1]
    p, pull = p[:, -d:], (c * (np.eye(p.shape[1])[y] - p))[:, -d:]
    left = wide[:, -d:] - gram @ pull
    is_free = s is None
    left -= left.mean(axis=0) if is_free else 0
    # Unknowns by class, then sample; of the free intercepts' common shift, which means nothing, the least.
    bend = np.zeros((d, n, d, n))
    for k in range(d):
        for other in range(d):
            bend[k, range(n), other, range(n)] = c * p[:, k] * ((k == other) - p[:, other])
    slope = np.eye(d * n) + np.einsum("ij,kjlm->kilm", gram.astype(float), bend).reshape(d * n, d * n)
    right = np.r_[-left.T.ravel(), pull.sum(axis=0)].astype(float)
    if not is_free:
        return float(np.abs(np.linalg.solve(slope, right[: d * n])).max())
    level = np.kron(np.eye(d), np.ones((n, 1)))
    whole = np.block([[slope, -level], [bend.sum(axis=1).reshape(d, d * n), np.zeros((d, d))]])
    return float(np.abs(np.linalg.lstsq(whole, right, rcond=None)[0][: d * n]).max())


@pytest.mark.parametrize("c", [1.0, 0.01])
@pytest.mark.parametrize(("n_classes", "s"), [(2, None), (8, None), (2, 1.0), (2, 20.0)])
def test_it_is_the_optimum(n_classes: int, s: float | None, c: float, bold: np.ndarray) -> None:
    """Of the free intercept and of liblinear's, which is one voxel more, of the same value in all samples."""
    targets, folds = _targets(n_classes), _folds("k-fold")
    # With a regularised intercept the mean, squared, drowns digits of the penalty: 2e-6 at 20,000.
    limit = 1e-9 if s is None or abs(bold).max() < 10_000 else 1e-6
    params: dict[str, Any] = {"outputs": ["decision"], "n_classes": n_classes, "c": c, "intercept_scaling": s}
    found = _call(bold, targets, [(train, train) for train, _ in folds], **params)["decision"]
    for center, columns in enumerate(SPHERES):
        x = bold[np.asarray(columns, int)].T.astype(np.float64)
        for permutation, y in enumerate(targets):
            for fold, (train, _) in enumerate(folds):
                f = found[center, permutation].reshape(len(folds), len(train), -1)[fold]
                if len(columns):
                    assert _distance(x[train], y[train], f, c, s) < limit * (1 + abs(f).max())


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("class_weight", ["balanced", {0: 3.0, 1: 0.5}])
def test_weights_of_classes(class_weight: Any, n_classes: int) -> None:
    rng = np.random.default_rng(2)
    bold, folds = rng.normal(size=(N_VOXELS, N_SAMPLES)), _folds("runs")
    y = np.concatenate([rng.permutation([0, 0, 0, 0, 0, 0, 1, 1, 1, 1, n_classes - 1, n_classes - 1])] * 5)
    ours = (
        class_weight
        if isinstance(class_weight, str)
        else [class_weight.get(k, 1.0) for k in range(n_classes)]
    )
    params: dict[str, Any] = {"outputs": ["decision"], "n_classes": n_classes}
    found = _call(bold, y[None], folds, [np.arange(9)], class_weight=ours, **params)["decision"][0, 0]
    x = bold[:9].T
    expected = np.concatenate([_twin(x, y, a, b, class_weight=class_weight) for a, b in folds])
    np.testing.assert_allclose(found, expected, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("n_classes", [2, 4])
def test_without_intercept(n_classes: int) -> None:
    bold, folds = np.random.default_rng(2).normal(1.0, size=(N_VOXELS, N_SAMPLES)), _folds("k-fold")
    y = _targets(n_classes)[0]
    params: dict[str, Any] = {"outputs": ["decision"], "n_classes": n_classes, "fit_intercept": False}
    found = _call(bold, y[None], folds, [np.arange(N_VOXELS)], **params)["decision"][0, 0]
    expected = np.concatenate([_twin(bold.T, y, a, b, fit_intercept=False) for a, b in folds])
    np.testing.assert_allclose(found, expected, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("n_classes", [2, 4])
def test_probabilities_and_counts(n_classes: int) -> None:
    bold, folds = np.random.default_rng(4).normal(size=(N_VOXELS, N_SAMPLES)), _folds("k-fold")
    y = _targets(n_classes)[0]
    found = _call(bold, y[None], folds, [np.arange(5)], outputs=OUTPUTS, n_classes=n_classes)
    tested = np.concatenate([b for _, b in folds])
    x, expected = bold[:5].T, []
    for train, test in folds:
        twin = LogisticRegression(tol=1e-10, max_iter=10_000).fit(x[train], y[train])
        expected.append(twin.predict_log_proba(x[test]))
    np.testing.assert_allclose(found["log_proba"][0, 0], np.concatenate(expected), rtol=1e-5)
    prediction = np.concatenate(expected).argmax(axis=1)
    np.testing.assert_array_equal(found["prediction"][0, 0], prediction)
    for k in range(n_classes):
        row = np.bincount(prediction[y[tested] == k], minlength=n_classes)
        np.testing.assert_array_equal(found["confusion"][0, 0, :, k].sum(axis=0), row)


@pytest.mark.parametrize("n_classes", [2, 3])
def test_samples_far_apart(n_classes: int) -> None:
    """Classes without overlap and a strong fit: whole steps would overshoot."""
    rng = np.random.default_rng(3)
    y = np.tile(np.arange(n_classes), N_SAMPLES // n_classes)
    bold = rng.normal(size=(6, N_SAMPLES)) * [[1], [30], [1], [200], [1], [5]] + 40 * y
    folds = _folds("k-fold")
    params: dict[str, Any] = {"outputs": ["decision"], "n_classes": n_classes, "c": 1000.0}
    found = _call(bold, y[None], folds, [np.arange(6)], **params)["decision"][0, 0]
    expected = np.concatenate([_twin(bold.T, y, a, b, C=1000.0) for a, b in folds])
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6 * abs(expected).max())


@pytest.mark.parametrize("n_classes", [2, 3])
def test_a_sphere_is_the_same_bytes_among_any_others(n_classes: int, bold: np.ndarray) -> None:
    targets, folds = _targets(n_classes), _folds("k-fold")
    params: dict[str, Any] = {"outputs": ["decision"], "n_classes": n_classes}
    together = _call(bold, targets, folds, **params)["decision"]
    orders = ([6, 2, 0, 5], [2], [4], list(range(len(SPHERES)))[::-1])

    def alone(order: list[int]) -> np.ndarray:
        found: np.ndarray = _call(bold, targets, folds, [SPHERES[i] for i in order], **params)["decision"]
        return found

    with ThreadPoolExecutor(4) as threads:
        for order, found in zip(orders, threads.map(alone, orders), strict=True):
            assert found.tobytes() == together[order].tobytes()
