"""The F map: its numbers, and that they do not depend on chunks, stores or changes that do not matter."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dask
import numpy as np
import pytest
import xarray as xr
from sklearn.feature_selection import f_classif

import slcluster as slc
from slcluster.errors import DesignError, GeometryError, InputError, StoreError
from slcluster.kernels.preparation import detrend_runs, zscore_runs
from slcluster.schema import RESULT, grid_affine, validate
from slcluster.store import open_store, write_array_store
from tests.conftest import OBLIQUE
from tests.witness import noise_dataset

NAMES = ("F", "p", "neg_log10_p")


@pytest.fixture(scope="module")
def ds() -> xr.Dataset:
    return noise_dataset(affine=OBLIQUE, effect=1.5)


@pytest.fixture
def stored(ds: xr.Dataset, tmp_path: Path) -> xr.Dataset:
    return open_store(write_array_store(ds, tmp_path / "s.zarr"))


def _flat(ds: xr.Dataset) -> np.ndarray:
    """Mask voxels in C order x samples, float64."""
    return ds["bold"].values[ds["mask"].values].astype(np.float64)


def _held(maps: xr.Dataset, ds: xr.Dataset, x: np.ndarray, labels: np.ndarray | None = None) -> None:
    """Hold maps against scikit-learn's F of prepared samples."""
    y = np.array(ds["condition"].values.tolist()) if labels is None else labels
    f, p = f_classif(x.T, y)
    inside = ds["mask"].values
    np.testing.assert_allclose(maps["F"].values[inside], f, rtol=1e-9)
    np.testing.assert_allclose(maps["p"].values[inside], p, rtol=1e-8)
    np.testing.assert_allclose(maps["neg_log10_p"].values[inside], np.minimum(-np.log10(p), 10), rtol=1e-8)
    for name in NAMES:
        assert np.isnan(maps[name].values[~inside]).all()


def _same(found: xr.Dataset, expected: xr.Dataset) -> None:
    found, expected = found.compute(), expected.compute()
    for name in NAMES:
        assert found[name].values.tobytes() == expected[name].values.tobytes(), name


def test_zscored_by_run_is_the_default(ds: xr.Dataset) -> None:
    maps = slc.f_score(ds)
    _held(maps, ds, zscore_runs(_flat(ds), ds["run"].values))
    _same(maps, slc.f_score(ds, standardize="run"))
    assert maps["neg_log10_p"].max() > 3, "there is something to find"


def test_raw_and_detrended(ds: xr.Dataset) -> None:
    runs, x = ds["run"].values, _flat(ds)
    _held(slc.f_score(ds, standardize=None), ds, x)
    _held(slc.f_score(ds, standardize=None, detrend=True), ds, detrend_runs(x, runs))
    _held(slc.f_score(ds, detrend=True), ds, zscore_runs(detrend_runs(x, runs), runs))


def test_whole_runs_are_detrended_before_samples_are_chosen(stored: xr.Dataset) -> None:
    kept = np.arange(24) % 3 != 1
    part = slc.select(stored, where=kept)
    runs = stored["run"].values
    x = zscore_runs(detrend_runs(_flat(stored), runs)[:, kept], runs[kept])
    maps = slc.f_score(part, detrend=True)
    _held(maps, part, x)
    alone = zscore_runs(detrend_runs(_flat(part), runs[kept]), runs[kept])
    assert (
        np.abs(
            f_classif(alone.T, part["condition"].values.tolist())[0] / maps["F"].values[part["mask"].values]
            - 1
        ).max()
        > 0.01
    )


def test_three_conditions_and_another_column(ds: xr.Dataset) -> None:
    names = np.array(["a", "b", "c"])[np.arange(24) % 3]
    level = ds.assign_coords(level=("sample", np.arange(24) % 3), name=("sample", names.astype(object)))
    x = zscore_runs(_flat(ds), ds["run"].values)
    for target in ("level", "name"):
        maps = slc.f_score(level, target=target)
        _held(maps, level, x, names)
        assert maps.attrs["target"] == target
    assert slc.f_score(level, target="name").attrs["classes"] == ["a", "b", "c"]


@pytest.mark.parametrize("scheduler", ["sync", "threads"])
def test_chunks_stores_and_threads_change_no_bit(scheduler: str, ds: xr.Dataset, stored: xr.Dataset) -> None:
    for options in ({}, {"detrend": True}, {"standardize": None}):
        expected = slc.f_score(ds, **options).compute(scheduler="sync")
        with dask.config.set(scheduler=scheduler, num_workers=2):
            _same(slc.f_score(stored, **options), expected)
            for chunks in ((1, 1, 1), (2, 3, 1), (4, 5, 3)):
                pieces = ds.chunk(dict(zip("xyz", chunks, strict=True)) | {"sample": 5})
                _same(slc.f_score(pieces, **options), expected)


def test_it_is_lazy_and_a_slice_reads_its_chunks(ds: xr.Dataset) -> None:
    seen: list[Any] = []

    def note(block: np.ndarray, block_id: tuple[int, ...] | None = None) -> np.ndarray:
        seen.append(block_id)
        return block

    bold = (
        ds["bold"]
        .chunk({"x": 2, "y": 5, "z": 1})
        .data.map_blocks(note, dtype="f4", meta=np.empty((0,) * 4, "f4"))
    )
    maps = slc.f_score(ds.assign(bold=(ds["bold"].dims, bold)), nonfinite="zero")
    assert not seen
    maps["F"][0, :, 2].compute(scheduler="sync")
    assert set(seen) == {(0, 0, 2, 0)}


