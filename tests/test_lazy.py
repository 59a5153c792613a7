"""Lazy maps: what every sphere sees, and that nothing but the analysis decides a map's bytes."""

from __future__ import annotations

import multiprocessing
import warnings
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pytest
import xarray as xr
from distributed import Client, LocalCluster
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.model_selection import KFold, cross_val_score
from sklearn.svm import LinearSVC

import slcluster as slc
from slcluster.errors import BlockError
from slcluster.store import open_store, write_array_store
from tests.conftest import OBLIQUE
from tests.witness import (
    LATTICE,
    Witness,
    assert_saw_its_neighbours,
    leave_one_run_out,
    noise_dataset,
    place_dataset,
    spheres_by_distance,
)

FLIPPED = np.array([[0, 0, -2.4, 11], [1.9, 0, 0, 0.5], [0, -3.1, 0, 7], [0, 0, 0, 1.0]])
TINY = np.array([[0.7, 0, 0.1, -0.35], [0, -0.5, 0, 0.25], [0.05, 0, 0.9, 3], [0, 0, 0, 1.0]])
AFFINES = [OBLIQUE, FLIPPED, TINY]
SHAPES = [(5, 4, 3), (1, 7, 5), (8, 1, 1), (3, 4, 6)]


def _quietly(ds: xr.Dataset, **options: Any) -> xr.Dataset:
    """Maps without the warnings that small radii and centers outside the mask earn."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return slc.searchlight(ds, **options)


def _assert_same(found: xr.Dataset, expected: xr.Dataset) -> None:
    found = found.compute()
    for name in ("score", "score_fold", "sphere_size"):
        assert found[name].values.tobytes() == expected[name].values.tobytes(), name


# --- every sphere sees exactly its neighbours


@given(
    affine=st.sampled_from(AFFINES),
    shape=st.sampled_from(SHAPES),
    reach=st.sampled_from([0.6, 1.0, 1.3, 1.9, 2.6]),
    density=st.sampled_from([0.4, 0.8, 1.0]),
    block_centers=st.sampled_from([1, 3, 16, 1000]),
    overlap=st.booleans(),
    process=st.booleans(),
    count=st.sampled_from([None, None, 0.1, 0.5, 1.0]),
    with_radius=st.booleans(),
    seed=st.integers(0, 20),
)
@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_every_sphere_sees_its_neighbours_and_nothing_else(
    affine: np.ndarray,
    shape: tuple[int, int, int],
    reach: float,
    density: float,
    block_centers: int,
    overlap: bool,
    process: bool,
    count: float | None,
    with_radius: bool,
    seed: int,
) -> None:
    """Values tell their voxel and sample; a checksum of all that an estimator saw is held against brute force."""
    rng = np.random.default_rng(seed)
    mask = rng.random(shape) <= density
    mask.flat[rng.integers(mask.size)] = True
    where = rng.random(shape) <= 0.5 if process else mask  # in the mask or not
    where.flat[rng.integers(where.size)] = True
    ds = place_dataset(shape, affine, mask=mask)
    radius_mm = reach * np.linalg.norm(affine[:3, :3], axis=0).min()
    n_voxels = None if count is None else max(1, round(count * np.count_nonzero(mask)))
    size = {"n_voxels": n_voxels} | ({"radius_mm": radius_mm} if with_radius or count is None else {})
    options = {**size, "estimator": Witness(), "scoring": None, "process_mask": where}
    maps = _quietly(ds, block_centers=block_centers, overlap=overlap, **options).compute(scheduler="sync")
    assert_saw_its_neighbours(maps, ds, where, affine, size.get("radius_mm", np.inf), n_voxels)


@pytest.mark.parametrize(
    ("affine", "radius_mm"), [(OBLIQUE, 4.3), (LATTICE, 4.8)], ids=["oblique", "lattice"]
)
def test_a_volume_of_places(affine: np.ndarray, radius_mm: float) -> None:
    """One case of the above without chance; the mutation tests lean on it."""
    mask = np.indices((5, 6, 4)).sum(axis=0) % 5 > 0
    ds = place_dataset((5, 6, 4), affine, mask=mask, n_samples=8)
    maps = slc.searchlight(ds, radius_mm=radius_mm, estimator=Witness(), scoring=None, block_centers=20)
    assert_saw_its_neighbours(maps.compute(scheduler="sync"), ds, mask, affine, radius_mm)


def test_a_radius_on_the_lattice_gives_every_interior_center_its_rim() -> None:
    """2.4 mm voxels at 4.8 mm: the rounding of world coordinates must not drop voxels here and there."""
    ds = place_dataset((7, 8, 6), LATTICE)
    maps = _quietly(ds, radius_mm=4.8, estimator=Witness(), scoring=None)
    assert set(maps["sphere_size"].values[2:-2, 2:-2, 2:-2].ravel()) == {33}


# --- the same bytes, however they are computed


@pytest.fixture(scope="module")
def noise() -> xr.Dataset:
    return noise_dataset(affine=OBLIQUE)


@pytest.fixture(scope="module")
def stored(noise: xr.Dataset, tmp_path_factory: pytest.TempPathFactory) -> xr.Dataset:
    return open_store(write_array_store(noise, tmp_path_factory.mktemp("stored") / "noise.zarr"))


@pytest.fixture(scope="module")
def expected(noise: xr.Dataset) -> xr.Dataset:
    """Map of one single block in one thread, held against scikit-learn in ``test_the_map_itself``."""
    return slc.searchlight(noise, radius_mm=5.5, block_centers=10_000).compute(scheduler="sync")


def test_the_map_itself(noise: xr.Dataset, expected: xr.Dataset) -> None:
    y = np.array(noise["condition"].values.tolist())
    centers = np.argwhere(noise["mask"].values)[::9]
    flat = noise["bold"].values.reshape(-1, len(y))
    for center, sphere in zip(
        centers, spheres_by_distance(centers, noise["mask"].values, OBLIQUE, 5.5), strict=True
    ):
        cv = leave_one_run_out(noise)
        scores = cross_val_score(LinearSVC(max_iter=10_000, random_state=0), flat[sphere].T, y, cv=cv)
        assert np.array_equal(expected["score_fold"].values[(0, slice(None), *center)], scores)
    assert expected["score"].max() > 0.75, "there is something to decode"


@pytest.mark.parametrize("block_centers", [1, 7, 40, None])
@pytest.mark.parametrize("overlap", [False, True])
@pytest.mark.parametrize("kind", ["memory", "store"])
def test_any_block_size(
    block_centers: int | None,
    overlap: bool,
    kind: str,
    noise: xr.Dataset,
    stored: xr.Dataset,
    expected: xr.Dataset,
) -> None:
    ds = noise if kind == "memory" else stored
    _assert_same(slc.searchlight(ds, radius_mm=5.5, block_centers=block_centers, overlap=overlap), expected)


@pytest.mark.parametrize("kind", ["memory", "store"])
@pytest.mark.parametrize("num_workers", [2, 5])
def test_threads(
    num_workers: int, kind: str, noise: xr.Dataset, stored: xr.Dataset, expected: xr.Dataset
) -> None:
    maps = slc.searchlight(noise if kind == "memory" else stored, radius_mm=5.5, block_centers=4)
    _assert_same(maps.compute(scheduler="threads", num_workers=num_workers), expected)


def test_processes(noise: xr.Dataset, stored: xr.Dataset, expected: xr.Dataset) -> None:
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        for ds in (noise, stored):
            maps = slc.searchlight(ds, radius_mm=5.5, block_centers=12)
            _assert_same(maps.compute(scheduler="processes", pool=pool), expected)


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    """One worker; the test that needs two adds one."""
    with (
        LocalCluster(
            n_workers=1, threads_per_worker=1, processes=True, dashboard_address=None, host="127.0.0.1"
        ) as cluster,
        Client(cluster) as client,
    ):
        yield client


def test_one_and_two_distributed_workers(
    client: Client, noise: xr.Dataset, stored: xr.Dataset, expected: xr.Dataset, tmp_path: Path
) -> None:
    for n_workers in (1, 2):
        client.cluster.scale(n_workers)
        client.wait_for_workers(n_workers, timeout=60)
        _assert_same(slc.searchlight(noise, radius_mm=5.5).compute(), expected)
        _assert_same(slc.searchlight(stored, radius_mm=5.5).compute(), expected)
        _assert_same(slc.searchlight(stored, radius_mm=5.5, overlap=True).compute(), expected)
        out = tmp_path / f"{n_workers}.zarr"
        _assert_same(slc.searchlight(stored, radius_mm=5.5, out=out, block_centers=9), expected)


def test_fewer_samples_than_voxels_under_two_threads() -> None:
    """liblinear's dual solver is not repeatable when several threads fit at once, unless one waits."""
    shape = (3, 5, 3)
    rng = np.random.default_rng(1)
    raw = (600 + 12 * rng.normal(size=(*shape, 24))).astype(np.float32)
    ds = slc.subject_dataset(raw, affine=OBLIQUE, condition=["a", "b"] * 12, run=np.repeat([0, 1, 2], 8))
    options = {"radius_mm": 8.5, "block_centers": 3, "engine": "sklearn"}
    alone = slc.searchlight(ds, **options).compute(scheduler="sync")
    assert np.median(alone["sphere_size"]) > 16, (
        "more voxels than training samples, so that the dual is chosen"
    )
    for _ in range(2):
        _assert_same(slc.searchlight(ds, **options).compute(scheduler="threads", num_workers=2), alone)
    flat, y = raw.reshape(-1, 24), np.array(["a", "b"] * 12)
    sphere = spheres_by_distance(np.array([[1, 2, 1]]), np.ones(shape, bool), OBLIQUE, 8.5)[0]
    cv = leave_one_run_out(ds)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scores = cross_val_score(LinearSVC(max_iter=10_000, random_state=0), flat[sphere].T, y, cv=cv)
    assert np.array_equal(alone["score_fold"].values[0, :, 1, 2, 1], scores)


