"""Cross-validated distances against the formula in NumPy, and their expectation on simulated data."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from sklearn.covariance import ledoit_wolf

from slcluster.errors import InputError
from slcluster.kernels.crossnobis import crossnobis
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

SHRINKAGES = ["auto", 0.3, 1.0, "diagonal", "none"]


def noise_of(x: np.ndarray, y: np.ndarray, shrinkage: Any) -> np.ndarray:
    """Covariance of samples x voxels about the means of their classes, as it is defined."""
    residual, n_classes = x.copy(), y.max() + 1
    for k in range(n_classes):
        residual[y == k] -= residual[y == k].mean(axis=0)
    raw = residual.T @ residual / len(x)
    if shrinkage == "none":
        return np.eye(len(raw))
    if shrinkage == "diagonal":
        covariance = np.diag(np.diag(raw))
    elif shrinkage == "auto":
        covariance = ledoit_wolf(residual, assume_centered=True)[0]
    else:
        covariance = (1 - shrinkage) * raw + shrinkage * np.trace(raw) / len(raw) * np.eye(len(raw))
    return covariance * len(x) / (len(x) - n_classes)


def _twin(x: np.ndarray, y: np.ndarray, folds: Any, shrinkage: Any) -> np.ndarray:
    pairs = list(itertools.combinations(range(y.max() + 1), 2))
    distance = np.full((len(folds[0]), len(pairs)), np.nan)
    for fold, (train, test) in enumerate(zip(*folds, strict=True)):
        covariance = noise_of(x[train], y[train], shrinkage)
        has_noise = np.diag(covariance) > 0
        for number, (a, b) in enumerate(pairs):
            if {a, b} <= set(y[test]):
                some, other = (
                    (x[part][y[part] == a].mean(axis=0) - x[part][y[part] == b].mean(axis=0))[has_noise]
                    for part in (train, test)
                )
                inner = covariance[np.ix_(has_noise, has_noise)]
                distance[fold, number] = some @ np.linalg.solve(inner, other) / len(has_noise)
    return np.nanmean(distance, axis=0)


@pytest.mark.parametrize("n_classes", [2, 8])
@pytest.mark.parametrize(("kind", "splitter"), list(zip(KINDS, SPLITTERS, strict=True)))
@pytest.mark.parametrize("shrinkage", SHRINKAGES)
@pytest.mark.filterwarnings("ignore:Mean of empty slice")
def test_it_is_the_formula(shrinkage: Any, splitter: str, kind: str, n_classes: int) -> None:
    """Within 1e-9 of the largest distance in the sphere: they are sums that cancel where classes are near."""
    bold, targets, folds = samples_of_kind(kind), codes_of(n_classes), folds_of(splitter)
    found = crossnobis(bold, targets, *folds, spheres_of(COLUMNS), n_classes=n_classes, shrinkage=shrinkage)[
        "distance"
    ]
    assert found.shape == (len(COLUMNS), 2, n_classes * (n_classes - 1) // 2)
    for center, columns in enumerate(COLUMNS):
        for permutation, y in enumerate(targets):
            if not len(columns):
                assert np.isnan(found[center]).all()
                continue
            x = bold[np.asarray(columns)].T.astype(np.float64)
            expected = _twin(x - x[0], y, folds, shrinkage)
            np.testing.assert_allclose(
                found[center, permutation], expected, rtol=1e-9, atol=1e-9 * np.nanmax(abs(expected))
            )


def test_without_shrinkage() -> None:
    """The covariance itself where it can be inverted; NaN with more voxels, duplicates or constants."""
    bold, targets, folds = samples_of_kind("raw"), codes_of(2), folds_of("k-fold")
    found = crossnobis(bold, targets, *folds, spheres_of(COLUMNS), n_classes=2, shrinkage=0)["distance"]
    for center, columns in enumerate(COLUMNS):
        is_singular = len(columns) in (0, 90) or 80 in columns
        assert np.isnan(found[center]).all() == is_singular
        if not is_singular:
            x = bold[np.asarray(columns)].T.astype(np.float64)
            for permutation, y in enumerate(targets):
                np.testing.assert_allclose(found[center, permutation], _twin(x, y, folds, 0.0), rtol=1e-8)


def test_a_sphere_without_any_noise() -> None:
    bold, y, folds = samples_of_kind("large"), codes_of(2)[:1], folds_of("k-fold")
    for shrinkage, expected in (("auto", np.nan), (0.5, np.nan), ("diagonal", 0.0), ("none", 0.0)):
        found = crossnobis(bold, y, *folds, spheres_of([CONSTANTS]), n_classes=2, shrinkage=shrinkage)
        np.testing.assert_array_equal(found["distance"], expected)


def test_folds_count_where_both_classes_are_tested() -> None:
    bold, y, folds = samples_of_kind("raw"), codes_of(3)[:1], folds_of("runs")
    lacking = folds[0], [folds[1][0][y[0, folds[1][0]] != 2], *folds[1][1:]]
    whole = crossnobis(bold, y, *folds, spheres_of([range(9)]), n_classes=3)["distance"][0, 0]
    found = crossnobis(bold, y, *lacking, spheres_of([range(9)]), n_classes=3)["distance"][0, 0]
    later = crossnobis(bold, y, folds[0][1:], folds[1][1:], spheres_of([range(9)]), n_classes=3)
    assert found[0] == whole[0]
    np.testing.assert_array_equal(found[1:], later["distance"][0, 0, 1:])
    found = crossnobis(bold, y, folds[0][:1], lacking[1][:1], spheres_of([range(9)]), n_classes=3)
    np.testing.assert_array_equal(np.isnan(found["distance"][0, 0]), [False, True, True])


def _simulated(rng: np.random.Generator, n_spheres: int, pattern: float) -> tuple[np.ndarray, np.ndarray]:
    """Spheres of eight voxels with shared noise, four runs of three classes; the last class has a pattern."""
    y = np.tile(np.arange(3), 4 * 6)[None]
    mixing = np.eye(8) + 0.5
    noise = mixing @ rng.normal(size=(n_spheres, 8, y.shape[1]))
    return (noise + pattern * (y == 2)).reshape(-1, y.shape[1]), y


@pytest.mark.parametrize("shrinkage", SHRINKAGES)
def test_no_effect_has_distance_zero_on_average(shrinkage: Any) -> None:
    """Mean over 2,000 independent spheres within three standard errors of zero, 1 % of a distance of 1."""
    bold, y = _simulated(np.random.default_rng(7), 2_000, 0.0)
    runs = np.split(np.arange(72), 4)
    folds = [np.setdiff1d(np.arange(72), run) for run in runs], runs
    spheres = spheres_of(np.arange(16_000).reshape(2_000, 8))
    distance = crossnobis(bold, y, *folds, spheres, n_classes=3, shrinkage=shrinkage)["distance"][:, 0]
    error = distance.std(axis=0) / np.sqrt(2_000)
    assert (error < 0.01).all()
    assert (abs(distance.mean(axis=0)) < 3 * error).all()
    # Some are negative: a distance that is not cross-validated never is.
    assert 0.3 < (distance < 0).mean() < 0.7


def test_an_effect_has_its_distance_on_average() -> None:
    bold, y = _simulated(np.random.default_rng(8), 2_000, 0.7)
    runs = np.split(np.arange(72), 4)
    folds = [np.setdiff1d(np.arange(72), run) for run in runs], runs
    spheres = spheres_of(np.arange(16_000).reshape(2_000, 8))
    covariance = (np.eye(8) + 0.5) @ (np.eye(8) + 0.5)
    difference = np.full(8, 0.7)
    mahalanobis = difference @ np.linalg.solve(covariance, difference) / 8
    # The mean of an inverse of an estimate is larger than the inverse of the mean, by this much for N - K
    # degrees of freedom (Wishart); here 54 - 3, and 8 voxels.
    inflation = 51 / (51 - 8 - 1)
    for shrinkage, expected in ((0.0, mahalanobis * inflation), ("none", 0.49)):
        distance = crossnobis(bold, y, *folds, spheres, n_classes=3, shrinkage=shrinkage)["distance"][:, 0]
        error = distance.std(axis=0) / np.sqrt(2_000)
        assert (abs(distance.mean(axis=0) - [0, expected, expected]) < 3 * error).all()


def test_a_sphere_is_the_same_bytes_among_any_others() -> None:
    bold, folds = samples_of_kind("raw"), folds_of("k-fold")
    for shrinkage in SHRINKAGES:
        assert_partition_free(
            lambda spheres, s=shrinkage: crossnobis(
                bold, codes_of(8), *folds, spheres, n_classes=8, shrinkage=s
            )
        )


@pytest.mark.parametrize("wrong", ["ledoit", -0.1, 1.5])
def test_another_shrinkage_is_refused(wrong: Any) -> None:
    with pytest.raises(InputError, match="shrinkage must be"):
        crossnobis(
            samples_of_kind("raw"),
            codes_of(2),
            *folds_of("runs"),
            spheres_of(COLUMNS),
            n_classes=2,
            shrinkage=wrong,
        )
