"""The contract: what validate() accepts and refuses, and where a grid lies."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from slcluster.errors import GeometryError, SchemaError
from slcluster.schema import (
    RESULT,
    SCHEMA_VERSION,
    SUBJECT,
    grid_affine,
    source_affine,
    space_coords,
    subject_dataset,
    validate,
)

SHAPE = (7, 8, 9)


@pytest.fixture
def ds(oblique: np.ndarray) -> xr.Dataset:
    bold = np.random.default_rng(0).normal(size=(*SHAPE, 6)).astype(np.float32)
    return subject_dataset(bold, affine=oblique, condition=["a", "b"] * 3, run=[0, 0, 1, 1, 2, 2])


def test_a_subject_satisfies_its_contract(ds: xr.Dataset) -> None:
    assert validate(ds, SUBJECT) is ds
    np.testing.assert_allclose(ds["mean"], ds["bold"].mean("sample"), rtol=1e-5)
    assert ds["mask"].all()
    assert not ds["nonfinite"].any()


def test_nonfinite_is_flagged(oblique: np.ndarray) -> None:
    bold = np.zeros((*SHAPE, 3))
    bold[1, 2, 3, 1], bold[4, 5, 6, 0] = np.nan, np.inf
    found = np.argwhere(subject_dataset(bold, affine=oblique)["nonfinite"].values).tolist()
    assert found == [[1, 2, 3], [4, 5, 6]]


@pytest.mark.parametrize("name", ["bold", "mask", "mean", "nonfinite"])
def test_a_missing_variable_is_named(ds: xr.Dataset, name: str) -> None:
    with pytest.raises(SchemaError, match=f"'{name}' .* is missing; found .*affine"):
        validate(ds.drop_vars(name), SUBJECT)


@pytest.mark.parametrize("name", ["condition", "run", "sample_index", "affine"])
def test_a_missing_coordinate_is_named(ds: xr.Dataset, name: str) -> None:
    with pytest.raises(SchemaError, match=f"'{name}' .* is missing"):
        validate(ds.drop_vars(name), SUBJECT)


def test_dimensions_and_dtypes_are_held(ds: xr.Dataset) -> None:
    with pytest.raises(
        SchemaError, match=r"'bold' must have dimensions .*'x', 'y', 'z', 'sample'.*got .*'sample', 'x'"
    ):
        validate(ds.transpose("sample", "x", "y", "z", ...), SUBJECT)
    with pytest.raises(SchemaError, match="'mask' must have a dtype of kind b, got int64"):
        validate(ds.assign(mask=ds["mask"].astype(int)), SUBJECT)


def test_kind_version_and_type_are_held(ds: xr.Dataset) -> None:
    with pytest.raises(SchemaError, match="expected a result Dataset, got a subject Dataset"):
        validate(ds, RESULT)
    with pytest.raises(SchemaError, match=f"schema version {SCHEMA_VERSION + 1} is newer .* upgrade"):
        validate(ds.assign_attrs(schema_version=SCHEMA_VERSION + 1), SUBJECT)
    with pytest.raises(SchemaError, match="expected an xarray.Dataset .* got ndarray"):
        validate(np.zeros(3), SUBJECT)  # type: ignore[arg-type]


def test_a_result_may_have_metrics_or_not() -> None:
    axes = {name: np.arange(size) for name, size in zip("xyz", SHAPE, strict=True)}
    coords = {**axes, **space_coords(np.diag([2.0, 3, 4, 1]), {})}
    one = xr.Dataset({"score": (("x", "y", "z"), np.zeros(SHAPE))}, coords)
    several = xr.Dataset({"score": (("metric", "x", "y", "z"), np.zeros((2, *SHAPE)))}, coords)
    wrong = xr.Dataset({"score": (("x", "y", "z", "metric"), np.zeros((*SHAPE, 2)))}, coords)
    assert validate(one, RESULT) is one
    assert validate(several, RESULT) is several
    with pytest.raises(SchemaError, match="'score' must have dimensions"):
        validate(wrong, RESULT)


def test_arrays_of_other_lengths_are_refused(oblique: np.ndarray) -> None:
    bold = np.zeros((*SHAPE, 4), np.int16)
    with pytest.raises(SchemaError, match="'run' has 3 values for 4 samples"):
        subject_dataset(bold, affine=oblique, run=[0, 0, 0])
    with pytest.raises(SchemaError, match="mask has shape"):
        subject_dataset(bold, affine=oblique, mask=np.ones((8, 7, 9)))
    with pytest.raises(SchemaError, match=r"dimensions \(x, y, z, sample\), got shape \(7, 8, 9\)"):
        subject_dataset(bold[..., 0], affine=oblique)


def test_the_affine_of_a_crop_points_at_the_same_places(ds: xr.Dataset, oblique: np.ndarray) -> None:
    crop = ds.isel(x=slice(2, 7, 2), y=slice(None, None, -1), z=slice(3, 4))
    np.testing.assert_allclose(grid_affine(crop) @ [1, 2, 0, 1], oblique @ [4, 5, 3, 1])
    np.testing.assert_allclose(grid_affine(ds), oblique)


def test_a_map_keeps_its_place_outside_its_dataset(ds: xr.Dataset, oblique: np.ndarray) -> None:
    mean = (ds["mean"] * 2).isel(x=slice(1, None), z=2)
    np.testing.assert_array_equal(source_affine(mean), oblique)
    np.testing.assert_allclose(grid_affine(mean) @ [0, 0, 0, 1], oblique @ [1, 0, 2, 1])


def test_uneven_and_placeless_grids_are_refused(ds: xr.Dataset) -> None:
    with pytest.raises(GeometryError, match="axis 'y' is not evenly spaced"):
        grid_affine(ds.isel(y=[0, 1, 3]))
    with pytest.raises(GeometryError, match="no affine"):
        source_affine(xr.DataArray(np.zeros(3)))
