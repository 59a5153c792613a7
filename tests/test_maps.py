from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import dask.array as da
import nibabel as nib
import numpy as np
import pytest
import xarray as xr
from sklearn.linear_model import Ridge
from sklearn.model_selection import GroupKFold, KFold

import slcluster as slc
from slcluster.archive import stored_plan
from slcluster.cli.files import sidecar
from slcluster.errors import SchemaError
from slcluster.estimators import Layout
from slcluster.maps import maps_dataset, over_folds, plan_attrs, scatter, versions
from slcluster.schema import RESULT, grid_affine, validate
from tests.conftest import OBLIQUE
from tests.witness import noise_dataset

SHAPE = (4, 5, 3)
LAYOUT = Layout.metrics(("accuracy",))
CENTERS = np.array([[3, 4, 2], [0, 1, 2], [2, 0, 1]])


def _maps(metrics: tuple[str, ...] = ("accuracy",), **changes: Any) -> xr.Dataset:
    rng = np.random.default_rng(0)
    parts: dict[str, Any] = {
        "score": rng.random((len(metrics), *SHAPE)),
        "score_fold": rng.random((len(metrics), 2, *SHAPE)),
        "sphere_size": np.ones(SHAPE, np.int32),
        "axes": {"x": np.arange(4) + 7, "y": np.arange(5), "z": np.arange(3) * 2},
        "affine": OBLIQUE,
        "attrs": {"subject": "s"},
    }
    return maps_dataset(layout=Layout.metrics(metrics), is_measure=False, **{**parts, **changes})


def test_values_land_on_their_centers() -> None:
    full = scatter(CENTERS, np.array([1.5, 2.5, 3.5]), SHAPE, np.nan)
    assert full.shape == SHAPE
    for center, value in zip(CENTERS, (1.5, 2.5, 3.5), strict=True):
        assert full[tuple(center)] == value
    assert np.isnan(full).sum() == full.size - 3


def test_further_dimensions_come_before_space() -> None:
    values = np.arange(3 * 2 * 4).reshape(3, 2, 4)
    full = scatter(CENTERS, values, SHAPE, -1)
    assert full.shape == (2, 4, *SHAPE)
    assert full.dtype == values.dtype
    for row, center in enumerate(CENTERS):
        assert np.array_equal(full[(..., *center)], values[row])
    assert (full == -1).sum() == 8 * (60 - 3)


def test_the_mean_over_folds_is_that_of_one_vector() -> None:
    """Whatever the memory order: NumPy sums strided rows in another order than contiguous ones."""
    score = np.random.default_rng(1).random((50, 30)) * 10.0 ** np.arange(-15, 15)
    expected = [np.mean(row.copy()) for row in score]
    assert np.array_equal(over_folds(score, LAYOUT), expected)
    assert np.array_equal(over_folds(np.asfortranarray(score), LAYOUT), expected)
    assert np.array_equal(over_folds(score[:1], LAYOUT), expected[:1])


def test_a_nan_fold_makes_the_mean_nan() -> None:
    assert np.isnan(over_folds(np.array([[0.5, np.nan]]), LAYOUT)).all()


def test_one_metric_has_no_dimension_in_the_score() -> None:
    maps = _maps()
    assert maps["score"].dims == ("x", "y", "z")
    assert maps["score_fold"].dims == ("metric", "fold", "x", "y", "z")
    assert maps["sphere_size"].dtype == np.int32
    assert validate(maps, RESULT) is maps


def test_several_metrics_have() -> None:
    maps = _maps(("accuracy", "roc_auc"))
    assert maps["score"].dims == ("metric", "x", "y", "z")
    assert maps["metric"].values.tolist() == ["accuracy", "roc_auc"]
    assert maps["score"].sel(metric="roc_auc").shape == SHAPE


def test_dask_arrays_stay_lazy() -> None:
    assert isinstance(_maps(score=da.zeros((1, *SHAPE), chunks=2))["score"].data, da.Array)


