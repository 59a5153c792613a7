"""The searchlight as users call it: durable results, and Datasets changed after opening."""

from __future__ import annotations

import inspect
import json
import logging
import shutil
import warnings
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pytest
import xarray as xr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.linear_model import RidgeClassifier
from sklearn.model_selection import KFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

import slcluster as slc
from slcluster import task
from slcluster.compute import compute_block
from slcluster.errors import BlockError, FailedBlocksError, InputError, PlanError, StoreError
from slcluster.plan import Plan
from slcluster.progress import Step
from slcluster.schema import grid_affine
from slcluster.searchlight import resume
from slcluster.store import open_store, write_array_store
from slcluster.store.result import read_result
from tests.conftest import OBLIQUE
from tests.witness import (
    LATTICE,
    Total,
    Witness,
    assert_saw_its_neighbours,
    leave_one_run_out,
    noise_dataset,
    place_dataset,
)

WITNESS = {"radius_mm": 4.3, "estimator": Witness(), "scoring": None}
SVC = {"radius_mm": 5.5, "block_centers": 7}


def _assert_same(found: xr.Dataset, expected: xr.Dataset) -> None:
    found, expected = found.compute(), expected.compute()
    for name in ("score", "score_fold", "sphere_size"):
        assert found[name].values.tobytes() == expected[name].values.tobytes(), name


def _differs(found: xr.Dataset, other: xr.Dataset) -> bool:
    return found["score"].values.tobytes() != other["score"].values.tobytes()


@pytest.fixture(scope="module")
def noise() -> xr.Dataset:
    return noise_dataset(affine=OBLIQUE)


@pytest.fixture(scope="module")
def expected(noise: xr.Dataset) -> xr.Dataset:
    return slc.searchlight(noise, radius_mm=5.5, block_centers=10_000).compute(scheduler="sync")


@pytest.fixture
def stored(noise: xr.Dataset, tmp_path: Path) -> xr.Dataset:
    return open_store(write_array_store(noise, tmp_path / "noise.zarr"))


# --- durable


@given(
    shape=st.sampled_from([(4, 5, 3), (1, 6, 5), (7, 1, 1)]),
    block_centers=st.sampled_from([1, 4, 1000]),
    density=st.sampled_from([0.3, 1.0]),
    seed=st.integers(0, 9),
)
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_durable_spheres_see_their_neighbours(
    tmp_path_factory: pytest.TempPathFactory,
    shape: tuple[int, int, int],
    block_centers: int,
    density: float,
    seed: int,
) -> None:
    mask = np.random.default_rng(seed).random(shape) <= density
    mask.flat[0] = True
    ds = place_dataset(shape, OBLIQUE, mask=mask)
    out = tmp_path_factory.mktemp("durable") / "out.zarr"
    maps = slc.searchlight(ds, out=out, block_centers=block_centers, **WITNESS)
    assert_saw_its_neighbours(maps, ds, mask, OBLIQUE, WITNESS["radius_mm"])


@pytest.mark.parametrize(
    ("affine", "radius_mm"), [(OBLIQUE, 4.3), (LATTICE, 4.8)], ids=["oblique", "lattice"]
)
def test_a_volume_of_places_through_a_store(affine: np.ndarray, radius_mm: float, tmp_path: Path) -> None:
    """One case of the above without chance; the mutation tests lean on it."""
    mask = np.indices((5, 6, 4)).sum(axis=0) % 5 > 0
    made = place_dataset((5, 6, 4), affine, mask=mask, n_samples=8)
    ds = open_store(write_array_store(made, tmp_path / "places.zarr"))
    options = {"radius_mm": radius_mm, "estimator": Witness(), "scoring": None, "block_centers": 20}
    assert_saw_its_neighbours(slc.searchlight(ds, **options).compute(), made, mask, affine, radius_mm)
    maps = slc.searchlight(ds, out=tmp_path / "out.zarr", **options)
    assert_saw_its_neighbours(maps, made, mask, affine, radius_mm)