# --- lazy means lazy


class Noting(ClassifierMixin, BaseEstimator):
    """Writes a line for every fit, so that a test can count them, whoever made them."""

    def __init__(self, path: str = "") -> None:
        self.path = path

    def fit(self, X: np.ndarray, y: np.ndarray) -> Noting:
        self.classes_ = np.unique(y)
        with open(self.path, "a") as file:
            file.write(f"{X.shape[1]}\n")
        return self

    def score(self, X: np.ndarray, y: np.ndarray) -> float:
        return 0.5


@pytest.mark.parametrize("overlap", [False, True])
def test_a_slice_computes_only_its_blocks(overlap: bool, tmp_path: Path) -> None:
    log = tmp_path / "fits"
    ds = place_dataset((7, 8, 9), OBLIQUE)
    maps = slc.searchlight(
        ds,
        radius_mm=4.0,
        estimator=Noting(str(log)),
        scoring=None,
        cv=KFold(2),
        block_centers=27,
        overlap=overlap,
    )
    assert not log.exists(), "nothing may be computed before it is asked for"
    part = maps["score"][:2, :2, 8].compute(scheduler="sync")
    chunks = maps["score"].data.chunks
    block = chunks[0][0] * chunks[1][0] * chunks[2][-1]
    assert part.notnull().all()
    assert len(log.read_text().split()) == 2 * block
    assert block < 80


