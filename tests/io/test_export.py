"""Maps leave in the space they came from, whole or not at all."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import xarray as xr

import slcluster as slc
from slcluster.errors import GeometryError, InputError, StoreError
from slcluster.io.export import map_image, write_atomically, write_images, write_sidecar
from tests.conftest import OBLIQUE
from tests.files import numbers, write_nifti

SHAPE = (7, 8, 9)


@pytest.fixture
def subject() -> xr.Dataset:
    return slc.subject_dataset(numbers((*SHAPE, 4), "float32"), affine=OBLIQUE)


@pytest.fixture
def score(subject: xr.Dataset) -> xr.DataArray:
    """Float64 with NaN, as a searchlight gives it."""
    values = np.random.default_rng(1).random(SHAPE)
    values[::2, 1] = np.nan
    return subject["mean"].copy(data=values.astype(np.float64))


def _load(path: Path) -> tuple[nib.Nifti1Image, np.ndarray]:
    image = nib.load(path)
    return image, np.asarray(image.dataobj)


def _ingested(folder: Path, **options: Any) -> tuple[xr.Dataset, nib.Nifti1Header]:
    path = write_nifti(folder / "bold.nii", numbers((*SHAPE, 24)), **options)
    ds = slc.ingest(path, folder / "s.zarr", mask=np.ones(SHAPE, bool))
    return ds, nib.load(path).header


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_values_land_on_their_voxels(score: xr.DataArray, tmp_path: Path, suffix: str) -> None:
    path = slc.to_nifti(score, tmp_path / f"map{suffix}")
    image, values = _load(path)
    assert path == tmp_path / f"map{suffix}"
    assert image.get_data_dtype() == np.float32
    np.testing.assert_array_equal(values, score.values.astype(np.float32))
    np.testing.assert_allclose(image.affine, OBLIQUE, atol=1e-6)


def test_background(score: xr.DataArray, tmp_path: Path) -> None:
    _, values = _load(slc.to_nifti(score, tmp_path / "map.nii", background=0))
    np.testing.assert_array_equal(values, np.nan_to_num(score.values).astype(np.float32))
    assert (values[np.isnan(score.values)] == 0).all()


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [
        ("bool", "uint8"),
        ("int32", "int32"),
        ("int64", "int32"),
        ("float32", "float32"),
        ("float64", "float32"),
    ],
)
def test_types_on_disk(subject: xr.Dataset, tmp_path: Path, dtype: str, expected: str) -> None:
    values = (numbers(SHAPE) % 50).astype(dtype)
    image, found = _load(slc.to_nifti(subject["mean"].copy(data=values), tmp_path / "map.nii.gz"))
    assert image.header.get_data_dtype() == np.dtype(expected)
    assert found.dtype.newbyteorder("=") == np.dtype(expected)
    assert (image.header["scl_slope"], image.header["scl_inter"]) in [(1, 0)] or np.isnan(
        image.header["scl_slope"]
    )
    np.testing.assert_array_equal(found, values.astype(expected))


def test_integers_that_would_wrap_are_refused(subject: xr.Dataset, tmp_path: Path) -> None:
    da = subject["mean"].copy(data=np.full(SHAPE, 2**40))
    with pytest.raises(InputError, match=r"holds 1099511627776 to 1099511627776, which int32 cannot"):
        slc.to_nifti(da, tmp_path / "map.nii")


def test_lead_dimensions_become_the_fourth_axis(subject: xr.Dataset, tmp_path: Path) -> None:
    values = np.random.default_rng(0).random((2, 3, *SHAPE))
    da = xr.DataArray(values, dict(subject["mean"].coords), ("metric", "fold", "x", "y", "z"))
    image, found = _load(slc.to_nifti(da, tmp_path / "folds.nii.gz"))
    assert image.shape == (*SHAPE, 6)
    for metric in range(2):
        for fold in range(3):
            expected = values[metric, fold].astype(np.float32)
            np.testing.assert_array_equal(found[..., 3 * metric + fold], expected)
    swapped = da.transpose("z", "metric", "x", "fold", "y")
    np.testing.assert_array_equal(_load(slc.to_nifti(swapped, tmp_path / "swapped.nii"))[1], found)


def test_lazy_maps_are_computed(score: xr.DataArray, tmp_path: Path) -> None:
    _, values = _load(slc.to_nifti(score.chunk(x=3), tmp_path / "map.nii"))
    np.testing.assert_array_equal(values, score.values.astype(np.float32))


@pytest.mark.parametrize("forms", [(1, 1), (4, 2), (2, 0), (0, 1), (0, 0)])
@pytest.mark.parametrize("units", [("mm", "sec"), ("unknown", "unknown")])
def test_forms_and_codes_of_the_source_are_kept(
    tmp_path: Path, forms: tuple[int, int], units: tuple[str, str]
) -> None:
    ds, source = _ingested(tmp_path, forms=forms, units=units)
    written = nib.load(slc.to_nifti(ds["mean"], tmp_path / "map.nii.gz"))
    header = written.header
    assert (int(header["sform_code"]), int(header["qform_code"])) == forms
    assert header.get_xyzt_units() == (units[0], "unknown")  # a map has no time
    np.testing.assert_array_equal(written.affine, nib.load(tmp_path / "bold.nii").affine)
    np.testing.assert_allclose(header.get_zooms(), source.get_zooms()[:3], rtol=1e-6)
    if forms[0]:
        np.testing.assert_array_equal(header.get_sform(), source.get_sform())
    if forms[1]:
        np.testing.assert_allclose(header.get_qform(), source.get_qform(), atol=1e-5)


def test_forms_that_disagree_both_survive(tmp_path: Path) -> None:
    other = np.diag([2.0, -2.5, 3.0, 1.0])
    other[:3, 3] = [5, 6, 7]
    ds, source = _ingested(tmp_path, forms=(3, 1), change=lambda header: header.set_qform(other, 1))
    header = nib.load(slc.to_nifti(ds["mean"], tmp_path / "map.nii")).header
    np.testing.assert_array_equal(header.get_sform(), source.get_sform())
    np.testing.assert_allclose(header.get_qform(), other, atol=1e-5)
    part = slc.to_nifti(ds["mean"].isel(x=slice(2, None), y=slice(1, None, 3)), tmp_path / "part.nii")
    header = nib.load(part).header
    corner, stride = np.array([2, 1, 0, 1]), np.array([2, 4, 0, 1])
    for form, whole in ((header.get_sform(), source.get_sform()), (header.get_qform(), other)):
        np.testing.assert_allclose(form @ [0, 0, 0, 1], whole @ corner, atol=1e-4)
        np.testing.assert_allclose(form @ [0, 1, 0, 1], whole @ stride, atol=1e-4)


@pytest.mark.parametrize("forms", [(1, 1), (0, 1), (0, 0)])
def test_a_part_is_written_where_it_lies(tmp_path: Path, forms: tuple[int, int]) -> None:
    ds, _ = _ingested(tmp_path, forms=forms)
    affine, whole = ds.affine.values, ds["mean"]
    for number, part in enumerate(
        (
            whole.isel(x=slice(2, 6), y=slice(1, None), z=[4]),
            whole.isel(x=slice(None, None, -1)),
            whole.isel(z=slice(1, None, 3)),
            whole.isel(y=5),
            whole.isel(x=3, z=2),
        )
    ):
        image, values = _load(slc.to_nifti(part, tmp_path / f"part-{number}.nii"))
        assert image.ndim == 3
        for ijk in np.ndindex(*image.shape):
            world = image.affine @ [*ijk, 1]
            source = np.rint(np.linalg.inv(affine) @ world).astype(int)[:3]
            np.testing.assert_allclose(affine @ [*source, 1], world, atol=1e-3)
            assert values[ijk] == whole.values[tuple(source)]


def test_maps_without_a_header_are_aligned(score: xr.DataArray, tmp_path: Path) -> None:
    header = nib.load(slc.to_nifti(score, tmp_path / "map.nii")).header
    assert (int(header["sform_code"]), int(header["qform_code"])) == (2, 0)
    assert header.get_xyzt_units()[0] == "mm"


def test_maps_keep_their_space_through_arithmetic(tmp_path: Path) -> None:
    ds, source = _ingested(tmp_path, forms=(4, 1))
    mean = ds["mean"]
    for da in (
        mean - 0.5,
        mean * mean,
        mean > 3,
        mean.where(mean > 3),
        mean.notnull(),
        np.log(abs(mean) + 1),
    ):
        header = nib.load(slc.to_nifti(da, tmp_path / "map.nii")).header
        assert int(header["sform_code"]) == 4
        np.testing.assert_array_equal(header.get_sform(), source.get_sform())


def test_the_real_slice_opens_in_its_space(test_data: Path, tmp_path: Path) -> None:
    source = test_data / "haxby2001"
    ds = slc.ingest(
        source / "subj1" / "bold.nii.gz",
        tmp_path / "s.zarr",
        mask=source / "mask.nii.gz",
        labels=source / "subj1" / "labels.txt",
    )
    original = nib.load(source / "subj1" / "bold.nii.gz")
    image, values = _load(slc.to_nifti(ds["mean"], tmp_path / "mean.nii.gz"))
    np.testing.assert_array_equal(image.affine, original.affine)
    for field in ("qform_code", "sform_code", "quatern_b", "quatern_c", "quatern_d", "qoffset_x", "srow_x"):
        np.testing.assert_array_equal(image.header[field], original.header[field])
    np.testing.assert_allclose(values, np.asarray(original.dataobj).mean(axis=-1), rtol=1e-6)


@pytest.mark.parametrize(
    ("take", "message"),
    [
        (lambda ds: ds, r"expected a map .* got Dataset; pass one variable, such as maps.score"),
        (lambda ds: ds["mean"].values, "got ndarray"),
        (lambda ds: ds["run"], r"got dims \('sample',\)"),
        (lambda ds: ds["mean"].drop_vars("space"), r"got dims \('x', 'y', 'z'\)"),
        (lambda ds: ds["mean"].astype(complex), "got complex128"),
    ],
)
def test_what_is_not_a_map_is_refused(subject: xr.Dataset, tmp_path: Path, take: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        slc.to_nifti(take(subject), tmp_path / "map.nii")
    assert not list(tmp_path.iterdir())


def test_other_file_types_are_refused(score: xr.DataArray, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"ending in .nii or .nii.gz, got map.img"):
        slc.to_nifti(score, tmp_path / "map.img")


def test_a_part_that_is_no_grid_is_refused(score: xr.DataArray, tmp_path: Path) -> None:
    with pytest.raises(GeometryError, match="not evenly spaced"):
        slc.to_nifti(score.isel(x=[0, 1, 4]), tmp_path / "map.nii")


def test_where_nothing_can_be_written(score: xr.DataArray, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    for path in (tmp_path / "file" / "map.nii.gz", tmp_path / "file" / "deeper" / "map.nii"):
        with pytest.raises(
            StoreError, match=rf"cannot write {path}: .*[Nn]ot a directory|File exists"
        ) as caught:
            slc.to_nifti(score, path)
        assert "\n" not in str(caught.value)
    (tmp_path / "map.nii").mkdir()
    with pytest.raises(StoreError, match="cannot write"):
        slc.to_nifti(score, tmp_path / "map.nii")
    assert sorted(os.listdir(tmp_path)) == ["file", "map.nii"]


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "map.txt"
    path.write_text("old")

    def fill_the_disk(partial: Path) -> None:
        partial.write_text("new, but cut o")
        raise OSError(28, "No space left on device")

    with pytest.raises(StoreError, match=r"cannot write .*map.txt: No space left on device"):
        write_atomically(path, fill_the_disk)
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["map.txt"]


def test_folders_are_made_and_files_replaced(score: xr.DataArray, tmp_path: Path) -> None:
    path = tmp_path / "maps" / "deep" / "map.nii"
    slc.to_nifti(score, path)
    slc.to_nifti(score + 1, path)
    np.testing.assert_array_equal(_load(path)[1], (score.values + 1).astype(np.float32))
    assert os.listdir(path.parent) == ["map.nii"]


def test_image_in_memory_is_the_one_written(score: xr.DataArray, tmp_path: Path) -> None:
    image, values = _load(slc.to_nifti(score, tmp_path / "map.nii", background=0))
    in_memory = map_image(score, background=0)
    np.testing.assert_array_equal(np.asarray(in_memory.dataobj), values)
    np.testing.assert_allclose(in_memory.affine, image.affine, atol=1e-5)


def test_sidecar_is_plain_sorted_json(tmp_path: Path) -> None:
    info = {
        "b": np.float64(np.nan),
        "a": [np.int32(3), np.inf, {"y": np.array([[1.5, -np.inf]]), "x": np.bool_(True)}],
        "path": Path("some/where"),
        "nothing": None,
        "zero_d": np.array(2),
        7: "number",
    }
    path = write_sidecar(tmp_path / "deep" / "map.json", info)
    text = path.read_text()
    assert json.loads(text) == {
        "7": "number",
        "a": [3, None, {"x": True, "y": [[1.5, None]]}],
        "b": None,
        "nothing": None,
        "path": "some/where",
        "zero_d": 2,
    }
    assert text.index('"7"') < text.index('"a"') < text.index('"b"') < text.index('"zero_d"')
    again = write_sidecar(tmp_path / "again.json", dict(reversed(info.items())))
    assert again.read_bytes() == path.read_bytes()


def test_sidecar_where_nothing_can_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="cannot write"):
        write_sidecar(tmp_path / "file" / "map.json", {})


def test_images_of_a_subject_go_through_ingest(tmp_path: Path) -> None:
    ds = slc.simulate(shape=(9, 12, 10), n_runs=4, conditions=("small face", "house"), tr_s=1.25, seed=2)
    paths = write_images(ds, tmp_path / "files")
    assert sorted(os.listdir(tmp_path / "files")) == ["bold.nii.gz", "labels.txt", "mask.nii.gz"]
    assert paths["labels"].read_text().splitlines()[0] == "labels chunks"
    assert pd.read_csv(paths["labels"], sep=r"\s+").shape == (ds.sizes["sample"], 2)
    back = slc.ingest(paths["bold"], tmp_path / "s.zarr", mask=paths["mask"], labels=paths["labels"])
    assert back.bold.dtype == np.int16
    np.testing.assert_array_equal(back.bold.values, ds.bold.values)
    np.testing.assert_array_equal(back.mask.values, ds.mask.values)
    assert back.condition.values.tolist() == ds.condition.values.tolist()
    np.testing.assert_array_equal(back.run.values, ds.run.values)
    np.testing.assert_allclose(back.affine.values, ds.affine.values)
    assert back.attrs["tr_s"] == 1.25


@pytest.mark.parametrize("dtype", ["float32", "float64", "int64", "uint16"])
def test_images_keep_their_type(tmp_path: Path, dtype: str) -> None:
    bold = abs(numbers((*SHAPE, 3), "int16")).astype(dtype)
    ds = slc.subject_dataset(bold, affine=OBLIQUE)
    image, values = _load(write_images(ds, tmp_path)["bold"])
    assert image.get_data_dtype() == np.dtype(dtype)
    np.testing.assert_array_equal(values, bold)
    np.testing.assert_allclose(image.affine, OBLIQUE, atol=1e-6)