@pytest.mark.parametrize("block_centers", [1, 5, 10_000, None])
def test_durable_is_lazy_in_any_blocks(
    block_centers: int | None, stored: xr.Dataset, expected: xr.Dataset, tmp_path: Path
) -> None:
    maps = slc.searchlight(stored, radius_mm=5.5, block_centers=block_centers, out=tmp_path / "out.zarr")
    _assert_same(maps, expected)
    _assert_same(slc.open_result(tmp_path / "out.zarr"), expected)


def test_the_order_of_blocks_does_not_matter(
    stored: xr.Dataset, expected: xr.Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = slc.plan(stored, **SVC)
    work = [plan.geometry.sphere_size[i * 7 : i * 7 + 7].sum() for i in plan.heaviest_first]
    assert work == sorted(work, reverse=True)
    assert sorted(plan.heaviest_first) == list(range(plan.n_blocks))
    begun: list[int] = []
    monkeypatch.setattr(
        task, "compute_block", lambda plan, n, **parts: begun.append(n) or compute_block(plan, n, **parts)
    )
    with dask.config.set(scheduler="sync"):
        _assert_same(slc.searchlight(stored, out=tmp_path / "heavy.zarr", **SVC), expected)
        assert begun == plan.heaviest_first
        monkeypatch.setattr(Plan, "heaviest_first", property(lambda self: list(range(self.n_blocks))))
        begun.clear()
        _assert_same(slc.searchlight(stored, out=tmp_path / "plain.zarr", **SVC), expected)
        assert begun == sorted(begun)


class _Interrupted:
    """A progress listener that interrupts, as Ctrl-C does, once some blocks are done."""

    def __init__(self, after: int) -> None:
        self.after, self.steps = after, []

    def __call__(self, step: Step) -> None:
        self.steps.append(step)
        if step.done >= self.after:
            raise KeyboardInterrupt


@pytest.mark.parametrize("how", ["again", "from the store"])
def test_interrupted_and_resumed(how: str, stored: xr.Dataset, expected: xr.Dataset, tmp_path: Path) -> None:
    out = tmp_path / "out.zarr"
    # In one thread: others would still finish the blocks that they were at.
    with dask.config.set(scheduler="sync"), pytest.raises(KeyboardInterrupt) as caught:
        slc.searchlight(stored, out=out, progress=_Interrupted(3), **SVC)
    assert caught.value.__notes__ == [f"Finished blocks are kept; to go on: slcluster resume {out}"]
    before = slc.status(out)
    assert not before.is_finished
    assert (before.n_done, before.n_blocks) == (3, 7)
    half = slc.open_result(out)  # opens half-finished, with NaN where nothing is yet
    assert half.attrs["n_blocks_done"] == before.n_done
    assert half["score"].notnull().sum() < expected["score"].notnull().sum()

    steps: list[Step] = []
    if how == "again":
        maps = slc.searchlight(
            stored, out=out, progress=steps.append, radius_mm=5.5
        )  # in the blocks begun with
    else:
        maps = resume(out, progress=steps.append)
    _assert_same(maps, expected)
    assert (steps[0].done, steps[-1].done) == (3, 7)
    assert slc.status(out).is_finished
    _assert_same(slc.searchlight(stored, out=out, **SVC), expected)  # nothing left to do


def test_damaged_and_lost_blocks_are_computed_again(
    stored: xr.Dataset, expected: xr.Dataset, tmp_path: Path
) -> None:
    out = tmp_path / "out.zarr"
    slc.searchlight(stored, out=out, **SVC)
    chunks = sorted(
        file for file in (out / "score").rglob("*") if file.is_file() and file.name != "zarr.json"
    )
    raw = bytearray(chunks[0].read_bytes())
    raw[5] ^= 1
    chunks[0].write_bytes(raw)
    chunks[1].unlink()
    chunks[2].write_bytes(chunks[2].read_bytes()[:-9])
    with pytest.raises(StoreError, match=r"3 of its \d+ blocks are damaged or gone; .* slcluster resume"):
        slc.open_result(out)
    assert not slc.status(out).is_finished
    _assert_same(slc.searchlight(stored, out=out, **SVC), expected)


def test_blocks_of_nothing_but_nan_count_as_done(noise: xr.Dataset, tmp_path: Path) -> None:
    out = tmp_path / "out.zarr"
    largest = int(slc.plan(noise, **SVC).geometry.sphere_size.max())
    maps = slc.searchlight(noise, out=out, min_voxels=largest, **{**SVC, "block_centers": 3})
    arrays, done = read_result(out)
    assert done.all()
    assert (
        np.isnan(arrays["score"][: len(arrays["score"]) // 3 * 3].reshape(-1, 3 * arrays["score"][0].size))
        .all(axis=1)
        .any()
    )
    assert maps["score"].notnull().any()
    assert slc.status(out).is_finished


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"radius_mm": 5.4}, "radius_mm"),
        ({"estimator": LinearSVC(C=2.0, random_state=0)}, "estimator"),
        ({"cv": KFold(4)}, "folds"),
        ({"standardize": "run"}, "standardize"),
        ({"scoring": "balanced_accuracy"}, "metrics, scoring"),
    ],
)
def test_another_analysis_is_refused(
    change: dict[str, Any], field: str, stored: xr.Dataset, tmp_path: Path
) -> None:
    out = tmp_path / "out.zarr"
    with pytest.raises(KeyboardInterrupt):
        slc.searchlight(stored, out=out, progress=_Interrupted(1), **SVC)
    with pytest.raises(PlanError, match=rf"holds another analysis; it differs in: {field}; pass another out"):
        slc.searchlight(stored, out=out, **{**SVC, **change})