def test_the_sphere_sizes_are_there_at_once(noise: xr.Dataset) -> None:
    maps = slc.searchlight(noise, radius_mm=5.5)
    assert isinstance(maps["sphere_size"].data, np.ndarray)
    assert maps["sphere_size"].dtype == np.int32
    assert dask.is_dask_collection(maps["score"].data)
    assert maps["score_fold"].chunks[1] == (3,)


@pytest.mark.parametrize("kind", ["memory", "store"])
def test_tasks_carry_no_voxels_and_the_plan_only_once(
    kind: str, noise: xr.Dataset, stored: xr.Dataset
) -> None:
    """What is sent with every task stays small, so that a scheduler can hold many of them."""
    import cloudpickle

    ds = noise if kind == "memory" else stored
    graph = dict(slc.searchlight(ds, radius_mm=5.5, block_centers=4)["score"].__dask_graph__())
    names = {str(key[0] if isinstance(key, tuple) else key) for key in graph}
    plans = [name for name in names if name.startswith("plan-")]
    assert len(plans) == 1
    assert any(name.startswith("searchlight") for name in names)
    tasks = [
        task for key, task in graph.items() if isinstance(key, tuple) and key[0].startswith("searchlight-")
    ]
    assert len(tasks) > 20
    assert max(len(cloudpickle.dumps(task)) for task in tasks) < 4000


def test_an_estimator_that_fails_is_named_with_its_center(noise: xr.Dataset) -> None:
    class Failing(Witness):
        def fit(self, X: np.ndarray, y: np.ndarray) -> Failing:
            if X.shape[1] < 4:
                raise RuntimeError("too few\nvoxels")
            return super().fit(X, y)

    maps = slc.searchlight(noise, radius_mm=4.2, estimator=Failing(), scoring=None)
    assert (maps["sphere_size"].values[noise["mask"].values] < 4).any()
    with pytest.raises(BlockError) as caught:
        maps["score"].compute(scheduler="sync")
    text = str(caught.value)
    assert "RuntimeError: too few voxels" in text
    assert text.startswith("array, block at [")
    voxel = eval(text.split("center at voxel ")[1].split(", fold")[0])
    assert 0 < maps["sphere_size"].values[voxel] < 4
