"""Nearest centroids against scikit-learn's."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from sklearn.neighbors import NearestCentroid

from slcluster.errors import InputError
from slcluster.kernels.centroid import OUTPUTS, nearest_centroid
from tests.kernels.designs import (
    COLUMNS,
    KINDS,
    SPLITTERS,
    assert_partition_free,
    codes_of,
    folds_of,
    samples_of_kind,
    spheres_of,
)


def _assert_equal_to_twin(bold: np.ndarray, targets: np.ndarray, folds: Any, priors: Any = "uniform") -> int:
    """Returns the number of predictions that differ where two classes are as good as equally near."""
    n_classes = targets.max() + 1
    found = nearest_centroid(
        bold, targets, *folds, spheres_of(COLUMNS), outputs=OUTPUTS, n_classes=n_classes, priors=priors
    )
    # The twin expands squares: a constant would cost it digits and mean nothing.
    wide = bold.astype(np.float64) - bold[:, :1]
    n_close = 0
    for center, columns in enumerate(COLUMNS):
        for permutation, y in enumerate(targets):
            at = 0
            for fold, (train, test) in enumerate(zip(*folds, strict=True)):
                part = slice(at, at + len(test))
                at += len(test)
                confusion = found["confusion"][center, permutation, fold]
                prediction, decision, log_proba = (
                    found[name][center, permutation, part] for name in OUTPUTS[1:]
                )
                if not len(columns):
                    assert (prediction == -1).all()
                    assert not confusion.any()
                    assert np.isnan(decision).all()
                    assert np.isnan(log_proba).all()
                    continue
                x = wide[np.asarray(columns)].T
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", UserWarning)  # of voxels without variance
                    twin = NearestCentroid(priors=priors).fit(x[train], y[train])
                expected = twin._decision_function(x[test])
                shown = twin.decision_function(x[test]).reshape(len(test), -1)
                scale = 1e-12 * abs(expected).max()
                np.testing.assert_allclose(decision, shown, rtol=1e-9, atol=scale)
                np.testing.assert_allclose(log_proba, twin.predict_log_proba(x[test]), rtol=1e-9, atol=scale)
                n_close += _assert_same_classes(prediction, twin, x[test], expected)
                counts = np.zeros((n_classes, n_classes), int)
                np.add.at(counts, (y[test], prediction), 1)
                np.testing.assert_array_equal(confusion, counts)
    return n_close


def _assert_same_classes(prediction: np.ndarray, twin: Any, x: np.ndarray, expected: np.ndarray) -> int:
    is_uniform = np.isclose(twin.class_prior_, 1 / len(twin.classes_)).all()
    if is_uniform:
        expected = -((x[:, None] - twin.centroids_) ** 2).sum(axis=-1)
    best = np.sort(expected, axis=1)
    is_close = best[:, -1] - best[:, -2] < 1e-6
    np.testing.assert_array_equal(prediction[~is_close], twin.predict(x)[~is_close])
    return int((prediction != twin.predict(x)).sum())


@pytest.mark.parametrize("n_classes", [2, 8])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("splitter", list(SPLITTERS))
def test_it_is_scikit_learn_s(splitter: str, kind: str, n_classes: int) -> None:
    assert _assert_equal_to_twin(samples_of_kind(kind), codes_of(n_classes), folds_of(splitter)) <= 1


@pytest.mark.parametrize("priors", ["empirical", [0.2, 0.5, 0.3], [0.5, 0.5]])
def test_priors(priors: Any) -> None:
    y = codes_of(2 if len(priors) == 2 else 3)
    assert (
        _assert_equal_to_twin(samples_of_kind("raw"), y, folds_of("shuffled with a train size"), priors) <= 1
    )


def test_equal_distances_go_to_the_first_class() -> None:
    y = np.array([[0, 0, 1, 1, 0]])
    bold = np.array([[0.0, 2.0, 4.0, 6.0, 3.0]])  # the last sample is as far from 1 as from 5
    folds = [np.arange(4)], [np.array([4])]
    found = nearest_centroid(bold, y, *folds, spheres_of([[0]]), outputs=OUTPUTS, n_classes=2)
    assert found["prediction"].tolist() == [[[0]]]
    assert found["decision"].tolist() == [[[[0.0]]]]
    assert NearestCentroid().fit(bold[:, :4].T, y[0, :4]).predict(bold[:, 4:].T) == 0


@pytest.mark.filterwarnings("ignore:.*zero standard deviation:UserWarning")
def test_a_sphere_without_any_variance_is_the_first_class() -> None:
    bold, y, folds = samples_of_kind("large")[82:85], codes_of(2)[:1], folds_of("k-fold")
    found = nearest_centroid(bold, y, *folds, spheres_of([[0, 1, 2]]), outputs=OUTPUTS, n_classes=2)
    assert (found["prediction"] == 0).all()
    assert (found["decision"] == 0).all()
    with pytest.raises(ValueError, match="zero variance"):
        NearestCentroid().fit(bold.T, y[0])


def test_a_sphere_is_the_same_bytes_among_any_others() -> None:
    bold, folds = samples_of_kind("raw"), folds_of("k-fold")
    for n_classes in (2, 8):
        assert_partition_free(
            lambda spheres, k=n_classes: nearest_centroid(
                bold, codes_of(k), *folds, spheres, outputs=OUTPUTS, n_classes=k
            )
        )


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"priors": "equal"}, "'uniform'"),
        ({"priors": [0.5, 0.6]}, "2 probabilities"),
        ({"outputs": ["joint_log_proba"]}, "joint_log_proba"),
    ],
)
def test_wrong_arguments_are_named(wrong: dict[str, Any], message: str) -> None:
    params = {"outputs": OUTPUTS, "n_classes": 2, **wrong}
    with pytest.raises(InputError, match=message):
        nearest_centroid(
            samples_of_kind("raw"), codes_of(2), *folds_of("runs"), spheres_of(COLUMNS), **params
        )