def test_other_values_behind_the_same_arguments_are_refused(noise: xr.Dataset, tmp_path: Path) -> None:
    """Arrays in memory are kept beside the result; half of one map must not be filled up with another's."""
    out = tmp_path / "out.zarr"
    with pytest.raises(KeyboardInterrupt):
        slc.searchlight(noise, out=out, progress=_Interrupted(1), **SVC)
    with pytest.raises(PlanError, match="differs in: store"):
        slc.searchlight(noise.assign(bold=noise["bold"] * 2), out=out, **SVC)


def test_a_result_in_the_way(stored: xr.Dataset, tmp_path: Path) -> None:
    out = tmp_path / "out.zarr"
    slc.searchlight(stored, out=out, **WITNESS)
    with pytest.raises(StoreError, match="exists already; pass resume=True .* or another out"):
        slc.searchlight(stored, out=out, resume=False, **WITNESS)


def test_overlap_is_for_lazy_maps(stored: xr.Dataset, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="overlap=True is for lazy maps"):
        slc.searchlight(stored, out=tmp_path / "out.zarr", overlap=True, **WITNESS)


def test_a_failing_estimator_keeps_the_blocks_done(stored: xr.Dataset, tmp_path: Path) -> None:
    class Failing(ClassifierMixin, BaseEstimator):
        def fit(self, X: np.ndarray, y: np.ndarray) -> Failing:
            if X.shape[1] < 5:
                raise RuntimeError("too few voxels")
            self.classes_ = np.unique(y)
            return self

        def score(self, X: np.ndarray, y: np.ndarray) -> float:
            return 1.0

    out = tmp_path / "out.zarr"
    with (
        dask.config.set(scheduler="sync"),
        pytest.raises(
            FailedBlocksError, match=r"array, block \d+, center at voxel \(.*\), fold 0: RuntimeError: too"
        ),
    ):
        slc.searchlight(stored, out=out, estimator=Failing(), scoring=None, radius_mm=5.5, block_centers=2)
    left = slc.status(out)
    assert 0 < left.n_done == left.n_blocks - len(left.failures) < left.n_blocks
    with pytest.raises(InputError, match=r"not scikit-learn's; resume it by calling slc\.searchlight again"):
        resume(out)


