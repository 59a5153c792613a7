"""Gaussian naive Bayes against scikit-learn's, and the pooled form against its twin."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from sklearn.base import clone
from sklearn.model_selection import LeaveOneGroupOut, cross_val_score
from sklearn.naive_bayes import GaussianNB
from sklearn.utils.estimator_checks import check_estimator

from slcluster.errors import InputError
from slcluster.kernels.gnb import gnb
from slcluster.kernels.spheres import find_spheres, sphere_offsets
from slcluster.kernels.twins import PooledGaussianNB
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

OUTPUTS = ["confusion", "prediction", "log_proba", "joint_log_proba"]


def _assert_equal_to_twin(
    bold: np.ndarray, targets: np.ndarray, folds: Any, twin: Any, **params: Any
) -> None:
    """Predictions are identical; logarithms within 1e-9, and where they cancel 1e-12 of what they come from."""
    n_classes = targets.max() + 1
    found = gnb(bold, targets, *folds, spheres_of(COLUMNS), outputs=OUTPUTS, n_classes=n_classes, **params)
    wide = bold.astype(np.float64)
    n_close = 0
    for center, columns in enumerate(COLUMNS):
        for permutation, y in enumerate(targets):
            at = 0
            for fold, (train, test) in enumerate(zip(*folds, strict=True)):
                part = slice(at, at + len(test))
                at += len(test)
                confusion = found["confusion"][center, permutation, fold]
                prediction, log_proba, joint = (
                    found[name][center, permutation, part] for name in OUTPUTS[1:]
                )
                if not len(columns):
                    assert (prediction == -1).all()
                    assert not confusion.any()
                    assert np.isnan(log_proba).all()
                    assert np.isnan(joint).all()
                    continue
                x = wide[np.asarray(columns)].T
                fitted = clone(twin).fit(x[train], y[train])
                assert len(fitted.classes_) == n_classes
                expected = fitted.predict_joint_log_proba(x[test])
                np.testing.assert_allclose(joint, expected, rtol=1e-9)
                scale = 1e-12 * abs(expected).max()
                np.testing.assert_allclose(
                    log_proba, fitted.predict_log_proba(x[test]), rtol=1e-9, atol=scale
                )
                best = np.sort(expected, axis=1)
                is_close = best[:, -1] - best[:, -2] < 1e-6
                n_close += is_close.sum()
                np.testing.assert_array_equal(prediction[~is_close], fitted.predict(x[test])[~is_close])
                counts = np.zeros((n_classes, n_classes), int)
                np.add.at(counts, (y[test], prediction), 1)
                np.testing.assert_array_equal(confusion, counts)
    # Of thousands of samples; one voxel of integers comes near to a tie.
    assert n_close <= 1


@pytest.mark.parametrize("is_pooled", [False, True])
@pytest.mark.parametrize("n_classes", [2, 8])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("splitter", list(SPLITTERS))
def test_it_is_scikit_learn_s(splitter: str, kind: str, n_classes: int, is_pooled: bool) -> None:
    twin = PooledGaussianNB() if is_pooled else GaussianNB()
    _assert_equal_to_twin(
        samples_of_kind(kind), codes_of(n_classes), folds_of(splitter), twin, is_pooled=is_pooled
    )


@pytest.mark.parametrize("is_pooled", [False, True])
@pytest.mark.parametrize("params", [{"var_smoothing": 0.1}, {"priors": [0.2, 0.5, 0.3]}])
def test_its_parameters(params: dict[str, Any], is_pooled: bool) -> None:
    twin = (PooledGaussianNB if is_pooled else GaussianNB)(**params)
    _assert_equal_to_twin(
        samples_of_kind("raw"), codes_of(3), folds_of("runs"), twin, is_pooled=is_pooled, **params
    )


def test_faces_and_houses_score_as_scikit_learn_scores_them(test_data: Path) -> None:
    """Every 25th center of the real slice, raw: the same accuracy in each of twelve runs."""
    haxby = test_data / "haxby2001"
    mask = np.asarray(nibabel.load(haxby / "mask.nii.gz").dataobj) > 0
    image = nibabel.load(haxby / "subj1" / "bold.nii.gz")
    labels = np.genfromtxt(haxby / "subj1" / "labels.txt", dtype=str, skip_header=1)
    is_used = np.isin(labels[:, 0], ["face", "house"])
    bold = np.asarray(image.dataobj)[mask.reshape(image.shape[:3])][:, is_used]
    y, runs = (labels[is_used, 0] == "house").astype(int), labels[is_used, 1]
    centers = np.argwhere(mask.reshape(image.shape[:3]))[::25]
    spheres = find_spheres(
        centers, mask.reshape(image.shape[:3]), sphere_offsets(image.affine, 5.6, image.shape[:3])
    )
    pairs = list(LeaveOneGroupOut().split(y, y, runs))
    folds = [train for train, _ in pairs], [test for _, test in pairs]
    confusion = gnb(bold, y[None], *folds, spheres, outputs=["confusion"], n_classes=2)["confusion"][:, 0]
    accuracy = np.trace(confusion, axis1=2, axis2=3) / confusion.sum(axis=(2, 3))
    assert accuracy.mean() > 0.55
    for row, start, stop in zip(accuracy, spheres.indptr[:-1], spheres.indptr[1:], strict=True):
        x = bold[spheres.indices[start:stop]].T.astype(np.float64)
        assert np.array_equal(row, cross_val_score(GaussianNB(), x, y, cv=LeaveOneGroupOut(), groups=runs))


def test_a_voxel_that_is_constant_within_a_class_has_the_sphere_s_smoothing() -> None:
    """Its density is 1e9 times as sharp as the others', and the smoothing differs from sphere to sphere."""
    bold, y = samples_of_kind("raw"), codes_of(2)[:1]
    bold[[0, 3, 50]] = 600 + 3 * y
    bold[20] *= 10
    _assert_equal_to_twin(bold, y, folds_of("k-fold"), GaussianNB())


