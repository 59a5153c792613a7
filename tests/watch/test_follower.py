"""What a follower hands on, piece by piece, is what the finished result holds."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import slcluster as slc
from slcluster.errors import StoreError
from slcluster.maps import named_maps
from slcluster.store import open_store
from slcluster.store.failures import Failure, write_failures
from slcluster.store.notes import NOTES_NAME
from slcluster.store.result import BLOCK_ARRAYS
from slcluster.watch import follower as module
from slcluster.watch.follower import Follower
from tests.conftest import OBLIQUE
from tests.watch.conftest import OPTIONS


@pytest.fixture(autouse=True)
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look at the store whenever asked."""
    monkeypatch.setattr(module, "_EVERY_S", 0.0)


@pytest.fixture
def empty(finished: Path, tmp_path: Path) -> Path:
    """The finished result before its first block."""
    return without_blocks(finished, tmp_path / "out.zarr")


def without_blocks(finished: Path, path: Path) -> Path:
    shutil.copytree(finished, path)
    for name in BLOCK_ARRAYS:
        shutil.rmtree(path / name / "c")
    (path / "finished.json").unlink()
    shutil.rmtree(path / NOTES_NAME)
    return path


def put(block: int, finished: Path, path: Path) -> None:
    """Finish a block: its chunks, in the order that they are written in."""
    for name in BLOCK_ARRAYS:
        shutil.copytree(finished / name / "c" / str(block), path / name / "c" / str(block))


def collect(follower: Follower, cuts: list[int] | None = None) -> list[np.ndarray]:
    """Every map on its grid, from increments that begin at these versions."""
    n_done = follower.state()["version"]
    centers = np.frombuffer(follower.centers(), "<u4")
    size = follower.about["block_centers"]
    maps = []
    for number in range(follower.n_maps):
        flat = np.full(len(centers), np.nan, "<f4")
        for start, stop in zip([0, *(cuts or [])], [*(cuts or []), n_done], strict=True):
            blocks, values = follower.values(number, start)
            offset = 0
            for block in blocks:
                n = min(size, len(centers) - block * size)
                flat[block * size : block * size + n] = values[offset : offset + n]
                offset += n
            assert offset == len(values)
            assert len(blocks) == n_done - start
            assert stop <= n_done
        volume = np.full(np.prod(follower.about["shape"]), np.nan, "<f4")
        volume[centers] = flat
        maps.append(volume.reshape(follower.about["shape"], order="F"))
    return maps


def assert_same(follower: Follower, result: xr.Dataset, **options: Any) -> None:
    maps = named_maps(result)
    assert [about["name"] for about in follower.about["maps"]] == list(maps)
    for found, expected in zip(collect(follower, **options), maps.values(), strict=True):
        np.testing.assert_array_equal(found, expected.values.astype("<f4"))


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_increments_add_up(data: st.DataObject, finished: Path, tmp_path: Path) -> None:
    """Whatever the order in which blocks are done, when the store was looked at and how often a page asked."""
    path = tmp_path / "out.zarr"
    shutil.rmtree(path, ignore_errors=True)
    without_blocks(finished, path)
    follower = Follower(path)
    n_blocks = follower.state()["n_blocks"]
    order = data.draw(st.permutations(range(n_blocks)))
    looks = data.draw(st.sets(st.integers(0, n_blocks)))
    n_stop = data.draw(st.integers(0, n_blocks))
    versions = []
    for count, block in enumerate(order[:n_stop]):
        put(block, finished, path)
        if count in looks:
            follower.refresh()
            versions.append(follower.state()["version"])
    follower.refresh()
    assert follower.state()["n_done"] == n_stop
    assert versions == sorted(versions)
    assert_same(follower, slc.open_result(path), cuts=versions)


def moments(x: np.ndarray, y: np.ndarray, groups: np.ndarray) -> np.ndarray:
    return np.array([[x.mean(), x.std(), x.max()], [-x.mean(), -x.std(), -x.max()]])


def mean(x: np.ndarray, y: np.ndarray, groups: np.ndarray) -> float:
    return float(x.mean())


MEASURES: dict[str, dict[str, Any]] = {
    "two dimensions": {"estimator": moments},
    "a number": {"estimator": mean},
    "every second": {"center_spacing": 2, "scoring": "balanced_accuracy"},
}


@pytest.mark.parametrize("name", list(MEASURES))
def test_measures_and_thin_results(name: str, subject: Path, tmp_path: Path) -> None:
    options = {**OPTIONS, **MEASURES[name]}
    result = slc.searchlight(open_store(subject), out=tmp_path / "out.zarr", **options)
    follower = Follower(tmp_path / "out.zarr")
    follower.refresh()
    assert follower.state()["state"] == "finished"
    assert_same(follower, result)
    chances = {about["chance"] for about in follower.about["maps"]}
    assert chances == ({0.5} if name == "every second" else {None})