def test_estimators_that_stop_early_are_reported_once(
    noise: xr.Dataset, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "slcluster"), warnings.catch_warnings():
        warnings.simplefilter("error")
        slc.searchlight(
            noise, out=tmp_path / "out.zarr", estimator=LinearSVC(max_iter=1), engine="sklearn", **SVC
        )
    n_fits = 3 * int(noise["mask"].sum())
    told = [record.getMessage() for record in caplog.records if "converged" in record.getMessage()]
    assert len(told) == 1
    assert f"of {n_fits} fits" in told[0]


def test_the_result_says_how_it_was_made(stored: xr.Dataset, tmp_path: Path) -> None:
    lazy = slc.searchlight(stored, **SVC)
    durable = slc.searchlight(stored, out=tmp_path / "out.zarr", **SVC)
    assert lazy.attrs["fingerprint"] == durable.attrs["fingerprint"] == slc.plan(stored, **SVC).fingerprint
    for attrs in (lazy.attrs, durable.attrs):
        assert attrs["subject"] == "array"
        assert attrs["estimator"] == "LinearSVC(max_iter=10000, random_state=0)"
        assert (attrs["engine"], attrs["radius_mm"], attrs["chance"]) == ("svm", 5.5, 0.5)
        assert json.loads(attrs["class_counts"]) == {"face": 12, "house": 12}
        assert {"numpy", "scikit-learn", "slcluster"} <= set(json.loads(attrs["versions"]))
    assert np.array_equal(lazy["affine"], durable["affine"])
    assert np.array_equal(lazy["affine"], OBLIQUE)


def test_the_signature_spells_out_the_options() -> None:
    names = list(inspect.signature(slc.searchlight).parameters)
    assert names[0] == "ds"
    assert {"radius_mm", "estimator", "cv", "scoring", "overlap", "out", "resume", "client"} <= set(names)
    assert "options" not in names


# --- Datasets changed after opening: the map of what they hold now


def _permuted(ds: xr.Dataset) -> xr.Dataset:
    return ds.isel(sample=np.random.default_rng(3).permutation(ds.sizes["sample"]))


CHANGES = {
    "nothing": lambda ds: ds,
    "mean subtracted": lambda ds: ds.assign(bold=ds["bold"] - ds["bold"].mean("sample")),
    "mean of each run subtracted": lambda ds: ds.assign(
        bold=(ds["bold"].groupby("run") - ds["bold"].groupby("run").mean()).transpose("x", "y", "z", "sample")
    ),
    "cast": lambda ds: ds.assign(bold=ds["bold"].astype(np.float64)),
    "samples permuted": _permuted,
    "samples reversed": lambda ds: ds.isel(sample=slice(None, None, -1)),
    "samples dropped": lambda ds: ds.isel(sample=slice(3, None)),
    "samples dropped here and there": lambda ds: ds.isel(sample=[0, 1, 2, 5, 6, 9, 10, 11, 17, 18, 20, 23]),
    "every second sample twice dropped": lambda ds: ds.isel(sample=slice(1, None)).isel(sample=slice(0, 20)),
    "selected and permuted": lambda ds: _permuted(slc.select(ds, runs=[0, 2])),
    "condition replaced": lambda ds: ds.assign_coords(
        condition=("sample", np.roll(ds["condition"].values, 1))
    ),
    "run replaced": lambda ds: ds.assign_coords(run=("sample", np.arange(ds.sizes["sample"]) % 4)),
    "sample_index replaced": lambda ds: ds.assign_coords(
        sample_index=("sample", ds["sample_index"].values[::-1].copy())
    ),
    "only bold permuted": lambda ds: ds.assign(bold=ds["bold"].variable.isel(sample=slice(None, None, -1))),
    "cropped": lambda ds: ds.isel(x=slice(1, None), y=slice(0, 4)),
    "cropped to a slice": lambda ds: ds.isel(z=[1]),
    "every second voxel": lambda ds: ds.isel(y=slice(1, None, 2)),
    "flipped": lambda ds: ds.isel(x=slice(None, None, -1)),
    "mask replaced": lambda ds: ds.assign(mask=ds["mask"] & (ds["x"] != 2)),
    "computed": lambda ds: ds.compute(),
}
#: Changes that the map must not show.
SILENT = {"nothing", "computed", "sample_index replaced"}

