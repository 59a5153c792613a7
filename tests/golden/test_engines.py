"""Every fast engine against its scikit-learn twin, which is run to convergence: the registry, row by row."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest
import xarray as xr
from sklearn.base import BaseEstimator, is_classifier
from sklearn.covariance import OAS
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression, Ridge, RidgeClassifier, RidgeClassifierCV, RidgeCV
from sklearn.model_selection import GroupShuffleSplit, KFold, LeaveOneGroupOut
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import NearestCentroid
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC, LinearSVC

import slcluster as slc
from slcluster.compute import read_slab
from slcluster.errors import InputError
from slcluster.estimators import ENGINES, choose_engine
from slcluster.kernels.preparation import prepare
from slcluster.kernels.spheres import Spheres, find_spheres
from slcluster.kernels.twins import CorrelationClassifier, PooledGaussianNB
from slcluster.plan import Plan
from tests.extended import converge

#: Estimators of each engine that its twin can be run to convergence with.
TWINS: dict[str, list[BaseEstimator]] = {
    "svm": [
        LinearSVC(dual=False, tol=1e-9, max_iter=100_000),
        LinearSVC(C=0.1, dual=False, tol=1e-9, max_iter=100_000),
    ],
    "ridge_classifier": [
        RidgeClassifier(),
        RidgeClassifier(alpha=50.0, fit_intercept=False),
        RidgeClassifierCV(),
    ],
    "ridge": [Ridge(alpha=3.0), RidgeCV(alphas=[0.5, 20.0, 1000.0])],
    "logistic": [
        LogisticRegression(solver="newton-cholesky", tol=1e-10, max_iter=50),
        LogisticRegression(C=0.01, solver="newton-cholesky", tol=1e-10, max_iter=50),
    ],
    "gnb": [GaussianNB(), PooledGaussianNB()],
    "nearest_centroid": [NearestCentroid()],
    "lda": [
        LinearDiscriminantAnalysis(),
        LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto"),
        LinearDiscriminantAnalysis(solver="eigen", shrinkage=0.2, priors=[0.4, 0.6]),
    ],
    "correlation": [CorrelationClassifier(), CorrelationClassifier(subtract_mean=True)],
}
#: A decision nearer to zero than this may fall on either side.
UNDECIDED = 1e-6


def test_every_fast_engine_is_held_against_its_twin() -> None:
    assert set(TWINS) == set(ENGINES) - {"sklearn"}
    for name, twins in TWINS.items():
        for twin in twins:
            assert choose_engine("auto", twin) == name


def _parts(plan: Plan, ds: xr.Dataset) -> tuple[np.ndarray, Spheres]:
    span = plan.design.read_span(plan.detrend)
    bold = prepare(
        ds["bold"].values[plan.geometry.mask] if plan.source_path is None else _stored(plan),
        plan.design.all_runs[span],
        plan.design.chosen - span.start,
        detrend=plan.detrend,
        standardize=plan.standardize,
        zero_nonfinite=False,
    )
    return bold, find_spheres(plan.geometry.centers_ijk, plan.geometry.mask, plan.geometry.offsets)


def _stored(plan: Plan) -> np.ndarray:
    everything = tuple(slice(0, size) for size in plan.geometry.shape)
    return read_slab(plan, everything)[plan.geometry.mask]


def _by_engine(plan: Plan, bold: np.ndarray, spheres: Spheres) -> dict[str, np.ndarray]:
    design, engine = plan.design, ENGINES[plan.engine]
    params: Any = engine.params(plan.estimator, design.classes)
    if design.classes is not None:
        params["n_classes"] = len(design.classes)
    outputs = [name for name in engine.outputs if name != "confusion"]
    kernel = engine.load()
    return kernel(bold, design.targets[None], *design.folds, spheres, outputs=outputs, **params)


def _undecided(answers: dict[str, np.ndarray]) -> np.ndarray:
    """Which test samples of (center, sample) lie between two classes."""
    if "decision" in answers:
        decision = answers["decision"][:, 0]
        if decision.shape[-1] == 1:
            return np.abs(decision[..., 0]) < UNDECIDED
    else:
        decision = answers["log_proba"][:, 0]
    first, second = np.sort(decision, axis=-1)[..., -1], np.sort(decision, axis=-1)[..., -2]
    return first - second < UNDECIDED


def _converged(estimator: BaseEstimator, x: np.ndarray, y: np.ndarray) -> BaseEstimator:
    if isinstance(estimator, LogisticRegression):
        # A free intercept takes any shift of the voxels up; without it, raw data stop the solver short.
        return make_pipeline(StandardScaler(with_std=False), estimator).fit(x, y)
    fitted = estimator.fit(x, y)
    # On raw data liblinear stops short of the optimum at any tolerance: a decision of 0.0003 came out as -0.001.
    return converge(fitted, x, y) if isinstance(fitted, LinearSVC) else fitted


def _compare(ds: xr.Dataset, estimator: BaseEstimator, **options: Any) -> int:
    """Hold every prediction of an engine against the twin's; how many were too close to call."""
    if not is_classifier(estimator):
        ds = ds.assign_coords(drift=("sample", np.sqrt(np.arange(ds.sizes["sample"]))))
        options |= {"target": "drift", "scoring": None}
    plan = slc.plan(ds, estimator=estimator, **options)
    assert plan.engine != "sklearn"
    bold, spheres = _parts(plan, ds)
    answers = _by_engine(plan, bold, spheres)
    tested = np.concatenate(plan.design.folds.test)
    n_undecided = 0
    for center in range(plan.n_centers):
        columns = spheres.indices[spheres.indptr[center] : spheres.indptr[center + 1]]
        x, y = bold[columns].T.astype(np.float64), plan.design.targets
        expected = [
            _converged(plan.estimator, x[train], y[train]).predict(x[test])
            for train, test in zip(*plan.design.folds, strict=True)
        ]
        found, expected = answers["prediction"][center, 0], np.concatenate(expected)
        if is_classifier(estimator):
            differs = found != expected
            assert not (differs & ~_undecided(answers)[center]).any(), (center, tested[differs])
            n_undecided += int(differs.sum())
        else:
            np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9 * np.abs(expected).max())
    return n_undecided


