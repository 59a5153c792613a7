from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import check_scoring
from sklearn.model_selection import LeaveOneGroupOut, ShuffleSplit, StratifiedKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC, LinearSVC

from slcluster.kernels.generic import SphereFailure, cross_validate
from slcluster.kernels.spheres import Spheres

N_SAMPLES = 36
GROUPS = np.repeat([0, 1, 2], 12)
CODES = np.tile([1, 0, 0, 1], 9)
#: Three spheres: some columns, all of them (more voxels than training samples), one.
SPHERES = Spheres(np.array([0, 5, 45, 46]), np.concatenate([[0, 3, 4, 17, 39], np.arange(40), [7]]))


@pytest.fixture(scope="module")
def bold() -> np.ndarray:
    """Raw BOLD-like values, float32, with some signal."""
    rng = np.random.default_rng(3)
    return (600 + 12 * rng.normal(size=(40, N_SAMPLES)) + 5 * CODES).astype(np.float32)


def _scores(bold: np.ndarray, estimator: Any, scoring: Any, cv: Any, **options: Any) -> np.ndarray:
    folds = list(cv.split(bold.T, CODES, GROUPS if isinstance(cv, LeaveOneGroupOut) else None))
    train, test = [a for a, _ in folds], [b for _, b in folds]
    found = cross_validate(
        bold,
        CODES[None],
        train,
        test,
        SPHERES,
        outputs=["it"],
        estimator=estimator,
        scorer=check_scoring(estimator, scoring),
        **options,
    )
    return found["score"][:, 0, :, 0]


@pytest.mark.parametrize(
    "estimator",
    [
        LinearSVC(max_iter=10_000, random_state=0),
        SVC(kernel="linear"),
        LogisticRegression(solver="liblinear"),
        make_pipeline(StandardScaler(), LinearSVC(random_state=0)),
    ],
    ids=lambda estimator: type(estimator).__name__,
)
@pytest.mark.parametrize("cv", [LeaveOneGroupOut(), StratifiedKFold(3), ShuffleSplit(3, random_state=0)])
@pytest.mark.parametrize("scoring", [None, "roc_auc", "balanced_accuracy"])
def test_equals_cross_val_score_exactly(bold: np.ndarray, estimator: Any, cv: Any, scoring: Any) -> None:
    found = _scores(bold, estimator, scoring, cv)
    for row, start, stop in zip(found, SPHERES.indptr[:-1], SPHERES.indptr[1:], strict=True):
        x, groups = bold[SPHERES.indices[start:stop]].T, GROUPS if isinstance(cv, LeaveOneGroupOut) else None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            expected = cross_val_score(estimator, x, CODES, cv=cv, groups=groups, scoring=scoring)
        assert np.array_equal(row, expected)


def test_the_estimator_sees_labels_and_is_never_changed(bold: np.ndarray) -> None:
    labels = np.array(["house", "face"])
    estimator = LinearSVC(random_state=0, class_weight={"house": 2.0, "face": 1.0})
    found = _scores(bold, estimator, None, StratifiedKFold(3), labels=labels)
    x = bold[SPHERES.indices[:5]].T
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        assert np.array_equal(found[0], cross_val_score(estimator, x, labels[CODES], cv=StratifiedKFold(3)))
    assert not hasattr(estimator, "coef_")


def test_several_targets_and_metrics(bold: np.ndarray) -> None:
    """Permutations are a dimension of their own, and metrics come in the order asked for."""
    estimator, cv = LogisticRegression(solver="liblinear"), list(StratifiedKFold(3).split(bold.T, CODES))
    targets = np.stack([CODES, CODES[::-1]])
    scorer = check_scoring(estimator, ["accuracy", "roc_auc"])
    train, test = [a for a, _ in cv], [b for _, b in cv]
    found = cross_validate(
        bold,
        targets,
        train,
        test,
        SPHERES,
        outputs=["roc_auc", "accuracy"],
        estimator=estimator,
        scorer=scorer,
    )
    assert found["score"].shape == (3, 2, 3, 2)
    assert found["n_unconverged"].shape == (3, 2, 3)
    for p, y in enumerate(targets):
        for m, metric in enumerate(["roc_auc", "accuracy"]):
            x = bold[SPHERES.indices[:5]].T
            expected = [
                check_scoring(estimator, metric)(estimator.fit(x[a], y[a]), x[b], y[b]) for a, b in cv
            ]
            assert np.array_equal(found["score"][0, p, :, m], expected)


