"""Dissimilarity matrices and their correlations with models against SciPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.linalg import sqrtm
from scipy.spatial.distance import pdist, squareform
from scipy.stats import pearsonr, spearmanr

from slcluster.errors import InputError
from slcluster.kernels.crossnobis import crossnobis
from slcluster.kernels.rsa import rsa
from tests.kernels.designs import (
    COLUMNS,
    CONSTANTS,
    KINDS,
    assert_partition_free,
    codes_of,
    folds_of,
    samples_of_kind,
    spheres_of,
)
from tests.kernels.test_crossnobis import noise_of

#: Two halves of the classes; a scale; made up, with many equal values.
MODELS = np.stack(
    [
        squareform(np.kron([[0, 1], [1, 0]], np.ones((4, 4)))),
        pdist(np.arange(8.0)[:, None]),
        np.random.default_rng(0).integers(0, 4, size=28).astype(float),
    ]
)
BOTH = ("correlation", "dissimilarity")


def _matrix(x: np.ndarray, y: np.ndarray, dissimilarity: str, shrinkage: Any) -> np.ndarray:
    patterns = np.stack([x[y == k].mean(axis=0) for k in range(8)])
    if shrinkage == "diagonal":
        variance = np.diag(noise_of(x, y, shrinkage))
        patterns = patterns * np.divide(1, np.sqrt(variance), out=np.zeros_like(variance), where=variance > 0)
    elif shrinkage != "none":
        patterns = patterns @ np.linalg.inv(sqrtm(noise_of(x, y, shrinkage)))
    return pdist(patterns, dissimilarity)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dissimilarity", ["correlation", "euclidean"])
@pytest.mark.parametrize("shrinkage", ["none", "diagonal", "auto", 0.4])
def test_it_is_scipy_s(shrinkage: Any, dissimilarity: str, kind: str) -> None:
    """Within 1e-9: of 1 for correlation distances, of the largest for Euclidean ones."""
    bold, targets = samples_of_kind(kind), codes_of(8)
    for comparison, twin in (("spearman", spearmanr), ("pearson", pearsonr)):
        found = rsa(
            bold,
            targets,
            *folds_of("k-fold"),
            spheres_of(COLUMNS),
            n_classes=8,
            models=MODELS,
            dissimilarity=dissimilarity,
            shrinkage=shrinkage,
            comparison=comparison,
            outputs=BOTH,
        )
        assert list(found) == ["correlation", "dissimilarity"]
        for center, columns in enumerate(COLUMNS):
            for permutation, y in enumerate(targets):
                matrix, r = (found[name][center, permutation] for name in ("dissimilarity", "correlation"))
                if not len(columns) or (len(columns) == 1 and dissimilarity == "correlation"):
                    assert np.isnan(matrix).all()
                    assert np.isnan(r).all()
                    continue
                expected = _matrix(
                    bold[np.asarray(columns)].T.astype(np.float64), y, dissimilarity, shrinkage
                )
                np.testing.assert_allclose(matrix, expected, rtol=1e-9, atol=1e-9 * max(1, expected.max()))
                # Two voxels: distances are 0 and 2 but for rounding, whose ranks are chance.
                if len(columns) > 2 or dissimilarity == "euclidean":
                    for model, value in zip(MODELS, r, strict=True):
                        np.testing.assert_allclose(value, twin(matrix, model)[0], atol=1e-12)


@pytest.mark.parametrize("shrinkage", ["auto", "none"])
def test_crossnobis_distances_are_those_of_their_kernel(shrinkage: Any) -> None:
    bold, targets, folds = samples_of_kind("raw"), codes_of(8), folds_of("runs")
    found = rsa(
        bold,
        targets,
        *folds,
        spheres_of(COLUMNS),
        n_classes=8,
        models=MODELS,
        dissimilarity="crossnobis",
        shrinkage=None if shrinkage == "auto" else shrinkage,
        outputs=BOTH,
    )
    distance = crossnobis(bold, targets, *folds, spheres_of(COLUMNS), n_classes=8, shrinkage=shrinkage)[
        "distance"
    ]
    np.testing.assert_array_equal(found["dissimilarity"], distance)
    for model in range(3):
        expected = spearmanr(distance[0, 0], MODELS[model])[0]
        np.testing.assert_allclose(found["correlation"][0, 0, model], expected, atol=1e-12)


@pytest.mark.parametrize("comparison", ["spearman", "pearson"])
@pytest.mark.parametrize("dissimilarity", ["correlation", "euclidean", "crossnobis"])
def test_a_geometry_is_found_again(dissimilarity: str, comparison: str) -> None:
    """Where patterns follow the first model, and on average over 200 spheres of noise it correlates with none.

    Zero is exact in the mean, for classes that can be exchanged; three standard errors are allowed.
    """
    rng = np.random.default_rng(5)
    y = codes_of(8)[:1]
    samples = rng.normal(size=(201 * 20, y.shape[1]))
    samples[:20] += 2 * rng.normal(size=(20, 2))[:, y[0] // 4]
    found = rsa(
        samples,
        y,
        *folds_of("runs"),
        spheres_of(np.arange(201 * 20).reshape(201, 20)),
        n_classes=8,
        models=MODELS,
        dissimilarity=dissimilarity,
        comparison=comparison,
    )["correlation"][:, 0]
    assert found[0, 0] > 0.8
    assert found[0, 0] > found[0, 2] + 0.4
    assert (abs(found[1:].mean(axis=0)) < 3 * found[1:].std(axis=0) / np.sqrt(200)).all()


def test_equal_dissimilarities_and_singular_noise_are_nan() -> None:
    bold, y, folds = samples_of_kind("large"), codes_of(8)[:1], folds_of("k-fold")
    spheres = spheres_of([CONSTANTS, [*range(90)]])
    flat = rsa(bold, y, *folds, spheres, n_classes=8, models=MODELS, dissimilarity="euclidean", outputs=BOTH)
    assert (flat["dissimilarity"][0] == 0).all()
    assert np.isnan(flat["correlation"][0]).all()
    assert np.isfinite(flat["correlation"][1]).all()
    for dissimilarity in ("correlation", "euclidean", "crossnobis"):
        found = rsa(
            bold,
            y,
            *folds,
            spheres,
            n_classes=8,
            models=MODELS,
            dissimilarity=dissimilarity,
            shrinkage=0.0,
            outputs=BOTH,
        )
        assert all(np.isnan(values).all() for values in found.values())


def test_a_sphere_is_the_same_bytes_among_any_others() -> None:
    bold, folds = samples_of_kind("raw"), folds_of("k-fold")
    for dissimilarity in ("correlation", "euclidean"):
        for shrinkage in ("none", "auto"):
            assert_partition_free(
                lambda spheres, d=dissimilarity, s=shrinkage: rsa(
                    bold,
                    codes_of(8),
                    *folds,
                    spheres,
                    n_classes=8,
                    models=MODELS,
                    dissimilarity=d,
                    shrinkage=s,
                    outputs=BOTH,
                )
            )


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"n_classes": 2}, "three classes"),
        ({"models": MODELS[0]}, r"\(n_models, 28\)"),
        ({"models": MODELS[:, :10]}, r"\(n_models, 28\)"),
        ({"models": MODELS * np.nan}, "finite"),
        ({"models": np.ones((1, 28))}, "same dissimilarity"),
        ({"dissimilarity": "cosine"}, "cosine"),
        ({"comparison": "kendall"}, "kendall"),
        ({"outputs": ["rdm"]}, "rdm"),
        ({"shrinkage": 2.0}, "shrinkage"),
    ],
)
def test_wrong_arguments_are_named(wrong: dict[str, Any], message: str) -> None:
    params = {"n_classes": 8, "models": MODELS, **wrong}
    with pytest.raises(InputError, match=message):
        rsa(samples_of_kind("raw"), codes_of(8), *folds_of("runs"), spheres_of(COLUMNS), **params)