@pytest.mark.parametrize("twin", [twin for twins in TWINS.values() for twin in twins], ids=repr)
@pytest.mark.parametrize("standardize", [None, "run"], ids=["raw", "standardised"])
def test_real_slice(twin: BaseEstimator, standardize: str | None, faces_houses: xr.Dataset) -> None:
    """All 530 centers."""
    began = time.monotonic()
    n_undecided = _compare(faces_houses, twin, radius_mm=5.6, cv=KFold(4), standardize=standardize)
    print(f"{twin}: {n_undecided} predictions too close to call, {time.monotonic() - began:.0f} s")
    assert n_undecided <= 5


@pytest.fixture(scope="module")
def brain() -> xr.Dataset:
    ds = slc.simulate(shape=(8, 9, 10), n_runs=4, n_informative=1, seed=2, conditions=("a", "b", "c", "d"))
    return ds.isel(sample=(ds["condition"] != "rest").values)


@pytest.mark.parametrize("twin", [twins[0] for twins in TWINS.values()], ids=repr)
@pytest.mark.parametrize(
    ("conditions", "cv", "radius_mm"),
    [
        (["a", "b"], LeaveOneGroupOut(), 4.0),
        (["a", "b", "c", "d"], KFold(3), 5.6),
        (["b", "c"], GroupShuffleSplit(2, train_size=0.5, test_size=0.25, random_state=1), 9.0),
    ],
    ids=["runs", "four conditions", "more voxels than samples"],
)
def test_simulated_volume(
    conditions: list[str], cv: Any, radius_mm: float, twin: BaseEstimator, brain: xr.Dataset
) -> None:
    ds = slc.select(brain, conditions=conditions)
    assert _compare(ds, twin, radius_mm=radius_mm, cv=cv, standardize="run") <= 5


# --- which engine is chosen


