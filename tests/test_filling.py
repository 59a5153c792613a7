"""Maps filled between centers: held against loops over all centers, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pytest
import xarray as xr
from scipy.interpolate import RegularGridInterpolator
from sklearn.naive_bayes import GaussianNB

import slcluster as slc
from slcluster.cli.files import write_maps
from slcluster.errors import InputError, SchemaError
from slcluster.kernels.spheres import RIM_TOLERANCE
from slcluster.plots import plot_score_map
from slcluster.schema import grid_affine
from tests.conftest import OBLIQUE
from tests.witness import Total, noise_dataset, place_dataset

SHAPE = (7, 8, 9)
OPTIONS: dict[str, Any] = {"radius_mm": 5.5, "estimator": GaussianNB(), "scoring": ["accuracy", "roc_auc"]}


@pytest.fixture(scope="module")
def ds() -> xr.Dataset:
    return noise_dataset(SHAPE, affine=OBLIQUE, n_runs=2, per_run=6)


@pytest.fixture(scope="module")
def thin(ds: xr.Dataset) -> xr.Dataset:
    """Some centers have spheres too small to score: a NaN that was computed."""
    maps = slc.searchlight(ds, center_spacing=(2, 3, 2), min_voxels=8, **OPTIONS).compute(scheduler="sync")
    assert np.isnan(maps["score"].values[:, maps["is_center"].values]).any()
    return maps


def _twin(da: xr.DataArray, result: xr.Dataset, method: str) -> np.ndarray:
    """Every voxel looks at every center: their distances, and the tents that stand on them."""
    affine, spacing = grid_affine(result), np.array(result.attrs["center_spacing"])
    is_center, values = result["is_center"].values, da.values.copy()
    centers = np.argwhere(is_center)
    for voxel in np.argwhere(result["fill_mask"].values & ~is_center):
        apart_mm = np.linalg.norm((centers - voxel) @ affine[:3, :3].T, axis=1)
        first = centers[apart_mm <= apart_mm.min() * (1 + RIM_TOLERANCE)][0]
        tents = np.clip(1 - np.abs(centers - voxel) / spacing, 0, None).prod(axis=1)
        for lead in np.ndindex(da.shape[:-3]):
            of_centers = da.values[(*lead, *centers.T)]
            value, weight = da.values[(*lead, *first)], tents * np.isfinite(of_centers)
            if method == "linear" and weight.sum() > 0:
                value = (weight[weight > 0] @ of_centers[weight > 0]) / weight.sum()
            values[(*lead, *voxel)] = value
    return values


@pytest.mark.parametrize("method", ["nearest", "linear"])
@pytest.mark.parametrize("part", ["whole", "cropped", "flipped"])
def test_every_voxel_is_filled_as_a_loop_over_all_centers_says(
    method: str, part: str, thin: xr.Dataset
) -> None:
    if part == "cropped":
        thin = thin.isel(x=slice(1, None), y=slice(2, 7), z=slice(1, 8))
    elif part == "flipped":
        thin = thin.isel(x=slice(None, None, -1), z=slice(None, None, -1))
    full = slc.fill_centers(thin, method=method)
    for name in ("score", "score_fold"):
        expected = _twin(thin[name], thin, method)
        if method == "nearest":
            np.testing.assert_array_equal(full[name], expected)
        np.testing.assert_allclose(full[name], expected, rtol=1e-12)
        assert full[name].attrs == {**thin[name].attrs, "filled": method}
        computed = thin["is_center"].values
        assert full[name].values[..., computed].tobytes() == thin[name].values[..., computed].tobytes()
        assert np.isnan(full[name].values[..., ~thin["fill_mask"].values]).all()
    assert full["score"].notnull().sum() > 3 * thin["score"].notnull().sum()
    np.testing.assert_array_equal(full["is_center"], thin["is_center"])
    np.testing.assert_array_equal(full["sphere_size"], thin["sphere_size"])
    assert full.attrs == {**thin.attrs, "filled": method}
    assert "fill_mask" not in full


def test_inside_a_full_mask_it_is_trilinear_interpolation() -> None:
    ds = place_dataset(SHAPE, OBLIQUE)
    thin = slc.searchlight(
        ds, radius_mm=3.2, estimator=Total(), scoring=None, center_spacing=(2, 7, 4)
    ).compute(scheduler="sync")
    full = slc.fill_centers(thin, method="linear")["score"].values
    lattice = [np.arange(0, size, n) for size, n in zip(SHAPE, (2, 7, 4), strict=True)]
    given = thin["score"].values[np.ix_(*lattice)]
    voxels = np.indices(SHAPE).reshape(3, -1).T
    expected = RegularGridInterpolator(lattice, given)(voxels).reshape(SHAPE)
    np.testing.assert_allclose(full, expected, rtol=1e-12)


def test_a_voxel_with_no_center_around_it_takes_the_nearest() -> None:
    mask = np.zeros(SHAPE, bool)
    mask[0:3, 0, 0] = mask[5, 5, 5] = True
    ds = place_dataset(SHAPE, OBLIQUE, mask=mask)
    thin = slc.searchlight(ds, n_voxels=1, estimator=Total(), scoring=None, center_spacing=2).compute()
    full = slc.fill_centers(thin)["score"].values
    assert full[5, 5, 5] == full[2, 0, 0] == thin["score"].values[2, 0, 0]
    assert full[1, 0, 0] == (full[0, 0, 0] + full[2, 0, 0]) / 2
    assert np.isfinite(full).sum() == 4


@pytest.mark.parametrize("method", ["nearest", "linear"])
def test_lazy_durable_and_overlap_fill_the_same(method: str, ds: xr.Dataset, tmp_path: Path) -> None:
    options = {**OPTIONS, "center_spacing": 3, "n_voxels": 10, "block_centers": 4}
    lazy = slc.searchlight(ds, **options)
    filled = slc.fill_centers(lazy, method=method)
    assert dask.is_dask_collection(filled["score"].data)
    out = tmp_path / "out.zarr"
    with dask.config.set(scheduler="sync"):
        durable = slc.fill_centers(slc.searchlight(ds, out=out, **options), method=method)
        again = slc.fill_centers(slc.open_result(out), method=method)
        overlap = slc.fill_centers(slc.searchlight(ds, overlap=True, **options), method=method).compute()
        filled = filled.compute()
    for name in ("score", "score_fold", "is_center", "sphere_size"):
        for other in (durable, again, overlap):
            assert other[name].values.tobytes() == filled[name].values.tobytes()
    assert filled["score"].notnull().all("metric").sum() == ds["mask"].sum()


def test_maps_of_a_measure_are_filled_too(ds: xr.Dataset) -> None:
    thin = slc.searchlight(ds, radius_mm=5.5, estimator=slc.Crossnobis(), center_spacing=2).compute()
    full = slc.fill_centers(thin)
    np.testing.assert_allclose(full["score"], _twin(thin["score"], thin, "linear"), rtol=1e-12)


def test_hit_rates_are_filled_and_counts_are_not(ds: xr.Dataset, tmp_path: Path) -> None:
    options = {**OPTIONS, "scoring": ["accuracy", "hit_rate", "confusion"], "center_spacing": 2}
    thin = slc.searchlight(ds, **options).compute()
    full = slc.fill_centers(thin)
    for name in ("score", "score_fold", "hit_rate", "hit_rate_fold"):
        np.testing.assert_allclose(full[name], _twin(thin[name], thin, "linear"), rtol=1e-12)
        assert full[name].attrs["filled"] == "linear"
    for name in ("confusion", "confusion_fold"):
        assert full[name].identical(thin[name])
    write_maps(full, tmp_path)
    says = {path.stem: "filled" in json.loads(path.read_text()) for path in tmp_path.glob("*.json")}
    assert len(says) > 7
    for name, is_filled in says.items():
        assert is_filled == ("_score" in name or "_hit_rate" in name), name
    for metric in ("accuracy", "hit_rate-face", "confusion-face,face"):
        title = plot_score_map(full, metric=metric, cut=4).texts[0].get_text()
        assert ("filled" in title) == (not metric.startswith("confusion")), title


def test_a_result_in_time_is_filled_lag_by_lag(ds: xr.Dataset) -> None:
    options = {**OPTIONS, "scoring": ["accuracy", "hit_rate"], "center_spacing": 2}
    thin = slc.time_resolved(ds, [0, 1], at=[0, 1, 2, 3, 6, 7, 8, 9], **options).compute()
    full = slc.fill_centers(thin)
    for name in ("score", "score_fold", "hit_rate", "hit_rate_fold"):
        assert full[name].dims[0] == "lag"
        np.testing.assert_allclose(full[name], _twin(thin[name], thin, "linear"), rtol=1e-12)


def test_what_cannot_be_filled(ds: xr.Dataset, thin: xr.Dataset) -> None:
    with pytest.raises(InputError, match="method must be one of nearest, linear, got 'cubic'"):
        slc.fill_centers(thin, method="cubic")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="expected the Dataset of slcluster.searchlight, .*got DataArray"):
        slc.fill_centers(thin["score"])  # type: ignore[arg-type]
    with pytest.raises(InputError, match="nothing to fill: .* not computed with a center_spacing above 1"):
        slc.fill_centers(slc.searchlight(ds, **OPTIONS))
    with pytest.raises(InputError, match=r"filled already \(nearest\); fill the computed one"):
        slc.fill_centers(slc.fill_centers(thin, method="nearest"))
    with pytest.raises(InputError, match="before you take a slice of it"):
        slc.fill_centers(thin.isel(z=2))
    with pytest.raises(SchemaError, match="must have dimensions"):
        slc.fill_centers(thin.transpose("z", ...))
    for part in (thin.isel(x=slice(None, None, 2)), thin.isel(y=[1, 2])):
        with pytest.raises(InputError, match="its centers are no lattice here"):
            slc.fill_centers(part)


def test_with_nothing_between_centers_nothing_changes(ds: xr.Dataset) -> None:
    only = np.zeros(SHAPE, bool)
    only[2::2, ::2, ::2] = True
    only &= ds["mask"].values
    thin = slc.searchlight(ds, center_spacing=2, process_mask=only, **OPTIONS).compute()
    full = slc.fill_centers(thin)
    np.testing.assert_array_equal(full["score"], thin["score"])


def test_results_without_a_spacing_have_no_marks(ds: xr.Dataset) -> None:
    assert not {"is_center", "fill_mask"} & set(slc.searchlight(ds, **OPTIONS))
