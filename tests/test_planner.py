"""What the planner refuses, and in which words; what it warns of. Labels and folds: ``test_design.py``."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import xarray as xr
from sklearn.metrics import make_scorer, r2_score

import slcluster as slc
from slcluster.errors import GeometryError, InputError, SchemaError
from slcluster.store import open_store, write_array_store
from tests.conftest import OBLIQUE
from tests.witness import Total, noise_dataset, place_dataset


@pytest.fixture(scope="module")
def ds() -> xr.Dataset:
    return noise_dataset(affine=OBLIQUE)


def _refused(ds: xr.Dataset, kind: type[Exception], words: str, **options: Any) -> None:
    with pytest.raises(kind, match=words) as caught:
        slc.plan(ds, **{"radius_mm": 5.5, **options})
    assert "\n" not in str(caught.value)


# --- radius


@pytest.mark.parametrize("radius_mm", [0, -2.5, float("nan"), float("inf"), -float("inf")])
def test_a_radius_that_is_not_positive_and_finite(ds: xr.Dataset, radius_mm: float) -> None:
    _refused(
        ds,
        GeometryError,
        f"radius_mm must be a positive number of millimetres, got {float(radius_mm)}",
        radius_mm=radius_mm,
    )


@pytest.mark.parametrize("radius_mm", ["wide", None, [4.0, 5.0]])
def test_a_radius_that_is_no_number(ds: xr.Dataset, radius_mm: Any) -> None:
    _refused(ds, GeometryError, "radius_mm must be a number of millimetres, got", radius_mm=radius_mm)


def test_neither_a_radius_nor_a_number_of_voxels(ds: xr.Dataset) -> None:
    words = "got None; or pass n_voxels, the number of voxels in a sphere"
    _refused(ds, GeometryError, words, radius_mm=None)
    with pytest.raises(GeometryError, match=words):
        slc.plan(ds)


def test_a_radius_below_the_voxel_spacing_is_allowed_with_a_warning(ds: xr.Dataset) -> None:
    with pytest.warns(UserWarning, match=r"radius_mm=1.5 is below the smallest voxel spacing \(3.02\d* mm\)"):
        plan = slc.plan(ds, radius_mm=1.5)
    assert set(plan.geometry.sphere_size) == {1}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        slc.plan(ds, radius_mm=3.1)


def test_warnings_point_at_the_callers_line(ds: xr.Dataset) -> None:
    for call in (slc.plan, slc.searchlight):
        with pytest.warns(UserWarning, match="below the smallest") as caught:
            call(ds, radius_mm=1.5)
        assert caught[0].filename == __file__


# --- metrics


@pytest.mark.parametrize(
    ("scoring", "words"),
    [
        ("f1", "scoring='f1' cannot score face, house: pos_label=1 .*; pass scoring='f1_macro' or "),
        (
            ["accuracy", "average_precision"],
            r"'average_precision' cannot .*make_scorer\(average_precision_score, ",
        ),
        ("neg_brier_score", "pos_label='house', response_method='predict_proba', greater_is_better=False"),
    ],
)
def test_metrics_that_need_to_know_the_positive_class(ds: xr.Dataset, scoring: Any, words: str) -> None:
    for engine in ("auto", "sklearn"):
        _refused(ds, InputError, words, scoring=scoring, estimator="gnb", engine=engine)
    numbered = ds.assign_coords(seen=("sample", np.arange(24) % 2))
    slc.plan(numbered, radius_mm=5.5, scoring=scoring, estimator="gnb", target="seen")


def test_metrics_of_two_classes(ds: xr.Dataset) -> None:
    three = ds.assign_coords(condition=("sample", np.array(["cat", "face", "house"])[np.arange(24) % 3]))
    _refused(three, InputError, "cat, face, house: .*; pass scoring='roc_auc_ovr'", scoring="roc_auc")
    _refused(three, InputError, "pass scoring='recall_macro'", scoring="recall")
    slc.plan(three, radius_mm=5.5, scoring="roc_auc_ovr", estimator="gnb")


def test_metrics_of_positive_numbers(ds: xr.Dataset) -> None:
    options = {"target": "drift", "estimator": "ridge", "scoring": "neg_mean_squared_log_error"}
    _refused(
        ds.assign_coords(drift=("sample", np.linspace(-2, 1, 24))),
        InputError,
        "cannot score these",
        **options,
    )
    slc.plan(ds.assign_coords(drift=("sample", np.linspace(0, 1, 24))), radius_mm=5.5, **options)


# --- a number of voxels


def test_more_voxels_than_the_mask_has(ds: xr.Dataset) -> None:
    n = int(ds["mask"].sum())
    words = f"n_voxels={n + 1}, but the mask has only {n} voxels; pass fewer"
    _refused(ds, GeometryError, words, radius_mm=None, n_voxels=n + 1)
    whole = slc.plan(ds, n_voxels=n).geometry
    assert set(whole.sphere_size) == {n}
    assert all(halo <= size - 1 for halo, size in zip(whole.halo, whole.shape, strict=True))
    assert slc.plan(ds, n_voxels=n + 1, radius_mm=5.5).geometry.sphere_size.max() < n


def test_a_number_of_voxels_within_a_radius(ds: xr.Dataset) -> None:
    within = slc.plan(ds, radius_mm=5.5).geometry.sphere_size
    both = slc.plan(ds, radius_mm=5.5, n_voxels=6).geometry
    assert sorted(both.sphere_size) == sorted(np.minimum(within, 6))
    assert set(slc.plan(ds, n_voxels=6).geometry.sphere_size) == {6}
    _refused(ds, GeometryError, "lower min_voxels or raise n_voxels", n_voxels=6, min_voxels=7)


def test_one_voxel_far_out_does_not_make_every_block_read_the_grid() -> None:
    mask = np.zeros((5, 4, 24), bool)
    mask[1:4, :, :8] = mask[2, 2, 23] = True
    ds = place_dataset((5, 4, 24), OBLIQUE, mask=mask)
    plan = slc.plan(ds, n_voxels=12, block_centers=8)
    assert plan.geometry.halo[2] >= 16
    windows = [plan.geometry.window(plan.block(i)) for i in range(plan.n_blocks)]
    *others, last = sorted(z.stop - z.start for _, _, z in windows)
    assert max(others) < 12
    assert last >= 17
    assert plan.worker_bytes < slc.plan(ds, n_voxels=12, block_centers=97).worker_bytes


# --- every n-th voxel


@pytest.mark.parametrize("spacing", [2, 3, (1, 2, 3), np.array([2, 1, 1]), [1, 1, 2]])
def test_centers_are_every_nth_voxel(ds: xr.Dataset, spacing: Any) -> None:
    plan = slc.plan(ds, radius_mm=5.5, center_spacing=spacing)
    each = np.broadcast_to(spacing, 3)
    expected = ds["mask"].values & (np.indices((4, 5, 3)) % each[:, None, None, None] == 0).all(axis=0)
    assert np.array_equal(plan.geometry.process_mask, expected)
    assert sorted(map(tuple, plan.geometry.centers_ijk)) == sorted(map(tuple, np.argwhere(expected)))
    assert np.array_equal(plan.geometry.fill_mask, ds["mask"].values)
    assert plan.geometry.center_spacing == tuple(each)
    assert slc.plan(ds, radius_mm=5.5, center_spacing=(1, 1, 1)).geometry.fill_mask is None


def test_a_crop_has_the_centers_of_the_whole(ds: xr.Dataset) -> None:
    options: dict[str, Any] = {"radius_mm": 5.5, "center_spacing": (2, 2, 1)}

    def voxels(part: xr.Dataset) -> set[tuple[int, ...]]:
        geometry = slc.plan(part, **options).geometry
        return {tuple(int(a[i]) for a, i in zip(geometry.axes, c, strict=True)) for c in geometry.centers_ijk}

    whole = voxels(ds)
    assert voxels(ds.isel(x=slice(1, None), y=slice(1, 4))) == {
        (i, j, k) for i, j, k in whole if i and 0 < j < 4
    }
    assert voxels(ds.isel(x=slice(None, None, -1))) == whole
    # A coarser grid is counted in its own voxels: of 1 and 3 along x, the first.
    assert {i for i, _, _ in voxels(ds.isel(x=slice(1, None, 2)))} == {1}


@pytest.mark.parametrize(
    "spacing", [0, -2, 2.0, True, "2", None, (2, 2), (2, 2, 0), (1, 2.5, 1), [[2], 2, 2]]
)
def test_a_spacing_that_is_none(ds: xr.Dataset, spacing: Any) -> None:
    words = "center_spacing must be a whole number of at least 1, or three of them for x, y and z, got"
    _refused(ds, InputError, words, center_spacing=spacing)


def test_a_spacing_that_leaves_no_center(ds: xr.Dataset) -> None:
    words = (
        r"center_spacing=\(2, 2, 2\) leaves no center: none of the \d+ voxels .*center_spacing=\(2, 2, 1\)"
    )
    _refused(ds.isel(z=[1]), GeometryError, words, center_spacing=2)
    assert slc.plan(ds.isel(z=[1]), radius_mm=5.5, center_spacing=(2, 2, 1)).n_centers


# --- masks


def test_an_empty_mask(ds: xr.Dataset) -> None:
    _refused(
        ds.assign(mask=ds["mask"] & False), GeometryError, "the mask has no voxels; give one that covers"
    )


def test_an_empty_process_mask(ds: xr.Dataset) -> None:
    _refused(ds, InputError, "process mask is empty: none of its 60 voxels", process_mask=np.zeros((4, 5, 3)))


@pytest.mark.parametrize("shape", [(4, 5, 2), (5, 4, 3), (60,)])
def test_a_process_mask_of_another_shape(ds: xr.Dataset, shape: tuple[int, ...]) -> None:
    _refused(
        ds,
        GeometryError,
        r"process mask has shape .*, the samples have \(4, 5, 3\); .*resample_to_img",
        process_mask=np.ones(shape),
    )


def test_a_process_mask_elsewhere_in_space(ds: xr.Dataset, tmp_path: Path) -> None:
    affine = OBLIQUE.copy()
    affine[0, 3] += 2
    image = nib.Nifti1Image(np.ones((4, 5, 3), np.uint8), affine)
    nib.save(image, tmp_path / "mask.nii.gz")
    for mask in (image, tmp_path / "mask.nii.gz", str(tmp_path / "mask.nii.gz")):
        _refused(
            ds,
            GeometryError,
            "lies up to 2 mm off the grid of the samples .*resample_to_img",
            process_mask=mask,
        )


def test_a_process_mask_may_be_a_path_an_image_or_an_array(ds: xr.Dataset, tmp_path: Path) -> None:
    values = (np.indices((4, 5, 3)).sum(axis=0) % 3 == 0) & ds["mask"].values
    image = nib.Nifti1Image(values.astype(np.uint8), OBLIQUE)
    nib.save(image, tmp_path / "mask.nii.gz")
    array = xr.DataArray(values, dims=("x", "y", "z"))
    for mask in (
        values,
        values.astype(float),
        array,
        array.transpose("z", "x", "y"),
        image,
        tmp_path / "mask.nii.gz",
    ):
        plan = slc.plan(ds, radius_mm=5.5, process_mask=mask)
        assert np.array_equal(plan.geometry.process_mask, values)
        assert plan.n_centers == values.sum()


def test_a_process_mask_of_a_cropped_dataset_lies_on_the_crop(ds: xr.Dataset) -> None:
    part = ds.isel(x=slice(1, None), z=[1])
    shifted = OBLIQUE.copy()
    shifted[:3, 3] += OBLIQUE[:3, :3] @ [1, 0, 1]
    where = part["mask"].values & (np.arange(5)[:, None] != 2)
    plan = slc.plan(part, radius_mm=5.5, process_mask=nib.Nifti1Image(where.astype(np.uint8), shifted))
    assert np.array_equal(plan.geometry.process_mask, where)
    _refused(
        part,
        GeometryError,
        "off the grid of the samples",
        process_mask=nib.Nifti1Image(where.astype(np.uint8), OBLIQUE),
    )


def test_centers_outside_the_mask_are_counted_in_a_warning(ds: xr.Dataset) -> None:
    n_outside = int((~ds["mask"].values).sum())
    with pytest.warns(
        UserWarning, match=f"{n_outside} of 60 centers lie outside the mask; they are scored from"
    ):
        plan = slc.plan(ds, radius_mm=5.5, process_mask=np.ones((4, 5, 3)))
    assert plan.n_centers == 60


def test_an_empty_sphere_is_nan_of_size_zero() -> None:
    mask = np.zeros((5, 4, 3), bool)
    mask[0, :2] = True
    ds = place_dataset((5, 4, 3), OBLIQUE, mask=mask)
    where = mask.copy()
    where[4, 3, 2] = True
    with pytest.warns(UserWarning, match="1 of 7 centers lie outside"):
        maps = slc.searchlight(
            ds, radius_mm=4.5, estimator=Total(), scoring=None, process_mask=where
        ).compute()
    assert np.isnan(maps["score"].values[4, 3, 2])
    assert maps["sphere_size"].values[4, 3, 2] == 0
    assert maps["score"].notnull().sum() == 6


# --- values that are not finite


@pytest.fixture
def spoilt(ds: xr.Dataset) -> xr.Dataset:
    bold = ds["bold"].values.copy()
    inside = np.argwhere(ds["mask"].values)
    bold[(*inside[3], 5)], bold[(*inside[9], 0)] = np.nan, -np.inf
    bold[(*np.argwhere(~ds["mask"].values)[0], 1)] = np.nan  # outside the mask: nobody minds
    return slc.subject_dataset(
        bold,
        affine=OBLIQUE,
        mask=ds["mask"].values,
        condition=ds["condition"].values,
        run=ds["run"].values,
    )


@pytest.mark.parametrize("kind", ["memory", "store"])
def test_non_finite_voxels(kind: str, spoilt: xr.Dataset, tmp_path: Path) -> None:
    inside = np.argwhere(spoilt["mask"].values)
    if kind == "store":
        spoilt = open_store(write_array_store(spoilt, tmp_path / "s.zarr"))
    first = ", ".join(map(str, inside[3]))
    _refused(
        spoilt,
        InputError,
        rf'2 mask voxels hold NaN or infinite values, the first at voxel \({first}\); pass nonfinite="exclude"',
    )
    excluded = slc.plan(spoilt, radius_mm=5.5, nonfinite="exclude").geometry
    assert np.array_equal(np.argwhere(spoilt["mask"].values & ~excluded.mask), inside[[3, 9]])
    assert np.array_equal(excluded.mask, excluded.process_mask)
    zeroed = slc.plan(spoilt, radius_mm=5.5, nonfinite="zero").geometry
    assert np.array_equal(zeroed.mask, spoilt["mask"].values)


@pytest.mark.parametrize("kind", ["memory", "store"])
def test_the_map_of_each_policy(kind: str, spoilt: xr.Dataset, tmp_path: Path) -> None:
    inside = np.argwhere(spoilt["mask"].values)
    mask, bold = spoilt["mask"].values.copy(), spoilt["bold"].values.copy()
    if kind == "store":
        spoilt = open_store(write_array_store(spoilt, tmp_path / "s.zarr"))
    options: dict[str, Any] = {"radius_mm": 5.5, "estimator": Total(), "scoring": None, "block_centers": 9}
    zero = slc.searchlight(spoilt, nonfinite="zero", **options)["score"].values
    excluded = slc.searchlight(spoilt, nonfinite="exclude", **options)["score"].values
    labels = {"condition": spoilt["condition"].values, "run": spoilt["run"].values}
    bold[~np.isfinite(bold)] = 0
    plain = slc.subject_dataset(bold, affine=OBLIQUE, mask=mask, **labels)
    np.testing.assert_array_equal(zero, slc.searchlight(plain, **options)["score"].values)
    mask[tuple(inside[[3, 9]].T)] = False
    plain = slc.subject_dataset(bold, affine=OBLIQUE, mask=mask, **labels)
    np.testing.assert_array_equal(excluded, slc.searchlight(plain, **options)["score"].values)


@pytest.mark.parametrize("kind", ["memory", "store"])
def test_only_the_samples_that_are_left_count(kind: str, spoilt: xr.Dataset, tmp_path: Path) -> None:
    if kind == "store":
        spoilt = open_store(write_array_store(spoilt, tmp_path / "s.zarr"))
    rest = spoilt.isel(sample=slice(6, None))
    assert slc.plan(rest, radius_mm=5.5).geometry.mask.sum() == spoilt["mask"].sum()


@pytest.mark.parametrize(
    "change", ["rechunked", "cropped", "arithmetic", "selected twice", "cut short", "in memory"]
)
def test_no_line_is_fitted_to_what_is_left_of_a_run(change: str, tmp_path: Path) -> None:
    """Where the other samples of a run cannot be read any more, for a searchlight and for an F map."""
    whole = noise_dataset(affine=OBLIQUE, n_runs=3, per_run=8)
    ds = open_store(write_array_store(whole, tmp_path / "s.zarr"))
    changed = {
        "rechunked": lambda: slc.select(ds, where=np.arange(24) % 4 != 1).chunk({"x": 1}),
        "cropped": lambda: slc.select(ds, where=np.arange(24) % 4 != 1).isel(x=slice(1, None)),
        "arithmetic": lambda: ds.assign(bold=ds["bold"] - 1.0).isel(sample=np.arange(24) % 4 != 1),
        "selected twice": lambda: ds.isel(sample=np.arange(24) % 4 != 1).isel(sample=slice(1, None)),
        "cut short": lambda: ds.assign(bold=ds["bold"] - 1.0).isel(sample=slice(0, 22)),
        "in memory": lambda: whole.isel(sample=np.arange(24) % 4 != 1),
    }[change]()
    message = r"fits a line to whole runs, but of run \d only \d samples are here"
    with pytest.raises(InputError, match=message):
        slc.plan(changed, radius_mm=4.0, detrend=True)
    with pytest.raises(InputError, match=message):
        slc.f_score(changed, detrend=True)
    slc.plan(changed, radius_mm=4.0)
    slc.plan(ds.assign(bold=ds["bold"] - 1.0).isel(x=slice(1, None)), radius_mm=4.0, detrend=True)


def test_but_detrending_needs_whole_runs(spoilt: xr.Dataset, tmp_path: Path) -> None:
    """A NaN in a sample that is not analysed would spoil its whole run."""
    stored = open_store(write_array_store(spoilt, tmp_path / "s.zarr"))
    ds = slc.select(stored, where=np.arange(24) != 5)
    _refused(ds, InputError, "2 mask voxels hold NaN", detrend=True)
    maps = slc.searchlight(ds, radius_mm=5.5, detrend=True, nonfinite="exclude", standardize="run")
    assert maps["score"].notnull().sum() == spoilt["mask"].sum() - 2


def test_nothing_but_nan(ds: xr.Dataset) -> None:
    _refused(
        ds.assign(bold=ds["bold"] * np.nan),
        GeometryError,
        "every mask voxel holds a non-finite",
        nonfinite="exclude",
    )


def test_a_labelled_process_mask_lies_where_its_indices_say(ds: xr.Dataset) -> None:
    """By position it would be another part of the brain, without a word."""
    wanted = ds["mask"] & (ds["x"] == 1)
    plan = slc.plan(ds, radius_mm=5.5, process_mask=wanted.transpose("z", "x", "y"))
    assert set(plan.geometry.centers_ijk[:, 0].tolist()) == {1}
    for other in (wanted.isel(x=slice(None, None, -1)), wanted.assign_coords(x=wanted["x"] + 1)):
        _refused(ds, SchemaError, "process mask has other voxel indices along x", process_mask=other)
    _refused(ds, SchemaError, "must have the dimensions x, y and z", process_mask=wanted.isel(z=0))


# --- words and numbers


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"standardize": "session"}, 'standardize must be None or "run" or "fold", got \'session\''),
        ({"standardize": True}, 'standardize must be None or "run" or "fold", got True'),
        ({"nonfinite": "drop"}, "nonfinite must be one of error, zero, exclude, got 'drop'"),
        ({"min_voxels": 0}, "min_voxels must be a whole number of at least 1, got 0"),
        ({"min_voxels": 2.5}, r"min_voxels must be a whole number of at least 1, got 2\.5"),
        ({"min_voxels": True}, "min_voxels must be a whole number of at least 1, got True"),
        ({"detrend": "no"}, "detrend must be True or False, got 'no'"),
        ({"radius_mm": True}, "radius_mm must be a number of millimetres, got True"),
        ({"min_voxels": 1000}, "the largest sphere has .* voxels: every score would be NaN"),
        ({"scoring": "r2"}, "scoring='r2' is for predicted numbers; pass scoring='accuracy'"),
        ({"scoring": {"mine": make_scorer(r2_score)}}, "scoring='mine' is for predicted numbers"),
        ({"n_voxels": 0}, "n_voxels must be a whole number of at least 1, got 0"),
        ({"n_voxels": 10.0}, r"n_voxels must be a whole number of at least 1, got 10\.0"),
        ({"n_voxels": "many"}, "n_voxels must be a whole number of at least 1, got 'many'"),
        ({"block_centers": -1}, "block_centers must be a whole number of at least 1, got -1"),
        ({"block_centers": "many"}, "block_centers must be a whole number of at least 1, got 'many'"),
        (
            {"memory_limit": "lots"},
            'memory_limit must be bytes, or a size such as "512MB" or "2GiB", got \'lots\'',
        ),
        ({"memory_limit": 0}, "memory_limit must be bytes, .* got 0"),
        ({"memory_limit": -5}, "memory_limit must be bytes, .* got -5"),
        ({"estimator": "svm"}, "unknown estimator 'svm'; did you mean .*'svc'"),
        ({"scoring": "acuracy"}, "unknown scorer 'acuracy'; did you mean 'accuracy'"),
        ({"engine": "gpu"}, "unknown engine 'gpu'; known: auto, .*sklearn"),
    ],
)
def test_words_that_are_not_known(ds: xr.Dataset, options: dict[str, Any], words: str) -> None:
    _refused(ds, InputError, words, **options)


def test_preparation_of_the_f_map_is_checked_likewise(ds: xr.Dataset) -> None:
    with pytest.raises(InputError, match="detrend must be True or False, got 'no'"):
        slc.f_score(ds, detrend="no")


def test_something_that_is_no_subject(ds: xr.Dataset) -> None:
    with pytest.raises(SchemaError, match=r"expected an xarray\.Dataset .*, got ndarray"):
        slc.plan(np.zeros((3, 4, 5, 6)), radius_mm=4)
    with pytest.raises(SchemaError, match="'mask' .* is missing"):
        slc.plan(ds.drop_vars("mask"), radius_mm=4)
    maps = slc.searchlight(ds, radius_mm=5.5)
    with pytest.raises(SchemaError, match="expected a subject Dataset, got a result Dataset"):
        slc.plan(maps, radius_mm=4)


def test_a_grid_that_is_not_even(ds: xr.Dataset) -> None:
    _refused(ds.isel(y=[0, 1, 3]), GeometryError, "axis 'y' is not evenly spaced")


def test_the_plan_of_a_crop_lies_where_the_crop_does(ds: xr.Dataset) -> None:
    part = ds.isel(x=slice(1, None, 2), y=slice(2, None))
    geometry = slc.plan(part, radius_mm=7.5).geometry
    np.testing.assert_allclose(geometry.affine[:3, 0], 2 * OBLIQUE[:3, 0])
    np.testing.assert_allclose(geometry.affine @ [0, 0, 0, 1], OBLIQUE @ [1, 2, 0, 1])
    assert [axis.tolist() for axis in geometry.axes] == [[1, 3], [2, 3, 4], [0, 1, 2]]