#: Changes also tried with z-scores, which depend on the runs of the samples that are left.
WITHIN_RUNS = {
    "mean of each run subtracted",
    "run replaced",
    "samples dropped",
    "samples permuted",
    "selected and permuted",
}


@pytest.mark.parametrize(
    ("name", "standardize"),
    [(name, None) for name in CHANGES] + [(name, "run") for name in sorted(WITHIN_RUNS)],
)
def test_a_changed_dataset_gives_the_map_of_what_it_holds(
    name: str, standardize: str | None, stored: xr.Dataset, tmp_path: Path
) -> None:
    ds = CHANGES[name](stored)
    plain = slc.subject_dataset(
        ds["bold"].values,
        affine=grid_affine(ds),
        mask=ds["mask"].values,
        condition=ds["condition"].values,
        run=ds["run"].values,
    )
    options = {**WITNESS, "block_centers": 9, "standardize": standardize}
    expected = slc.searchlight(plain, **options)
    found = slc.searchlight(ds, **options)
    _assert_same(found, expected)
    _assert_same(slc.searchlight(ds, overlap=True, **options), expected)
    durable = slc.searchlight(ds, out=tmp_path / "out.zarr", **options)
    _assert_same(durable, expected)
    for maps in (found, durable):  # still where it was in space, and findable on the source's grid
        assert np.allclose(grid_affine(maps), grid_affine(ds), rtol=0, atol=1e-12)
        for axis in "xyz":
            assert np.array_equal(maps[axis], ds[axis])
    if name not in SILENT:
        assert _differs(expected, slc.searchlight(stored, **options)), "this change must show in the map"


def test_detrending_reads_whole_runs_from_the_store(stored: xr.Dataset, tmp_path: Path) -> None:
    """A selection of an untouched store is detrended over the runs that the store holds, not what is left."""
    kept = np.arange(24) % 3 != 1
    options = {**WITNESS, "detrend": True, "standardize": "run"}
    ds = slc.select(stored, where=kept)
    found = slc.searchlight(ds, **options).compute()
    _assert_same(slc.searchlight(ds, out=tmp_path / "out.zarr", **options), found)
    _assert_same(slc.searchlight(ds, overlap=True, **options), found)
    from slcluster.kernels.preparation import detrend_runs

    flat = stored["bold"].values.reshape(-1, 24)
    whole = detrend_runs(flat, stored["run"].values).reshape(stored["bold"].shape)
    plain = slc.subject_dataset(
        whole[..., kept],
        affine=OBLIQUE,
        mask=stored["mask"].values,
        condition=ds["condition"].values,
        run=ds["run"].values,
    )
    _assert_same(slc.searchlight(plain, **{**options, "detrend": False}), found)


# --- what must not change a map, and what must


def test_renaming_labels_in_order_changes_nothing_but_the_plan(
    noise: xr.Dataset, expected: xr.Dataset
) -> None:
    names = {"face": "apple", "house": "pear"}
    renamed = noise.assign_coords(
        condition=("sample", [names[c] for c in noise["condition"].values.tolist()])
    )
    _assert_same(slc.searchlight(renamed, **SVC), expected)
    assert slc.plan(renamed, **SVC).differences(slc.plan(noise, **SVC).identity) == ["classes"]