@pytest.mark.parametrize("is_pooled", [False, True])
def test_a_sphere_without_any_variance_is_the_first_class(is_pooled: bool) -> None:
    bold, y, folds = samples_of_kind("large")[82:85], codes_of(2)[:1], folds_of("k-fold")
    found = gnb(bold, y, *folds, spheres_of([[0, 1, 2]]), outputs=OUTPUTS, n_classes=2, is_pooled=is_pooled)
    assert (found["prediction"] == 0).all()
    assert np.isnan(found["log_proba"]).all()
    assert np.array_equal(found["confusion"][0, 0].sum(axis=0)[:, 1], [0, 0])
    x, twin = bold.T.astype(np.float64), PooledGaussianNB() if is_pooled else GaussianNB()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        twin.fit(x[folds[0][0]], y[0, folds[0][0]])
        assert (twin.predict(x) == 0).all()
        assert np.isnan(twin.predict_log_proba(x)).all()


def test_a_class_without_a_chance_is_never_predicted() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        found = gnb(
            samples_of_kind("raw"),
            codes_of(3),
            *folds_of("runs"),
            spheres_of(COLUMNS[:3]),
            outputs=OUTPUTS,
            n_classes=3,
            priors=[0.5, 0.0, 0.5],
        )
    assert not (found["prediction"] == 1).any()
    assert (found["log_proba"][..., 1] == -np.inf).all()


@pytest.mark.parametrize("kind", ["standardised", "raw"])
def test_a_sphere_is_the_same_bytes_among_any_others(kind: str) -> None:
    bold, folds = samples_of_kind(kind), folds_of("k-fold")
    for n_classes in (2, 8):
        assert_partition_free(
            lambda spheres, k=n_classes: gnb(bold, codes_of(k), *folds, spheres, outputs=OUTPUTS, n_classes=k)
        )


def test_a_set_of_targets_is_the_same_bytes_among_any_others() -> None:
    bold, folds, y = samples_of_kind("raw"), folds_of("runs"), codes_of(8)
    together = gnb(bold, y, *folds, spheres_of(COLUMNS), outputs=OUTPUTS, n_classes=8)
    for number in range(2):
        alone = gnb(bold, y[[number]], *folds, spheres_of(COLUMNS), outputs=OUTPUTS, n_classes=8)
        for name in OUTPUTS:
            assert alone[name].tobytes() == together[name][:, [number]].tobytes()


def test_a_voxel_s_neighbours_in_the_slab_change_nothing() -> None:
    bold, folds = samples_of_kind("raw"), folds_of("runs")
    columns = np.array([3, 17, 41, 66])
    whole = gnb(bold, codes_of(2), *folds, spheres_of([columns]), outputs=OUTPUTS, n_classes=2)
    alone = gnb(bold[columns], codes_of(2), *folds, spheres_of([range(4)]), outputs=OUTPUTS, n_classes=2)
    assert all(alone[name].tobytes() == whole[name].tobytes() for name in OUTPUTS)


def test_only_what_is_asked_for_comes_back() -> None:
    some = gnb(
        samples_of_kind("raw"),
        codes_of(2),
        *folds_of("runs"),
        spheres_of(COLUMNS),
        outputs=["confusion"],
        n_classes=2,
    )
    assert list(some) == ["confusion"]
    assert some["confusion"].dtype == np.int32


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"priors": [0.5, 0.6]}, "2 probabilities"),
        ({"priors": [1.0]}, "2 probabilities"),
        ({"priors": [1.5, -0.5]}, "2 probabilities"),
        ({"var_smoothing": -1.0}, "var_smoothing"),
        ({"outputs": ["decision"]}, "decision"),
    ],
)
def test_wrong_arguments_are_named(wrong: dict[str, Any], message: str) -> None:
    params = {"outputs": OUTPUTS, "n_classes": 2, **wrong}
    with pytest.raises(InputError, match=message):
        gnb(samples_of_kind("raw"), codes_of(2), *folds_of("runs"), spheres_of(COLUMNS), **params)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.SkipTestWarning", "ignore::RuntimeWarning")
def test_the_pooled_twin_is_a_scikit_learn_estimator() -> None:
    check_estimator(PooledGaussianNB())
    assert not hasattr(PooledGaussianNB(), "partial_fit")


def test_the_pooled_twin_by_hand() -> None:
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(30, 4)), np.arange(30) % 3
    away = np.concatenate([x[y == k] - x[y == k].mean(axis=0) for k in range(3)])
    epsilon = 1e-9 * x.var(axis=0).max()
    fitted = PooledGaussianNB().fit(x, y)
    for k in range(3):
        np.testing.assert_allclose(fitted.var_[k], (away**2).sum(axis=0) / 30 + epsilon, rtol=1e-12)
