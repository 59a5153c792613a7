"""Splitters that nilearn is not run with: scores are those of ``cross_val_score`` on the same voxels."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import xarray as xr
from sklearn.base import BaseEstimator
from sklearn.linear_model import Ridge
from sklearn.model_selection import (
    GroupShuffleSplit,
    RepeatedStratifiedKFold,
    ShuffleSplit,
    StratifiedGroupKFold,
    StratifiedShuffleSplit,
    TimeSeriesSplit,
    cross_val_score,
)
from sklearn.svm import LinearSVC

import slcluster as slc
from slcluster.schema import grid_affine
from tests.witness import spheres_by_distance

RADIUS_MM = 5.6
N_CENTERS = 8


@pytest.fixture(scope="module")
def where(haxby: xr.Dataset) -> np.ndarray:
    """A few centers spread over the slice."""
    inside = np.argwhere(haxby["mask"].values)
    chosen = np.zeros(haxby["mask"].shape, bool)
    chosen[tuple(inside[np.linspace(0, len(inside) - 1, N_CENTERS).astype(int)].T)] = True
    return chosen


def _by_hand(
    ds: xr.Dataset, where: np.ndarray, estimator: BaseEstimator, y: np.ndarray, **how: Any
) -> np.ndarray:
    """(n_centers, n_folds) scores of scikit-learn's own cross-validation; integers as float32."""
    flat = ds["bold"].values.astype(np.float32).reshape(-1, ds.sizes["sample"])
    spheres = spheres_by_distance(np.argwhere(where), ds["mask"].values, grid_affine(ds), RADIUS_MM)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return np.array([cross_val_score(estimator, flat[sphere].T, y, **how) for sphere in spheres])


@pytest.mark.parametrize(
    "cv",
    [
        TimeSeriesSplit(4),
        ShuffleSplit(3, train_size=0.5, test_size=0.3, random_state=7),
        StratifiedShuffleSplit(3, train_size=60, test_size=40, random_state=7),
        GroupShuffleSplit(3, train_size=0.5, test_size=0.25, random_state=7),
        StratifiedGroupKFold(4),
        RepeatedStratifiedKFold(n_splits=2, n_repeats=2, random_state=7),
        5,
    ],
    ids=lambda cv: str(cv).split("(")[0],
)
def test_splitters(cv: Any, faces_houses: xr.Dataset, where: np.ndarray) -> None:
    maps = slc.searchlight(
        faces_houses, radius_mm=RADIUS_MM, engine="sklearn", cv=cv, process_mask=where
    ).compute()
    y = np.array(faces_houses["condition"].values.tolist())
    estimator = LinearSVC(max_iter=10_000, random_state=0)
    found = _by_hand(faces_houses, where, estimator, y, cv=cv, groups=faces_houses["run"].values)
    assert np.array_equal(maps["score_fold"].values[0][:, where].T, found)
    assert np.array_equal(maps["score"].values[where], [row.mean() for row in found])


def test_train_need_not_be_the_complement_of_test(faces_houses: xr.Dataset, where: np.ndarray) -> None:
    """Cross-decoding: train on the first runs, test on one other, in both directions and unequal numbers."""
    run = faces_houses["run"].values
    cv = [
        (np.flatnonzero(run < 3)[::-1], np.flatnonzero(run == 7)),
        (np.flatnonzero((run == 7) | (run == 8)), np.flatnonzero(run == 0)),
    ]
    maps = slc.searchlight(
        faces_houses, radius_mm=RADIUS_MM, engine="sklearn", cv=cv, process_mask=where
    ).compute()
    y = np.array(faces_houses["condition"].values.tolist())
    found = _by_hand(faces_houses, where, LinearSVC(max_iter=10_000, random_state=0), y, cv=cv)
    assert np.array_equal(maps["score_fold"].values[0][:, where].T, found)


def test_regression(faces_houses: xr.Dataset, where: np.ndarray) -> None:
    """A column of numbers is predicted; the estimator's own score is R squared."""
    drift = faces_houses["sample_index"].values.astype(np.float64)
    ds = faces_houses.assign_coords(drift=("sample", drift))
    options = {"estimator": Ridge(alpha=2.0), "target": "drift", "scoring": None, "cv": 3}
    maps = slc.searchlight(ds, radius_mm=RADIUS_MM, engine="sklearn", process_mask=where, **options).compute()
    assert maps["metric"].values.tolist() == ["r2"]
    found = _by_hand(ds, where, Ridge(alpha=2.0), drift, cv=3)
    assert np.array_equal(maps["score_fold"].values[0][:, where].T, found)


def test_three_conditions(haxby: xr.Dataset, where: np.ndarray) -> None:
    ds = slc.select(haxby, conditions=["face", "house", "cat"])
    maps = slc.searchlight(ds, radius_mm=RADIUS_MM, engine="sklearn", cv=3, process_mask=where).compute()
    y = np.array(ds["condition"].values.tolist())
    found = _by_hand(ds, where, LinearSVC(max_iter=10_000, random_state=0), y, cv=3)
    assert np.array_equal(maps["score_fold"].values[0][:, where].T, found)
    assert maps.attrs["chance"] == pytest.approx(1 / 3)