def test_swapping_labels_changes_the_codes_but_not_the_accuracy(noise: xr.Dataset) -> None:
    names = {"face": "z", "house": "a"}
    swapped = noise.assign_coords(
        condition=("sample", [names[c] for c in noise["condition"].values.tolist()])
    )
    options = {"radius_mm": 5.5, "estimator": RidgeClassifier()}
    assert (
        slc.plan(swapped, **options).design.targets == 1 - slc.plan(noise, **options).design.targets
    ).all()
    found, other = (slc.searchlight(ds, **options)["score"].values for ds in (noise, swapped))
    np.testing.assert_array_equal(found, other)


BLIND_TO_ORDER = [{"estimator": Total(), "scoring": None}, {"estimator": RidgeClassifier()}]


@pytest.fixture(scope="module")
def unturned(noise: xr.Dataset) -> list[np.ndarray]:
    """Maps of estimators that give the same answer whatever the order of the voxels."""
    return [slc.searchlight(noise, radius_mm=5.5, **how)["score"].values for how in BLIND_TO_ORDER]


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_flipping_data_and_affine_flips_the_map(
    axis: int, noise: xr.Dataset, unturned: list[np.ndarray]
) -> None:
    """The same brain stored the other way round: the same map at the same millimetres."""
    turn = np.eye(4)
    turn[axis, axis], turn[axis, 3] = -1, noise["mask"].shape[axis] - 1
    flipped = slc.subject_dataset(
        np.flip(noise["bold"].values, axis),
        affine=OBLIQUE @ turn,
        mask=np.flip(noise["mask"].values, axis),
        condition=noise["condition"].values,
        run=noise["run"].values,
    )
    for how, expected in zip(BLIND_TO_ORDER, unturned, strict=True):
        found = slc.searchlight(flipped, radius_mm=5.5, **how)["score"].values
        np.testing.assert_allclose(np.flip(found, axis), expected, rtol=1e-12)


@pytest.mark.parametrize("order", [(1, 0, 2), (2, 0, 1)])
def test_storing_the_axes_in_another_order_transposes_the_map(
    order: tuple[int, int, int], noise: xr.Dataset, unturned: list[np.ndarray]
) -> None:
    turned = slc.subject_dataset(
        noise["bold"].values.transpose(*order, 3),
        affine=OBLIQUE[:, [*order, 3]],
        mask=noise["mask"].values.transpose(order),
        condition=noise["condition"].values,
        run=noise["run"].values,
    )
    for how, expected in zip(BLIND_TO_ORDER, unturned, strict=True):
        found = slc.searchlight(turned, radius_mm=5.5, **how)["score"].values
        np.testing.assert_allclose(found, expected.transpose(order), rtol=1e-12)


def test_groups_are_kept_together(noise: xr.Dataset) -> None:
    """The map of a group-wise splitter is that of its own folds, and differs with other groups."""
    pairs = np.arange(24) // 2
    ds = noise.assign_coords(pair=("sample", pairs))
    options = {**WITNESS, "block_centers": 30}
    by_run = slc.searchlight(ds, **options)
    by_pair = slc.searchlight(ds, groups="pair", **options)
    assert by_run.sizes["fold"] == 3
    assert by_pair.sizes["fold"] == 12
    _assert_same(by_run, slc.searchlight(ds, cv=leave_one_run_out(ds), groups=None, **options))


@pytest.mark.parametrize("there", ["file", "folder", "finished"])
def test_a_refused_place_leaves_no_samples_of_a_changed_dataset(
    there: str, noise: xr.Dataset, tmp_path: Path
) -> None:
    out = tmp_path / "out.zarr"
    options: dict[str, Any] = {}
    if there == "file":
        out.write_text("mine")
    elif there == "folder":
        out.mkdir()
    else:
        slc.searchlight(noise, out=out, **SVC)
        options["resume"] = False
    before = sorted(path.name for path in tmp_path.iterdir())
    with pytest.raises(StoreError, match=r"out\.zarr"):
        slc.searchlight(noise.assign(bold=noise["bold"] + 1), out=out, **SVC, **options)
    assert sorted(path.name for path in tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ({"client": 3}, "client must be a distributed.Client, got 3"),
        ({"progress": 3}, "progress must be None, True or a function"),
    ],
)
def test_what_cannot_work_is_refused_before_a_store_is_made(
    option: dict[str, Any], words: str, noise: xr.Dataset, tmp_path: Path
) -> None:
    for ds in (noise, noise.assign(bold=noise["bold"] + 1)):
        with pytest.raises(InputError, match=words):
            slc.searchlight(ds, out=tmp_path / "out.zarr", **SVC, **option)
    assert list(tmp_path.iterdir()) == []