@pytest.mark.parametrize(
    ("estimator", "scoring", "engine"),
    [
        ("svc", "accuracy", "svm"),
        ("svc", None, "svm"),
        ("svc", ["accuracy", "roc_auc", "f1_macro"], "svm"),
        ("svc", lambda fitted, X, y: 0.0, "sklearn"),  # may look at anything of the estimator
        ("svc_l1", "accuracy", "sklearn"),
        (LinearSVC(loss="hinge"), "accuracy", "sklearn"),
        (SVC(kernel="linear"), "accuracy", "sklearn"),
        ("ridge_classifier", ["accuracy", "roc_auc"], "ridge_classifier"),
        (RidgeClassifier(class_weight="balanced"), "accuracy", "sklearn"),
        (RidgeClassifier(solver="sag"), "accuracy", "sklearn"),
        (RidgeClassifierCV(cv=3), "accuracy", "sklearn"),
        (LogisticRegression(), ["accuracy", "neg_log_loss"], "logistic"),
        (LogisticRegression(solver="liblinear"), "accuracy", "logistic"),
        (LogisticRegression(l1_ratio=0.5, solver="saga"), "accuracy", "sklearn"),
        (LogisticRegression(C=np.inf), "accuracy", "sklearn"),
        ("logistic", "accuracy", "sklearn"),  # chooses C by itself
        ("gnb", ["accuracy", "roc_auc", "neg_log_loss"], "gnb"),
        ("nearest_centroid", "accuracy", "nearest_centroid"),
        (NearestCentroid(shrink_threshold=0.5), "accuracy", "sklearn"),
        ("correlation", "roc_auc", "correlation"),
        ("lda", ["accuracy", "roc_auc", "neg_log_loss"], "lda"),
        (LinearDiscriminantAnalysis(solver="eigen", shrinkage="auto", n_components=1), "accuracy", "lda"),
        (LinearDiscriminantAnalysis(solver="lsqr", covariance_estimator=OAS()), "accuracy", "sklearn"),
        (LinearDiscriminantAnalysis(shrinkage=0.1), "accuracy", "sklearn"),  # which refuses it
        (LinearDiscriminantAnalysis(priors=[1, 2]), "accuracy", "sklearn"),
        (RidgeClassifierCV(scoring="accuracy"), "accuracy", "sklearn"),
    ],
)
def test_the_engine_that_computes_just_this(
    estimator: Any, scoring: Any, engine: str, brain: xr.Dataset
) -> None:
    ds = slc.select(brain, conditions=["a", "b"])
    plan = slc.plan(ds, radius_mm=5.6, estimator=estimator, scoring=scoring)
    assert plan.engine == engine
    assert (
        slc.plan(ds, radius_mm=5.6, estimator=estimator, scoring=scoring, engine="sklearn").engine
        == "sklearn"
    )


def test_an_engine_that_cannot_compute_this_is_refused(brain: xr.Dataset) -> None:
    with pytest.raises(InputError, match=r"engine='svm' computes LinearSVC .* not RidgeClassifier"):
        slc.plan(brain, radius_mm=5.6, estimator=RidgeClassifier(), engine="svm")


def test_scores_of_fast_and_slow_are_one(brain: xr.Dataset) -> None:
    """Through planning, blocks and scores, several metrics at once; spheres too small are NaN in both."""
    ds = slc.select(brain, conditions=["a", "b"])
    options: dict[str, Any] = {
        "radius_mm": 5.6,
        "estimator": TWINS["svm"][0],
        "scoring": ["accuracy", "balanced_accuracy", "roc_auc", "f1_macro"],
        "standardize": "run",
        "min_voxels": 9,
    }
    fast = slc.searchlight(ds, block_centers=40, **options).compute()
    slow = slc.searchlight(ds, engine="sklearn", **options).compute()
    assert (fast.attrs["engine"], slow.attrs["engine"]) == ("svm", "sklearn")
    assert fast["score"].isnull().any()
    for name in ("score", "score_fold"):
        np.testing.assert_allclose(fast[name].values, slow[name].values, rtol=1e-12)
