"""Ridge against scikit-learn's, over shapes, splitters and odd columns."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import Ridge, RidgeClassifier, RidgeClassifierCV, RidgeCV
from sklearn.model_selection import KFold, LeaveOneGroupOut, ShuffleSplit

from slcluster.kernels.ridge import ridge, ridge_classifier
from slcluster.kernels.spheres import Spheres

N_SAMPLES, N_VOXELS = 60, 80
RUNS = np.repeat(np.arange(5), 12)
#: Few voxels, one, more than training samples, none, duplicates and constants, a constant alone.
SPHERES = [np.arange(7), [50], np.arange(N_VOXELS), [], [1, 2, 3, 70, 71, 72], [73]]


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
        "shuffled": ShuffleSplit(3, train_size=0.5, test_size=0.2, random_state=0),
    }[name]
    return list(cv.split(np.zeros((N_SAMPLES, 1)), None, RUNS if name == "runs" else None))


def _call(
    kernel: Any, bold: np.ndarray, targets: np.ndarray, folds: Any, some: Any = SPHERES, **params: Any
) -> Any:
    spheres = Spheres(np.cumsum([0, *map(len, some)]), np.concatenate(some).astype(np.int64))
    return kernel(bold, targets, [a for a, _ in folds], [b for _, b in folds], spheres, **params)


def _expected(twin: Any, bold: np.ndarray, y: np.ndarray, columns: Any, folds: Any) -> np.ndarray:
    x = bold[np.asarray(columns)].T.astype(np.float64)
    answer = "decision_function" if hasattr(twin, "decision_function") else "predict"
    return np.concatenate([getattr(twin.fit(x[a], y[a]), answer)(x[b]).reshape(len(b), -1) for a, b in folds])


ALPHAS = (0.1, 1.0, 10.0)


@pytest.mark.parametrize("n_classes", [2, 8])
@pytest.mark.parametrize("splitter", ["k-fold", "runs", "shuffled"])
@pytest.mark.parametrize(
    ("twin", "params"),
    [
        (RidgeClassifier(alpha=2.0), {"alphas": [2.0]}),
        (RidgeClassifier(alpha=2.0, fit_intercept=False), {"alphas": [2.0], "fit_intercept": False}),
        (RidgeClassifierCV(), {"alphas": ALPHAS}),
        (RidgeClassifierCV(alphas=[1e3, 1e5]), {"alphas": [1e3, 1e5]}),
    ],
    ids=["plain", "no intercept", "chosen", "chosen among large"],
)
def test_classifier(
    twin: Any, params: dict[str, Any], splitter: str, n_classes: int, bold: np.ndarray
) -> None:
    rng = np.random.default_rng(1)
    first = np.concatenate([rng.permutation(np.arange(12) % n_classes) for _ in range(5)])
    targets, folds = np.stack([first, rng.permutation(first)]), _folds(splitter)
    outputs = ["confusion", "decision", "prediction"]
    found = _call(ridge_classifier, bold, targets, folds, outputs=outputs, n_classes=n_classes, **params)
    for center, columns in enumerate(SPHERES):
        if not len(columns):
            assert np.isnan(found["decision"][center]).all()
            assert (found["prediction"][center] == -1).all()
            continue
        for permutation, y in enumerate(targets):
            expected = _expected(twin, bold, y, columns, folds)
            decision = found["decision"][center, permutation]
            np.testing.assert_allclose(decision, expected, rtol=1e-9, atol=1e-9 * abs(expected).max())
            hit = found["prediction"][center, permutation] == y[np.concatenate([b for _, b in folds])]
            counts = found["confusion"][center, permutation]
            assert np.trace(counts.sum(axis=0)) == hit.sum()


@pytest.mark.parametrize(
    ("twin", "params"),
    [
        (Ridge(alpha=5.0), {"alphas": [5.0]}),
        (RidgeCV(), {"alphas": ALPHAS}),
        (RidgeCV(alphas=[30.0, 3e4]), {"alphas": [30.0, 3e4]}),
    ],
    ids=["plain", "chosen", "chosen among large"],
)
def test_regression(twin: Any, params: dict[str, Any], bold: np.ndarray) -> None:
    targets, folds = np.random.default_rng(3).normal(5, 2, size=(2, N_SAMPLES)), _folds("k-fold")
    found = _call(ridge, bold, targets, folds, outputs=["prediction"], **params)["prediction"]
    for center, columns in enumerate(SPHERES):
        for permutation, y in enumerate(targets):
            if len(columns):
                expected = _expected(twin, bold, y, columns, folds)[:, 0]
                np.testing.assert_allclose(found[center, permutation], expected, rtol=1e-9, atol=1e-9)
            else:
                assert np.isnan(found[center]).all()


def test_a_sphere_is_the_same_bytes_among_any_others(bold: np.ndarray) -> None:
    targets, folds = np.tile([0, 1, 1], N_SAMPLES // 3)[None], _folds("k-fold")
    params: dict[str, Any] = {"outputs": ["decision"], "n_classes": 2, "alphas": ALPHAS}
    together = _call(ridge_classifier, bold, targets, folds, **params)["decision"]
    for order in ([5, 2, 0, 4], [2], [1], [0, 1, 2]):
        some = [SPHERES[i] for i in order]
        alone = _call(ridge_classifier, bold, targets, folds, some, **params)["decision"]
        assert alone.tobytes() == together[order].tobytes()