def test_maps_keep_their_place_in_space() -> None:
    maps = _maps()
    assert np.array_equal(maps["affine"], OBLIQUE)
    np.testing.assert_allclose(grid_affine(maps) @ [0, 0, 0, 1], OBLIQUE @ [7, 0, 0, 1])
    part = maps["score"].isel(x=slice(1, None), z=[2])
    np.testing.assert_allclose(grid_affine(part) @ [0, 0, 0, 1], OBLIQUE @ [8, 0, 4, 1])


def test_what_breaks_the_contract_is_refused() -> None:
    with pytest.raises(SchemaError, match="'sphere_size' must have a dtype of kind i, got float64"):
        _maps(sphere_size=np.ones(SHAPE))


def test_attributes_say_everything_and_are_plain() -> None:
    ds = noise_dataset(affine=OBLIQUE).assign_attrs(subject="sub-07", sources=["a.nii"])
    plan = slc.plan(ds, radius_mm=5.5, standardize="run", scoring=["accuracy", "roc_auc"])
    attrs = plan_attrs(plan)
    assert (attrs["subject"], attrs["sources"]) == ("sub-07", ["a.nii"])
    assert (attrs["n_samples"], attrs["n_folds"], attrs["n_centers"]) == (24, 3, plan.n_centers)
    assert (attrs["standardize"], attrs["detrend"], attrs["nonfinite"]) == ("run", 0, "error")
    assert attrs["chance"] == 0.5
    identity = json.loads(attrs["identity"])
    assert identity["metrics"] == ["accuracy", "roc_auc"]
    assert plan.differences(identity) == []
    json.dumps(attrs, allow_nan=False)
    regression = ds.assign_coords(rt=("sample", np.arange(24.0)))
    assert "chance" not in plan_attrs(
        slc.plan(regression, radius_mm=5.5, estimator=Ridge(), target="rt", scoring="r2")
    )


def test_what_was_asked_for_is_kept_in_words(tmp_path: Path) -> None:
    """Beside the fingerprint: the same folds and centers asked for in other words are the same analysis."""
    ds = noise_dataset(affine=OBLIQUE)
    ds = ds.assign_coords(weight=("sample", np.ones(24)))
    centers = slc.to_nifti(ds["mask"], tmp_path / "centers.nii.gz")
    options: dict[str, Any] = {
        "radius_mm": 5.5,
        "sample_weight": "weight",
        "train_on": {"run": (0, np.int64(1), 2)},
    }
    plan = slc.plan(ds, cv=GroupKFold(3), process_mask=centers, **options)
    arguments = json.loads(plan_attrs(plan)["arguments"])
    assert arguments.pop("cv")["class"] == "sklearn.model_selection.GroupKFold"
    assert arguments == {
        "groups": "run",
        "target": "condition",
        "train_on": {"run": [0, 1, 2]},
        "test_on": None,
        "sample_weight": "weight",
        "process_mask": str(centers),
    }
    pairs = list(zip(*plan.design.folds, strict=True))
    same = slc.plan(ds, cv=pairs, process_mask=nib.load(centers), **options)
    assert same.fingerprint == plan.fingerprint
    assert (same.arguments["cv"], same.arguments["process_mask"]) == (
        {"class": "builtins.list"},
        str(centers),
    )
    shuffled = KFold(3, shuffle=True, random_state=np.random.RandomState(0))
    assert slc.plan(ds, radius_mm=5.5, cv=shuffled).arguments["cv"] == {
        "class": "sklearn.model_selection.KFold"
    }


def test_a_store_keeps_and_hands_on_what_was_asked_for(tmp_path: Path) -> None:
    ds = noise_dataset(affine=OBLIQUE)
    made = slc.searchlight(ds, radius_mm=5.5, cv=3, estimator="gnb", out=tmp_path / "out.zarr")
    assert json.loads(slc.open_result(tmp_path / "out.zarr").attrs["arguments"])["cv"] == 3
    assert sidecar(made)["arguments"]["groups"] == "run"
    assert stored_plan(tmp_path / "out.zarr").arguments["cv"] == 3


def test_versions_of_what_can_change_a_number() -> None:
    import sklearn

    assert versions()["scikit-learn"] == sklearn.__version__
    assert versions()["numpy"] == np.__version__
    assert "unknown" not in versions().values()