def test_done_blocks_are_not_read_again(finished: Path, empty: Path) -> None:
    follower = Follower(empty)
    for block in (0, 1):
        put(block, finished, empty)
    follower.refresh()
    before = collect(follower)
    for block in (0, 1):  # whatever becomes of the files
        for file in (empty / "score" / "c" / str(block)).rglob("*"):
            if file.is_file():
                file.write_bytes(b"lost")
    put(2, finished, empty)
    follower.refresh()
    assert follower.state()["n_done"] == 3
    for was, now in zip(before, collect(follower), strict=True):
        np.testing.assert_array_equal(was[~np.isnan(was)], now[~np.isnan(was)])


def test_a_damaged_block_waits_until_it_is_computed_again(finished: Path, empty: Path) -> None:
    follower = Follower(empty)
    for block in range(3):
        put(block, finished, empty)
    chunk = next(file for file in (empty / "score" / "c" / "1").rglob("*") if file.is_file())
    sound = chunk.read_bytes()
    chunk.write_bytes(sound[:5] + bytes([sound[5] ^ 1]) + sound[6:])
    follower.refresh()
    assert follower.state()["n_done"] == 2
    chunk.write_bytes(sound)
    follower.refresh()
    assert follower.state()["n_done"] == 3
    assert_same(follower, slc.open_result(empty))


def test_a_large_result_is_read_in_turns(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Damaged blocks at the front must not keep those behind from their turn."""
    monkeypatch.setattr(module, "_AT_ONCE", 2)
    follower = Follower(finished)
    follower.refresh()
    assert (follower.state()["n_done"], follower.state()["is_behind"]) == (2, True)
    while follower.state()["is_behind"]:
        follower.refresh()
    assert follower.state()["state"] == "finished"
    assert_same(follower, slc.open_result(finished))


def test_maps_beyond_those_in_memory_are_read_when_asked_for(
    finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_KEPT_MAPS", 2)
    follower = Follower(finished)
    follower.refresh()
    assert follower.n_maps > 4
    assert_same(follower, slc.open_result(finished))


def test_blocks_are_told_by_worker(finished: Path) -> None:
    follower = Follower(finished)
    follower.refresh()
    state = follower.state()
    assert sum(row["n_done"] for row in state["workers"]) == state["n_blocks"]
    assert state["n_unnoted"] == 0
    assert all(row["worker"].startswith("process ") for row in state["workers"])


def test_blocks_without_a_note_are_counted_too(finished: Path, empty: Path) -> None:
    put(3, finished, empty)
    follower = Follower(empty)
    follower.refresh()
    assert (follower.state()["workers"], follower.state()["n_unnoted"]) == ([], 1)


def test_axes_are_those_of_the_world(finished: Path) -> None:
    """The affine runs from right to left: its first axis is shown flipped."""
    about = Follower(finished).about
    assert about["axes"] == [(0, True), (1, False), (2, False)]
    np.testing.assert_allclose(about["affine"], OBLIQUE)
    i, j, k = about["start"]
    assert slc.open_result(finished)["sphere_size"].values[i, j, k] > 0


def test_the_mean_image_is_what_was_ingested(finished: Path, subject: Path, tmp_path: Path) -> None:
    shape = Follower(finished).about["shape"]
    gray = np.frombuffer(Follower(finished).mean(), np.uint8).reshape(shape, order="F")
    mean = open_store(subject)["mean"].values
    inner = (gray > 0) & (gray < 255)
    assert inner.sum() > gray.size // 2
    assert np.corrcoef(gray[inner], mean[inner])[0, 1] > 0.999
    moved = subject.rename(tmp_path / "moved.zarr")
    try:
        assert Follower(finished).mean() == b""
    finally:
        moved.rename(subject)


def test_no_result(subject: Path, tmp_path: Path) -> None:
    for path in (tmp_path / "none.zarr", subject):
        with pytest.raises(StoreError):
            Follower(path)


def test_blocks_that_were_given_up(finished: Path, empty: Path) -> None:
    """Until they are done after all."""
    write_failures(empty, [Failure(1, "sub, block 1: singular", 2), Failure(2, "sub, block 2: <b>", 1)])
    put(1, finished, empty)
    follower = Follower(empty)
    follower.refresh()
    state = follower.state()
    assert state["n_failed"] == 1
    assert state["failures"] == [{"block": 2, "error": "sub, block 2: <b>", "n_tries": 1}]
