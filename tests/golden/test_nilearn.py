"""The maps of the real slice are nilearn's, to the last bit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from sklearn.feature_selection import f_classif
from sklearn.model_selection import KFold

import slcluster as slc
from tests.golden.nilearn_reference import RADIUS_MM, around, pipeline, spread, unbalanced

SCORE = {"radius_mm": RADIUS_MM, "cv": KFold(4), "engine": "sklearn"}


def _scores(ds: xr.Dataset, where: np.ndarray | None = None, **options: object) -> np.ndarray:
    """Our scores at the centers, in C order; NaN everywhere else is checked on the way."""
    centers = ds["mask"].values if where is None else where
    score = slc.searchlight(ds, process_mask=where, **{**SCORE, **options})["score"].values
    assert np.array_equal(np.isfinite(score), np.broadcast_to(centers, score.shape))
    return score[..., centers]


@pytest.fixture(scope="module")
def few(haxby: xr.Dataset) -> np.ndarray:
    return spread(haxby["mask"].values)


def test_every_center_of_the_slice(faces_houses: xr.Dataset, reference: dict) -> None:
    assert reference["version"] == "0.14.1"
    scores = _scores(faces_houses)
    assert scores.shape == (530,)
    assert np.array_equal(scores, reference["plain"])


def test_leave_one_run_out_is_the_default(faces_houses: xr.Dataset, reference: dict) -> None:
    assert np.array_equal(_scores(faces_houses, cv=None), reference["runwise"])


def test_process_mask(faces_houses: xr.Dataset, reference: dict, few: np.ndarray) -> None:
    assert np.array_equal(_scores(faces_houses, few), reference["process_mask"])


def test_other_scorers_together(faces_houses: xr.Dataset, reference: dict, few: np.ndarray) -> None:
    labels = pd.Series(faces_houses["condition"].values.tolist())
    ds = slc.select(faces_houses, where=unbalanced(labels))
    metrics = ["accuracy", "balanced_accuracy", "roc_auc"]
    accuracy, balanced, auc = _scores(ds, few, scoring=metrics)
    assert np.array_equal(balanced, reference["balanced_accuracy"])
    assert np.array_equal(auc, reference["roc_auc"])
    assert not np.array_equal(accuracy, balanced), "the selection must tell these two apart"


def test_pipeline(faces_houses: xr.Dataset, reference: dict, few: np.ndarray) -> None:
    assert np.array_equal(_scores(faces_houses, few, estimator=pipeline()), reference["pipeline"])


def test_centers_outside_the_mask(faces_houses: xr.Dataset, reference: dict) -> None:
    where = around(faces_houses["mask"].values)
    with pytest.warns(UserWarning, match=f"{where.sum()} of {where.sum()} centers lie outside the mask"):
        scores = _scores(faces_houses, where)
    assert np.array_equal(scores, reference["outside"])


@pytest.mark.parametrize(("name", "dtype"), [("scaled", "float64"), ("float32", "float32")])
def test_other_voxel_types(
    name: str,
    dtype: str,
    faces_houses: xr.Dataset,
    reference: dict,
    reference_folder: Path,
    test_data: Path,
    few: np.ndarray,
    tmp_path: Path,
) -> None:
    labels = pd.DataFrame(
        {"labels": faces_houses["condition"].values.tolist(), "chunks": faces_houses["run"].values}
    )
    mask = test_data / "haxby2001" / "mask.nii.gz"
    ds = slc.ingest(reference_folder / f"{name}.nii", tmp_path / "s.zarr", mask=mask, labels=labels)
    assert ds["bold"].dtype == dtype
    assert np.array_equal(_scores(ds, few), reference[name])


def test_twelve_runs_of_a_bids_folder(
    haxby: xr.Dataset, reference: dict, few: np.ndarray, test_data: Path, tmp_path: Path
) -> None:
    mask = test_data / "haxby2001" / "mask.nii.gz"
    bids = slc.ingest(test_data / "haxby2001-bids", tmp_path / "bids.zarr", mask=mask)
    assert np.array_equal(bids["bold"].values, haxby["bold"].values)
    assert np.array_equal(bids["run"].values, haxby["run"].values)
    assert np.array_equal(bids["condition"].values, haxby["condition"].values)
    ds = slc.select(bids, conditions=["face", "house"])
    assert np.array_equal(_scores(ds, few), reference["plain"][few[haxby["mask"].values]])


def test_f_map(faces_houses: xr.Dataset, reference: dict) -> None:
    inside = faces_houses["mask"].values
    maps = slc.f_score(faces_houses).compute()
    assert np.isnan(maps["F"].values[~inside]).all()
    f, log_p = maps["F"].values[inside], maps["neg_log10_p"].values[inside]
    np.testing.assert_allclose(f, reference["f"], rtol=1e-4)
    np.testing.assert_allclose(log_p, reference["neg_log10_p"], rtol=0, atol=1e-4)
    assert log_p.max() == 10, "the slice has voxels beyond the clip"


def test_f_map_in_double_precision(faces_houses: xr.Dataset) -> None:
    inside = faces_houses["mask"].values
    x = faces_houses["bold"].values[inside].astype(np.float64)
    for run in np.unique(faces_houses["run"]):
        here = faces_houses["run"].values == run
        x[:, here] -= x[:, here].mean(axis=1, keepdims=True)
        x[:, here] /= x[:, here].std(axis=1, ddof=1, keepdims=True)
    f, p = f_classif(x.T, faces_houses["condition"].values.tolist())
    maps = slc.f_score(faces_houses).compute()
    np.testing.assert_allclose(maps["F"].values[inside], f, rtol=1e-9)
    np.testing.assert_allclose(maps["p"].values[inside], p, rtol=1e-7)