def test_unknown_options_are_refused_in_its_own_name(noise: xr.Dataset) -> None:
    with pytest.raises(
        TypeError, match=r"^searchlight\(\) has no argument 'radius'; did you mean 'radius_mm'\?"
    ):
        slc.searchlight(noise, radius=3)
    with pytest.raises(TypeError, match=r"^searchlight\(\) needs radius_mm"):
        slc.searchlight(noise)


def test_a_place_inside_a_store_is_refused(stored: xr.Dataset, noise: xr.Dataset, tmp_path: Path) -> None:
    """A result inside the subject's store would change the metadata that its digest guards."""
    subject = write_array_store(noise, tmp_path / "s.zarr")
    for ds in (slc.open_store(subject), noise):
        with pytest.raises(InputError, match=r"lies inside the store .*s\.zarr; choose a place outside"):
            slc.searchlight(ds, out=subject / "maps.zarr", **SVC)
    with pytest.raises(StoreError, match="lies inside the store"):
        write_array_store(noise, subject / "deep" / "t.zarr")
    slc.open_store(subject)


# --- preparation and weights within folds


@pytest.mark.parametrize("estimator", [LinearSVC(dual=False, tol=1e-9), RidgeClassifier()], ids=repr)
@pytest.mark.parametrize("engine", ["auto", "sklearn"])
def test_standardised_within_folds_is_a_scaler_in_a_pipeline(
    estimator: BaseEstimator, engine: str, noise: xr.Dataset, tmp_path: Path
) -> None:
    scaled = noise.assign(bold=noise["bold"] * np.exp(np.arange(5))[:, None, None] + 300.0)
    options = {"radius_mm": 5.5, "cv": KFold(4)}
    found = slc.searchlight(
        scaled, estimator=estimator, standardize="fold", engine=engine, **options
    ).compute()
    assert (found.attrs["engine"] == "sklearn") == (engine == "sklearn")
    pipeline = make_pipeline(StandardScaler(), estimator)
    expected = slc.searchlight(scaled, estimator=pipeline, **options).compute()
    np.testing.assert_array_equal(found["score_fold"], expected["score_fold"])
    plain = slc.searchlight(scaled, estimator=estimator, engine=engine, **options).compute()
    assert _differs(found, plain)
    out = tmp_path / "out.zarr"
    durable_maps = slc.searchlight(
        scaled, estimator=estimator, standardize="fold", engine=engine, out=out, block_centers=9, **options
    )
    _assert_same(durable_maps, found)


def test_an_error_names_the_fold_that_was_standardised(stored: xr.Dataset) -> None:
    class Fails(Total):
        def fit(self, X: np.ndarray, y: np.ndarray) -> Total:
            if len(X) != 8:
                raise ValueError("no")
            return super().fit(X, y)

    cv = [(np.arange(8), np.arange(8, 16)), (np.arange(9), np.arange(16, 24))]
    with pytest.raises(BlockError, match=r"fold 1: ValueError: no"):
        slc.searchlight(
            stored, radius_mm=5.5, estimator=Fails(), scoring=None, cv=cv, standardize="fold"
        ).compute()


