"""The correlation classifier against its twin, and the measure of two halves against NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.utils.estimator_checks import check_estimator

from slcluster.errors import InputError
from slcluster.kernels.correlation import OUTPUTS, correlation, split_half_correlation
from slcluster.kernels.twins import CorrelationClassifier
from tests.kernels.designs import (
    COLUMNS,
    CONSTANTS,
    KINDS,
    SPLITTERS,
    assert_partition_free,
    codes_of,
    folds_of,
    samples_of_kind,
    spheres_of,
)


@pytest.mark.parametrize("subtract_mean", [False, True])
@pytest.mark.parametrize("n_classes", [2, 8])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("splitter", list(SPLITTERS))
def test_it_is_its_twin(splitter: str, kind: str, n_classes: int, subtract_mean: bool) -> None:
    """Predictions but for ties to rounding, correlations within 1e-11 (they are cut at 1e-12)."""
    bold, targets, folds = samples_of_kind(kind), codes_of(n_classes), folds_of(splitter)
    found = correlation(
        bold,
        targets,
        *folds,
        spheres_of(COLUMNS),
        outputs=OUTPUTS,
        n_classes=n_classes,
        subtract_mean=subtract_mean,
    )
    wide, n_close = bold.astype(np.float64), 0
    for center, columns in enumerate(COLUMNS):
        for permutation, y in enumerate(targets):
            at = 0
            for fold, (train, test) in enumerate(zip(*folds, strict=True)):
                part = slice(at, at + len(test))
                at += len(test)
                confusion = found["confusion"][center, permutation, fold]
                prediction, decision = (found[name][center, permutation, part] for name in OUTPUTS[1:])
                if not len(columns):
                    assert (prediction == -1).all()
                    assert not confusion.any()
                    assert np.isnan(decision).all()
                    continue
                x = wide[np.asarray(columns)].T
                twin = CorrelationClassifier(subtract_mean=subtract_mean).fit(x[train], y[train])
                expected = twin.decision_function(x[test]).reshape(len(test), -1)
                np.testing.assert_allclose(decision, expected, rtol=0, atol=1e-11)
                differ = prediction != twin.predict(x[test])
                best = np.sort(twin.correlate(x[test]), axis=1)
                assert (best[differ, -1] - best[differ, -2] < 1e-11).all()
                n_close += differ.sum()
                counts = np.zeros((n_classes, n_classes), int)
                np.add.at(counts, (y[test], prediction), 1)
                np.testing.assert_array_equal(confusion, counts)
    assert n_close == 0


def test_the_twin_is_a_correlation() -> None:
    rng = np.random.default_rng(0)
    x, y, new = rng.normal(size=(30, 9)), np.arange(30) % 3, rng.normal(size=(8, 9))
    patterns = np.stack([x[y == k].mean(axis=0) for k in range(3)])
    for shared, subtract_mean in ((0.0, False), (patterns.mean(axis=0), True)):
        expected = np.corrcoef(new - shared, patterns - shared)[:8, 8:]
        twin = CorrelationClassifier(subtract_mean=subtract_mean).fit(x, y)
        np.testing.assert_allclose(twin.decision_function(new), expected, rtol=0, atol=1e-12)
        np.testing.assert_array_equal(twin.predict(new), expected.argmax(axis=1))


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.SkipTestWarning")
def test_the_twin_is_a_scikit_learn_estimator() -> None:
    check_estimator(CorrelationClassifier())


def test_one_voxel_and_constant_patterns_are_the_first_class() -> None:
    bold, y, folds = samples_of_kind("large"), codes_of(8)[:1], folds_of("runs")
    bold[CONSTANTS] = 700
    found = correlation(bold, y, *folds, spheres_of([[4], CONSTANTS]), outputs=OUTPUTS, n_classes=8)
    assert (found["prediction"] == 0).all()
    assert (found["decision"] == 0).all()


def test_a_sphere_is_the_same_bytes_among_any_others() -> None:
    bold, folds = samples_of_kind("raw"), folds_of("k-fold")
    for k in (2, 8):
        assert_partition_free(
            lambda spheres, k=k: correlation(bold, codes_of(k), *folds, spheres, outputs=OUTPUTS, n_classes=k)
        )
        assert_partition_free(
            lambda spheres, k=k: split_half_correlation(bold, codes_of(k), *folds, spheres, n_classes=k)
        )


def test_an_output_it_has_not_is_named() -> None:
    with pytest.raises(InputError, match="log_proba"):
        correlation(
            samples_of_kind("raw"),
            codes_of(2),
            *folds_of("runs"),
            spheres_of(COLUMNS),
            outputs=["log_proba"],
            n_classes=2,
        )


def _halves_twin(x: np.ndarray, y: np.ndarray, train: Any, test: Any, subtract_mean: bool) -> np.ndarray:
    n_classes = y.max() + 1
    some, other = (
        np.stack([x[part][y[part] == k].mean(axis=0) for k in range(n_classes)]) for part in (train, test)
    )
    if subtract_mean:
        some, other = some - some.mean(axis=0), other - other.mean(axis=0)
    z = np.arctanh(np.corrcoef(some, other)[:n_classes, n_classes:])
    within = np.diag(z).mean()
    between = z[~np.eye(n_classes, dtype=bool)].mean()
    return np.array([within, between, within - between])


@pytest.mark.parametrize("subtract_mean", [False, True])
@pytest.mark.parametrize("n_classes", [2, 8])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("splitter", ["k-fold", "shuffled with a train size"])
def test_two_halves(splitter: str, kind: str, n_classes: int, subtract_mean: bool) -> None:
    """Within 1e-9 of the larger z: a difference of two near ones has no better. On raw data without
    subtraction r is 1 - 1e-4 or nearer to 1, which costs artanh as many digits again."""
    bold, targets, folds = samples_of_kind(kind), codes_of(n_classes), folds_of(splitter)
    found = split_half_correlation(
        bold, targets, *folds, spheres_of(COLUMNS), n_classes=n_classes, subtract_mean=subtract_mean
    )
    assert list(found) == ["within", "between", "difference"]
    for center, columns in enumerate(COLUMNS):
        for permutation, y in enumerate(targets):
            for fold, parts in enumerate(zip(*folds, strict=True)):
                values = np.array([values[center, permutation, fold] for values in found.values()])
                has_all = all(len(np.unique(y[part])) == n_classes for part in parts)
                if len(columns) < 3 or not has_all:
                    assert np.isnan(values).all()
                    continue
                x = bold[np.asarray(columns)].T.astype(np.float64)
                expected = _halves_twin(x, y, *parts, subtract_mean)
                np.testing.assert_allclose(values, expected, rtol=1e-9, atol=1e-9 * abs(expected).max())


def test_two_halves_of_noise_differ_by_nothing_on_average() -> None:
    """Mean over 4,000 spheres of independent noise, standard error 0.004; it is positive with a pattern."""
    rng = np.random.default_rng(3)
    y, halves = np.tile(np.arange(4), 8)[None], ([np.arange(16)], [np.arange(16, 32)])
    noise = rng.normal(size=(40_000, 32))
    spheres = spheres_of(np.arange(40_000).reshape(4_000, 10))
    for subtract_mean in (False, True):
        difference = split_half_correlation(
            noise, y, *halves, spheres, n_classes=4, subtract_mean=subtract_mean
        )["difference"]
        error = difference.std() / np.sqrt(4_000)
        assert error < 0.006
        assert abs(difference.mean()) < 3 * error
    pattern = noise + rng.normal(size=(40_000, 4))[:, y[0]]
    difference = split_half_correlation(pattern, y, *halves, spheres, n_classes=4)["difference"]
    assert difference.mean() > 0.5


def test_a_pattern_that_repeats_itself_stays_finite() -> None:
    y = np.array([[0, 1, 0, 1]])
    bold = np.random.default_rng(0).normal(size=(6, 2))[:, [0, 1, 0, 1]]
    folds = [np.array([0, 1])], [np.array([2, 3])]
    found = split_half_correlation(bold, y, *folds, spheres_of([range(6)]), n_classes=2)
    np.testing.assert_allclose(found["within"], np.arctanh(1 - 1e-12))
    np.testing.assert_allclose(found["difference"], 2 * np.arctanh(1 - 1e-12))


def test_flat_patterns_and_classes_without_test_samples_are_nan() -> None:
    bold, y, folds = samples_of_kind("large"), codes_of(2)[:1], folds_of("k-fold")
    bold[CONSTANTS] = 700
    found = split_half_correlation(bold, y, *folds, spheres_of([CONSTANTS]), n_classes=2)
    assert np.isnan(found["difference"]).all()
    lacking = [np.flatnonzero(y[0] == 0)]
    found = split_half_correlation(bold, y, folds[0][:1], lacking, spheres_of([range(5)]), n_classes=2)
    assert np.isnan(found["difference"]).all()