def test_spheres_below_the_minimum_are_nan_and_not_fitted(bold: np.ndarray) -> None:
    spheres = Spheres(np.array([0, 0, 1, 3]), np.array([4, 5, 6]))
    sizes = []

    class Counting(ClassifierMixin, BaseEstimator):
        def fit(self, x: np.ndarray, y: np.ndarray) -> Counting:
            sizes.append(x.shape[1])
            self.classes_ = np.unique(y)
            return self

        def score(self, x: np.ndarray, y: np.ndarray) -> float:
            return float(x.shape[1])

    for least, fitted, expected in (
        (0, [1, 2], [np.nan, 1, 2]),
        (1, [1, 2], [np.nan, 1, 2]),
        (2, [2], [np.nan, np.nan, 2]),
    ):
        sizes.clear()
        found = cross_validate(
            bold,
            CODES[None],
            [np.arange(20)],
            [np.arange(20, 36)],
            spheres,
            outputs=["it"],
            estimator=Counting(),
            scorer=check_scoring(Counting(), None),
            min_voxels=least,
        )
        np.testing.assert_array_equal(found["score"].ravel(), expected)
        assert sizes == fitted


def test_convergence_warnings_are_counted_and_others_passed_on(bold: np.ndarray) -> None:
    class Grumbling(LinearSVC):
        def fit(self, x: np.ndarray, y: np.ndarray) -> Grumbling:
            warnings.warn("about the data", RuntimeWarning, stacklevel=1)
            return super().fit(x, y)

    with pytest.warns(RuntimeWarning, match="about the data") as caught:
        found = cross_validate(
            bold,
            CODES[None],
            [np.arange(24)],
            [np.arange(24, 36)],
            SPHERES,
            outputs=["it"],
            estimator=Grumbling(max_iter=1, random_state=0),
            scorer=check_scoring(Grumbling(), None),
        )
    assert found["n_unconverged"].ravel().tolist() == [1, 1, 1]
    assert not [w for w in caught if issubclass(w.category, ConvergenceWarning)]


def test_a_failure_names_the_sphere_and_the_fold(bold: np.ndarray) -> None:
    bad = bold.copy()
    bad[7, 30] = np.nan  # only in the training part of the second fold, only in spheres with voxel 7
    spheres = Spheres(np.array([0, 2, 4]), np.array([0, 1, 6, 7]))
    folds = [np.arange(12), np.arange(24, 36)], [np.arange(12, 24), np.arange(0, 12)]
    with pytest.raises(SphereFailure) as caught:
        cross_validate(
            bad,
            CODES[None],
            *folds,
            spheres,
            outputs=["it"],
            estimator=LinearSVC(random_state=0),
            scorer=check_scoring(LinearSVC(), None),
        )
    assert (caught.value.center, caught.value.fold) == (1, 1)
    assert "NaN" in str(caught.value.__cause__)


def test_numbers_to_predict(bold: np.ndarray) -> None:
    y = np.linspace(-1.0, 1.0, N_SAMPLES)
    folds = list(ShuffleSplit(3, random_state=1).split(bold.T))
    found = cross_validate(
        bold,
        y[None],
        [a for a, _ in folds],
        [b for _, b in folds],
        SPHERES,
        outputs=["r2"],
        estimator=Ridge(),
        scorer=check_scoring(Ridge(), None),
    )
    expected = cross_val_score(Ridge(), bold[SPHERES.indices[:5]].T, y, cv=ShuffleSplit(3, random_state=1))
    assert np.array_equal(found["score"][0, 0, :, 0], expected)
