"""Hit rates and confusion counts: through engines, folds, stores, files and figures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.metrics import confusion_matrix
from sklearn.model_selection import KFold
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import slcluster as slc
from slcluster.cli.files import write_maps
from slcluster.errors import InputError
from slcluster.estimators import TableScorer, split_tables
from slcluster.jobs import Job
from slcluster.maps import named_maps
from slcluster.searchlight import resume
from slcluster.store import open_store, write_array_store
from tests.conftest import OBLIQUE

CONDITIONS = ("cat", "face", "house")
ALL = ["accuracy", "hit_rate", "confusion"]
TABLES = ("hit_rate", "hit_rate_fold", "confusion", "confusion_fold")


@pytest.fixture(scope="module")
def ds() -> xr.Dataset:
    """Three runs of twelve samples; the last has no cat, so that a fold cannot test on it."""
    rng = np.random.default_rng(5)
    condition = np.array([*CONDITIONS * 8, *("face", "house") * 6])
    bold = rng.normal(size=(4, 4, 3, 36))
    for name in CONDITIONS:
        bold[..., condition == name] += 0.7 * rng.normal(size=(4, 4, 3, 1))
    mask = rng.random((4, 4, 3)) < 0.85
    return slc.subject_dataset(
        bold, affine=OBLIQUE, mask=mask, condition=condition, run=np.repeat(np.arange(3), 12)
    )


def _expected(ds: xr.Dataset, center: tuple[int, ...], estimator: Any) -> list[np.ndarray]:
    """Confusion matrix of each fold at one center, the slow way."""
    places = np.argwhere(ds["mask"].values)
    distance_mm = np.linalg.norm((places - center) @ OBLIQUE[:3, :3].T, axis=1)
    x = ds["bold"].values[ds["mask"].values][distance_mm <= 5.5 * (1 + 1e-6)].T
    y, runs = np.array(ds["condition"].values.tolist()), ds["run"].values
    found = []
    for run in range(3):
        fitted = estimator.fit(x[runs != run], y[runs != run])
        found.append(
            confusion_matrix(y[runs == run], fitted.predict(x[runs == run]), labels=list(CONDITIONS))
        )
    return found


ESTIMATORS = [
    GaussianNB(),
    LinearDiscriminantAnalysis(),
    KNeighborsClassifier(3),
    make_pipeline(StandardScaler(), GaussianNB()),
]


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=lambda one: " ".join(repr(one).split())[:30])
def test_they_are_scikit_learns_counts(estimator: Any, ds: xr.Dataset) -> None:
    maps = slc.searchlight(ds, radius_mm=5.5, estimator=estimator, scoring=ALL, block_centers=7).compute()
    assert maps["confusion_fold"].dims == ("true", "predicted", "fold", "x", "y", "z")
    assert maps["hit_rate"].dims == ("class", "x", "y", "z")
    assert maps["class"].values.tolist() == maps["true"].values.tolist() == list(CONDITIONS)
    assert maps["score"].dims == ("x", "y", "z")
    for center in map(tuple, np.argwhere(ds["mask"].values)[::6]):
        counts = np.array(_expected(ds, center, estimator))
        found = maps["confusion_fold"].values[(..., *center)]
        assert np.array_equal(np.moveaxis(found, -1, 0), counts)
        assert np.array_equal(maps["confusion"].values[(..., *center)], counts.sum(axis=0))
        n_true = counts.sum(axis=2)
        rates = np.diagonal(counts, axis1=1, axis2=2) / np.where(n_true, n_true, np.nan)
        np.testing.assert_allclose(maps["hit_rate_fold"].values[(..., *center)].T, rates, rtol=1e-15)
        np.testing.assert_allclose(
            maps["hit_rate"].values[(..., *center)], np.nanmean(rates, axis=0), rtol=1e-14
        )
        accuracy = np.trace(counts, axis1=1, axis2=2) / 12
        np.testing.assert_allclose(maps["score_fold"].values[(0, slice(None), *center)], accuracy, rtol=1e-15)
    assert np.isnan(maps["hit_rate_fold"].sel({"class": "cat"}, drop=True).isel(fold=2)).all()
    outside = ~ds["mask"].values
    assert all(np.isnan(maps[name].values[..., outside]).all() for name in TABLES)


@pytest.mark.parametrize("estimator", ESTIMATORS[:2], ids=repr)
def test_engines_agree(estimator: Any, ds: xr.Dataset) -> None:
    options: dict[str, Any] = {"radius_mm": 5.5, "estimator": estimator, "standardize": "fold"}
    scoring = ["accuracy", "balanced_accuracy", "neg_log_loss", "hit_rate", "confusion"]
    options |= {"scoring": scoring, "cv": KFold(3, shuffle=True, random_state=1)}
    fast = slc.searchlight(ds, **options).compute()
    slow = slc.searchlight(ds, engine="sklearn", **options).compute()
    assert fast.attrs["engine"] != slow.attrs["engine"] == "sklearn"
    for name in (*TABLES[1:], "score_fold"):
        np.testing.assert_allclose(fast[name], slow[name], rtol=1e-9)
    assert fast["score"]["metric"].values.tolist() == scoring[:3]
    np.testing.assert_allclose(
        fast["hit_rate_fold"].mean("class"), fast["score_fold"].sel(metric="balanced_accuracy")
    )


def test_lazy_durable_and_resumed_are_one(ds: xr.Dataset, tmp_path: Path) -> None:
    stored = open_store(write_array_store(ds, tmp_path / "ds.zarr"))
    options: dict[str, Any] = {"radius_mm": 5.5, "estimator": "gnb", "scoring": ALL}
    expected = slc.searchlight(stored, block_centers=1000, **options).compute()

    def stop(step: Any) -> None:
        if step.done == 2:
            raise KeyboardInterrupt

    out = tmp_path / "out.zarr"
    with pytest.raises(KeyboardInterrupt):
        slc.searchlight(stored, out=out, block_centers=5, progress=stop, **options)
    for found in (
        resume(out),
        slc.open_result(out),
        slc.searchlight(stored, block_centers=4, overlap=True, **options),
    ):
        for name in ("score", "score_fold", *TABLES):
            assert found[name].dims == expected[name].dims
            assert found[name].values.tobytes() == expected[name].values.tobytes(), name
    with pytest.raises(InputError, match="it differs in: tables"):
        slc.searchlight(stored, out=out, **{**options, "scoring": ["accuracy", "hit_rate"]})


def test_files_and_figures(ds: xr.Dataset, tmp_path: Path) -> None:
    plots = pytest.importorskip("slcluster.plots")
    maps = slc.searchlight(ds, radius_mm=5.5, estimator="gnb", scoring=["hit_rate", "confusion"]).compute()
    assert maps["metric"].values.tolist() == ["accuracy"]
    assert list(named_maps(maps))[:5] == [
        "accuracy",
        *(f"hit_rate-{c}" for c in CONDITIONS),
        "confusion-cat,cat",
    ]
    names = [path.name for path in write_maps(maps, tmp_path)]
    assert names[0] == "array_score.nii.gz"
    assert {"array_hit_rate-face.nii.gz", "array_confusion-face-house.nii.gz"} < set(names)
    assert not any("fold" in name for name in names)
    assert "array_hit_rate_fold-face.nii.gz" in [path.name for path in write_maps(maps, tmp_path, folds=True)]
    figure = plots.plot_score_map(maps, metric="hit_rate-face", cut=1)
    assert "chance 0.333" in figure.axes[-1].get_ylabel()
    plots.plot_score_map(maps, cut=1)  # one score needs no choice


def test_the_plan_and_the_job_say_so(ds: xr.Dataset) -> None:
    planned = slc.plan(ds, radius_mm=5.5, scoring=ALL)
    assert "scores       accuracy, hit_rate, confusion (chance 0.333)" in str(planned)
    assert planned.engine == "svm"
    assert planned.score_shape == (1 + 3 + 9, 3)
    assert Job(store="a.zarr", radius_mm=3, scoring=ALL).scoring == ALL


def test_what_scoring_asks_for() -> None:
    assert split_tables("accuracy") == ("accuracy", ())
    assert split_tables(None) == (None, ())
    assert split_tables(["confusion", "roc_auc", "hit_rate", "f1"]) == (
        ["roc_auc", "f1"],
        ("hit_rate", "confusion"),
    )
    with pytest.raises(InputError, match="asks for 'hit_rate' twice"):
        split_tables(["hit_rate", "hit_rate"])
    with pytest.raises(InputError, match="'confusion' is a table of all classes; ask for it in a list"):
        split_tables({"mine": "confusion", "accuracy": "accuracy"})


def test_numbers_have_no_classes(ds: xr.Dataset) -> None:
    timed = ds.assign_coords(rt=("sample", np.linspace(0, 1, 36)))
    with pytest.raises(
        InputError, match="scoring='confusion' counts predicted classes, which a regression has not"
    ):
        slc.plan(timed, radius_mm=5.5, estimator="ridge", target="rt", scoring=["r2", "confusion"])


def test_predictions_that_are_no_class_are_refused() -> None:
    class Stranger:
        def predict(self, X: np.ndarray) -> np.ndarray:
            return np.array(["zebra"] * len(X))

    scorer = TableScorer(lambda *_: 0.5, ("accuracy",), ("hit_rate",), np.array(CONDITIONS))
    with pytest.raises(ValueError, match="none of the classes"):
        scorer(Stranger(), np.zeros((2, 1)), np.array(["cat", "face"]))