def test_constant_voxels_are_nan(ds: xr.Dataset) -> None:
    bold = ds["bold"].values.copy()
    inside = np.argwhere(ds["mask"].values)
    bold[tuple(inside[2])] = 0.1
    # Constant within each run, though not over runs: nothing is left of it once runs are z-scored.
    bold[tuple(inside[5])] = np.float32(0.1) * (1 + ds["run"].values)
    maps = slc.f_score(ds.assign(bold=(ds["bold"].dims, bold))).compute()
    for name in NAMES:
        assert (
            np.argwhere(np.isnan(maps[name].values) & ds["mask"].values).tolist() == inside[[2, 5]].tolist()
        )


def test_p_that_underflows_is_ten(ds: xr.Dataset) -> None:
    signal = 1e30 * (ds["condition"].values == "face")
    maps = slc.f_score(ds.assign(bold=ds["bold"].astype("f8") + signal)).compute()
    inside = ds["mask"].values
    assert (maps["neg_log10_p"].values[inside] == 10).all()
    assert (maps["p"].values[inside] == 0).any()


@pytest.mark.parametrize("dtype", ["int16", "uint8", ">i2", "int32"])
def test_integers_lose_no_digits(dtype: str, ds: xr.Dataset) -> None:
    info = np.iinfo(dtype)
    rng = np.random.default_rng(0)
    bold = rng.integers(info.max - 100, info.max, size=ds["bold"].shape, dtype=np.int64).astype(dtype)
    whole = ds.assign(bold=(ds["bold"].dims, bold))
    centred = _flat(whole) - info.max  # f_classif itself would lose digits
    _held(slc.f_score(whole, standardize=None), whole, centred)


def test_changed_datasets_give_the_map_of_what_they_hold(stored: xr.Dataset) -> None:
    for ds in (
        stored.assign(bold=stored["bold"] - stored["bold"].mean("sample")),
        stored.isel(sample=np.random.default_rng(0).permutation(24)),
        stored.assign_coords(condition=("sample", np.roll(stored["condition"].values, 3))),
        stored.isel(x=slice(1, None), z=[1]),
        stored.assign_coords(run=("sample", np.arange(24) // 6)),
    ):
        maps = slc.f_score(ds)
        _held(maps, ds, zscore_runs(_flat(ds), ds["run"].values))
        np.testing.assert_allclose(grid_affine(maps), grid_affine(ds))


def test_the_result_follows_its_contract(ds: xr.Dataset) -> None:
    maps = slc.f_score(ds.assign_attrs(subject="sub-03"))
    assert validate(maps, RESULT) is maps
    assert all(maps[name].dims == ("x", "y", "z") and maps[name].dtype == np.float64 for name in NAMES)
    assert maps.attrs["subject"] == "sub-03"
    assert maps.attrs["classes"] == ["face", "house"]
    assert (maps.attrs["standardize"], maps.attrs["n_samples"]) == ("run", 24)
    assert np.array_equal(maps["affine"], OBLIQUE)


def test_non_finite_voxels(ds: xr.Dataset) -> None:
    bold = ds["bold"].values.copy()
    inside = np.argwhere(ds["mask"].values)
    bold[(*inside[4], 7)] = np.inf
    spoilt = ds.assign(bold=(ds["bold"].dims, bold))
    with pytest.raises(InputError, match="1 mask voxels hold NaN or infinite values, the first at voxel"):
        slc.f_score(spoilt)
    maps = slc.f_score(spoilt, nonfinite="exclude").compute()
    assert np.argwhere(np.isnan(maps["F"].values) & ds["mask"].values).tolist() == [inside[4].tolist()]
    bold[(*inside[4], 7)] = 0
    _same(slc.f_score(spoilt, nonfinite="zero"), slc.f_score(ds.assign(bold=(ds["bold"].dims, bold))))


@pytest.mark.parametrize(
    ("change", "options", "kind", "words"),
    [
        (None, {"standardize": "session"}, InputError, "standardize must be None or \"run\", got 'session'"),
        (
            None,
            {"nonfinite": "drop"},
            InputError,
            "nonfinite must be one of error, zero, exclude, got 'drop'",
        ),
        (None, {"target": "conditoin"}, DesignError, "target='conditoin' is not a column of the samples"),
        (None, {"target": "affine"}, DesignError, "target='affine' is not a column of the samples"),
        (
            lambda ds: ds.isel(sample=slice(0, None, 2)),
            {},
            DesignError,
            "only one class in the selected samples .face.",
        ),
        (
            lambda ds: ds.isel(sample=[0, 1]),
            {},
            DesignError,
            "needs more samples than classes, got 2 samples of 2",
        ),
        (lambda ds: ds.isel(sample=[]), {}, DesignError, "the selection has no samples"),
        (lambda ds: ds.assign(mask=ds["mask"] & False), {}, GeometryError, "the mask has no voxels"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(
    change: Any, options: dict[str, Any], kind: type[Exception], words: str, ds: xr.Dataset
) -> None:
    with pytest.raises(kind, match=words) as caught:
        slc.f_score(change(ds) if change else ds, **options)
    assert "\n" not in str(caught.value)


def test_a_store_that_was_written_again_is_not_read(tmp_path: Path) -> None:
    ds = noise_dataset(affine=OBLIQUE)
    path = write_array_store(ds, tmp_path / "s.zarr")
    maps = slc.f_score(slc.open_store(path))
    before = maps.F.compute()
    assert np.isfinite(before.values[ds["mask"].values]).all()
    write_array_store(ds.assign(bold=ds["bold"][..., ::-1]), path, overwrite=True)
    with pytest.raises(StoreError, match="was written again since this Dataset was opened"):
        maps.F.compute()