@pytest.mark.parametrize("is_pipeline", [False, True])
def test_weights_reach_every_fit(is_pipeline: bool, noise: xr.Dataset, tmp_path: Path) -> None:
    weights = np.random.default_rng(0).integers(0, 3, noise.sizes["sample"]).astype(float)
    ds = noise.assign_coords(weight=("sample", weights))
    estimator = RidgeClassifier()
    # A weight of two is a sample that occurs twice, one of zero a sample that is not there.
    folds = [
        (np.repeat(train, weights[train].astype(int)), test)
        for train, test in KFold(4).split(np.zeros(len(weights)))
    ]
    options: dict[str, Any] = {"radius_mm": 5.5, "cv": KFold(4)}
    given = make_pipeline("passthrough", estimator) if is_pipeline else estimator
    found = slc.searchlight(ds, estimator=given, sample_weight="weight", **options).compute()
    assert found.attrs["engine"] == "sklearn"
    mask = ds["mask"].values
    bold, y = ds["bold"].values, np.array(ds["condition"].values.tolist())
    center = np.argwhere(found["score"].notnull().values)[5]
    distance_mm = np.linalg.norm((np.argwhere(mask) - center) @ OBLIQUE[:3, :3].T, axis=1)
    x = bold[mask][distance_mm <= 5.5 * (1 + 1e-6)].T
    expected = [RidgeClassifier().fit(x[a], y[a]).score(x[b], y[b]) for a, b in folds]
    assert found["score_fold"].values[(0, slice(None), *center)].tolist() == expected
    path = tmp_path / "out.zarr"
    slc.searchlight(ds, estimator=given, sample_weight="weight", out=path, **options)
    shutil.rmtree(next(path.glob("**/score/c/0")), ignore_errors=True)
    _assert_same(resume(path), found)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"estimator": "nearest_centroid"}, "fit of NearestCentroid.* takes no sample_weight"),
        ({"engine": "svm"}, "engine='svm' takes no sample_weight; pass engine='auto' or 'sklearn'"),
        ({"sample_weight": "minus"}, "sample_weight='minus' must hold no negative number"),
        ({"sample_weight": "condition"}, "'condition' holds text"),
        ({"sample_weight": "wieght"}, "sample_weight='wieght' is not a column"),
    ],
)
def test_weights_that_cannot_be(options: dict[str, Any], words: str, noise: xr.Dataset) -> None:
    n = noise.sizes["sample"]
    ds = noise.assign_coords(weight=("sample", np.ones(n)), minus=("sample", -np.ones(n)))
    with pytest.raises(InputError, match=words):
        slc.plan(ds, **{"radius_mm": 5.5, "sample_weight": "weight", **options})


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"engine": None}, "engine must be a name, got None"),
        ({"min_voxels": None}, "min_voxels must be a number, got None"),
        ({"target": None}, "target must be the name of a column of the samples, got None"),
        ({"target": 3}, "target must be the name of a column of the samples, got 3"),
        ({"groups": 3}, "groups must be the name of a column of the samples, got 3"),
        ({"sample_weight": 3}, "sample_weight must be the name of a column of the samples, got 3"),
        ({"sample_weight": "condition"}, "'condition' holds text .*; sample_weight needs numbers"),
        ({"out": 3}, "expected the path of a result store, as out, got 3"),
        ({"client": 3}, "client must be a distributed.Client, got 3"),
    ],
)
def test_arguments_of_another_kind_are_refused(
    options: dict[str, Any], words: str, noise: xr.Dataset
) -> None:
    with pytest.raises(InputError, match=words):
        slc.searchlight(noise, radius_mm=5.5, **options)


def test_what_is_no_path_is_no_result() -> None:
    for function in (slc.open_result, slc.status, resume):
        with pytest.raises(InputError, match="expected the path of a result store, got None"):
            function(None)  # type: ignore[arg-type]


def test_a_client_without_out_is_refused(noise: xr.Dataset) -> None:
    from distributed import Client

    options = {"processes": False, "n_workers": 1, "threads_per_worker": 1, "dashboard_address": ":0"}
    with (
        Client(**options) as client,
        pytest.raises(InputError, match="client is for a result with out; lazy maps are computed where"),
    ):
        slc.searchlight(noise, radius_mm=5.5, client=client)
