"""Result stores: what is done, what is damaged, and that nothing damaged is ever returned as a value."""

from __future__ import annotations

import json
import os
import shutil
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
import zarr

import slcluster as slc
from slcluster.errors import StoreError
from slcluster.searchlight import resume
from slcluster.store import result, write_array_store
from slcluster.store.digest import DIGEST_NAME, write_digest
from slcluster.store.lease import LEASE_NAME, Lease
from slcluster.store.result import (
    BLOCK_ARRAYS,
    FINISHED_NAME,
    blocks_done,
    create_result,
    finish_result,
    is_block_done,
    is_result_finished,
    read_constants,
    read_result,
    read_result_attrs,
    sweep_result,
    write_block,
)
from tests.conftest import OBLIQUE
from tests.faults.driving import FORKING

#: 11 centers in blocks of 4, so that the last is cut short; two metrics, three folds.
N_CENTERS, BLOCK, SIZES = 11, 4, {"metric": 2, "fold": 3}
N_BLOCKS = 3
CONSTANTS = {
    "center_ijk": (("center", "axis"), np.arange(33, dtype=np.int32).reshape(11, 3)),
    "mask": (("x", "y", "z"), np.zeros((2, 3, 4), bool)),  # nothing but the fill value
    "chosen": (("sample",), np.arange(5)),
}


def _values() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        "score": rng.normal(size=(N_CENTERS, 2, 3)),
        "n_unconverged": rng.integers(0, 9, (N_CENTERS, 3)).astype(np.int32),
    }


def _create(path: Path, **changes: Any) -> Path:
    options = {"n_centers": N_CENTERS, "block_centers": BLOCK, "sizes": SIZES, "constants": CONSTANTS}
    create_result(path, **{**options, "attrs": {"fingerprint": "f"}, **changes})
    return path


def _write(path: Path, *numbers: int, values: dict[str, np.ndarray] | None = None) -> None:
    values = _values() if values is None else values
    for number in numbers:
        part = slice(number * BLOCK, (number + 1) * BLOCK)
        arrays = {name: array[part] for name, array in values.items()}
        write_block(path, number, arrays, store_id=read_result_attrs(path)["store_id"])


def _chunks(path: Path, *names: str) -> list[Path]:
    """Files of the per-block arrays, or of some."""
    folders = [path / name / "c" for name in names or BLOCK_ARRAYS]
    return sorted(file for folder in folders for file in folder.rglob("*") if file.is_file())


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return _create(tmp_path / "out.zarr")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = _create(tmp_path_factory.mktemp("finished") / "out.zarr")
    _write(path, *range(N_BLOCKS))
    finish_result(path)
    return path


@pytest.fixture
def copy(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "copy.zarr"))


# --- what is written is what is read


def test_a_new_store_holds_the_plan_and_no_block(store: Path) -> None:
    assert blocks_done(store).tolist() == [False] * N_BLOCKS
    assert not is_result_finished(store)
    assert read_result_attrs(store)["fingerprint"] == "f"
    arrays, done = read_result(store)
    assert not done.any()
    for name, (_, values) in CONSTANTS.items():
        np.testing.assert_array_equal(arrays[name], values)
        assert arrays[name].dtype == values.dtype
    assert np.isnan(arrays["score"]).all()
    assert arrays["score"].shape == (N_CENTERS, 2, 3)
    assert list(read_constants(store)) == list(CONSTANTS)


def test_blocks_in_any_order(store: Path) -> None:
    values = _values()
    _write(store, 2, 0)
    arrays, done = read_result(store)
    assert done.tolist() == [True, False, True]
    for name in values:
        for part in (slice(0, 4), slice(8, 11)):
            np.testing.assert_array_equal(arrays[name][part], values[name][part])
    assert np.isnan(arrays["score"][4:8]).all()
    assert (arrays["n_unconverged"][4:8] == 0).all()
    _write(store, 1, 1, 2)  # again is harmless
    arrays, done = read_result(store)
    assert done.all()
    for name in values:
        assert arrays[name].tobytes() == values[name].tobytes()


@pytest.mark.parametrize(("n_centers", "block_centers"), [(1, 1), (1, 1000), (3, 1000), (4, 4), (5, 1)])
def test_any_number_of_centers(tmp_path: Path, n_centers: int, block_centers: int) -> None:
    path = _create(tmp_path / "out.zarr", n_centers=n_centers, block_centers=block_centers)
    values = {name: array[:n_centers] for name, array in _values().items()}
    for number in range(-(-n_centers // block_centers)):
        part = slice(number * block_centers, (number + 1) * block_centers)
        arrays = {name: array[part] for name, array in values.items()}
        write_block(path, number, arrays, store_id=read_result_attrs(path)["store_id"])
    arrays, done = read_result(path)
    assert done.all()
    np.testing.assert_array_equal(arrays["score"], values["score"])


def test_others_can_open_it_without_a_warning(finished: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ds = xr.open_zarr(finished)
    assert ds["score"].dims == ("center", "metric", "fold")
    np.testing.assert_array_equal(ds["score"].values, _values()["score"])


def test_attributes_of_any_kind(tmp_path: Path) -> None:
    """What users put into a Dataset's attributes must not keep its result from being written."""
    odd = {"array": np.arange(2.0), "number": np.int64(3), "path": Path("/x"), "nan": float("nan")}
    attrs = read_result_attrs(_create(tmp_path / "out.zarr", attrs={**odd, "slcluster": "mine"}))
    assert (attrs["array"], attrs["number"], attrs["path"]) == ([0.0, 1.0], 3, "/x")
    assert np.isnan(attrs["nan"])
    assert attrs["slcluster"] == "result"


# --- done or not


def _write_fills(path: Path) -> None:
    _write(path, 0, 2, values={name: np.full_like(v, BLOCK_ARRAYS[name][2]) for name, v in _values().items()})


def test_blocks_of_fill_values_are_done_and_missing_ones_are_not(store: Path) -> None:
    """NaN everywhere, as where all spheres are too small; also seen from, and written by, another process."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        writer = FORKING.Process(target=_write_fills, args=(store,))
        writer.start()
    writer.join()
    assert blocks_done(store).tolist() == [True, False, True]
    assert [is_block_done(store, number) for number in range(3)] == [True, False, True]
    _write_fills(store)
    again = shutil.copytree(store, store.with_name("moved.zarr"))
    assert blocks_done(again).tolist() == [True, False, True]


@pytest.mark.parametrize("name", list(BLOCK_ARRAYS))
def test_a_block_is_done_when_every_array_has_it(store: Path, name: str) -> None:
    _write(store, 0, 1, 2)
    _chunks(store, name)[1].unlink()
    assert blocks_done(store).tolist() == [True, False, True]
    arrays, _ = read_result(store)
    assert np.isnan(arrays["score"][4:8]).all()


@pytest.mark.parametrize("name", list(BLOCK_ARRAYS))
def test_a_cut_chunk_is_not_done(store: Path, name: str) -> None:
    _write(store, 0, 1, 2)
    chunk = _chunks(store, name)[2]
    whole = chunk.read_bytes()
    for length in range(len(whole)):
        chunk.write_bytes(whole[:length])
        assert not is_block_done(store, 2), length
    chunk.write_bytes(whole + b"\0")
    assert not is_block_done(store, 2)
    assert np.isnan(read_result(store)[0]["score"][8:]).all()
    _write(store, 2)
    assert chunk.read_bytes() == whole
    assert blocks_done(store).all()


def test_any_flipped_bit_is_found_and_never_read(store: Path) -> None:
    _write(store, 0, 1, 2)
    rng, values = np.random.default_rng(5), _values()
    chunks = _chunks(store)
    assert len(chunks) == 2 * N_BLOCKS
    for trial in range(120):
        chunk = chunks[trial % len(chunks)]
        number = int(chunk.relative_to(store).parts[2])
        whole = chunk.read_bytes()
        flipped = bytearray(whole)
        flipped[int(rng.integers(len(whole)))] ^= 1 << int(rng.integers(8))
        chunk.write_bytes(flipped)
        expected = [n != number for n in range(N_BLOCKS)]
        assert blocks_done(store).tolist() == expected
        arrays, done = read_result(store)
        assert done.tolist() == expected
        for n in range(N_BLOCKS):
            part = slice(n * BLOCK, (n + 1) * BLOCK)
            if n == number:
                assert np.isnan(arrays["score"][part]).all()
                assert not arrays["n_unconverged"][part].any()
            else:
                np.testing.assert_array_equal(arrays["score"][part], values["score"][part])
        _write(store, number)
        assert chunk.read_bytes() == whole


def test_a_folder_in_a_chunks_place_is_not_done(store: Path) -> None:
    _write(store, 0)
    chunk = _chunks(store, "score")[0]
    chunk.unlink()
    chunk.mkdir()
    assert not is_block_done(store, 0)


# --- metadata and the plan


@pytest.mark.parametrize("is_finished", [True, False])
def test_any_flipped_bit_of_metadata_is_found(copy: Path, is_finished: bool) -> None:
    """While it is computed too: another digit in a chunk's length would write scores to other centers."""
    if not is_finished:
        (copy / FINISHED_NAME).unlink()
    rng = np.random.default_rng(3)
    for file in [*sorted(copy.rglob("zarr.json")), copy / DIGEST_NAME]:
        whole = file.read_bytes()
        for at in np.unique([0, len(whole) - 1, *rng.integers(len(whole), size=20)]):
            flipped = bytearray(whole)
            flipped[at] ^= 1 << int(rng.integers(8))
            file.write_bytes(flipped)
            for read in (read_result_attrs, blocks_done, read_result):
                with pytest.raises(StoreError):
                    read(copy)
        file.write_bytes(whole)
    assert blocks_done(copy).all()


@pytest.mark.parametrize("name", list(CONSTANTS))
def test_a_damaged_plan_is_found(copy: Path, name: str) -> None:
    (chunk,) = _chunks(copy, name)
    whole = chunk.read_bytes()
    rng = np.random.default_rng(1)
    for _ in range(20):
        flipped = bytearray(whole)
        flipped[int(rng.integers(len(whole)))] ^= 1 << int(rng.integers(8))
        chunk.write_bytes(flipped)
        with pytest.raises(StoreError, match=rf"the plan kept in {copy} is damaged \({name}: .*; restore it"):
            read_result(copy)
    for damage in (lambda: chunk.write_bytes(whole[:-1]), chunk.unlink):
        damage()
        with pytest.raises(
            StoreError, match=r"restore it from a copy, or compute it again under another name"
        ):
            read_constants(copy)


def test_a_lease_in_place_when_it_finishes_changes_nothing(store: Path) -> None:
    """A digest that named the lease would call the store damaged once the lease is given back."""
    _write(store, 0, 1, 2)
    with Lease(store):
        finish_result(store)
        assert (store / LEASE_NAME).exists()
        assert is_result_finished(store)
        assert read_result(store)[1].all()
    assert not (store / LEASE_NAME).exists()
    assert read_result(store)[1].all()
    assert LEASE_NAME not in (store / DIGEST_NAME).read_text()


def test_lost_blocks_of_a_finished_result_can_be_written_again(copy: Path, finished: Path) -> None:
    chunk = _chunks(copy)[0]
    chunk.unlink()
    assert is_result_finished(copy)
    assert blocks_done(copy).tolist() == [False, True, True]
    _write(copy, 0)
    assert chunk.read_bytes() == _chunks(finished)[0].read_bytes()


# --- leftovers, replacements, strangers


def test_leftovers_are_swept_and_do_not_count(store: Path) -> None:
    _write(store, 0)
    left = [
        store / "score" / "c" / "1" / "0" / "0.5f.partial",
        store / "n_unconverged" / "c" / "2" / "0.77.partial",
        store / f"{FINISHED_NAME}.1.partial",
    ]
    for file in left:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"half")
    assert blocks_done(store).tolist() == [True, False, False]
    before = _chunks(store)
    sweep_result(store)
    assert not list(store.rglob("*.partial"))
    assert set(_chunks(store)) == set(before) - set(left)


def test_a_store_appears_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def look(folder: Path) -> None:
        seen.append(sorted(os.listdir(tmp_path)))
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(result, "write_digest", look)
    with pytest.raises(
        StoreError, match=r"cannot write .*out.zarr: No space left on device; free some space"
    ):
        _create(tmp_path / "out.zarr")
    assert len(seen[0]) == 1
    assert seen[0][0].endswith(".partial")
    assert os.listdir(tmp_path) == []


def test_what_a_killed_creator_left_is_swept(tmp_path: Path) -> None:
    (tmp_path / "out.zarr.0123abcd.partial").mkdir()
    _create(tmp_path / "out.zarr")
    assert os.listdir(tmp_path) == ["out.zarr"]


def test_two_creators(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second is refused while the first writes, and after."""
    inside, go = threading.Event(), threading.Event()

    def slowly(folder: Path) -> str:
        inside.set()
        assert go.wait(10)
        return write_digest(folder)

    monkeypatch.setattr(result, "write_digest", slowly)
    first = threading.Thread(target=_create, args=(tmp_path / "out.zarr",))
    first.start()
    assert inside.wait(10)
    with pytest.raises(StoreError, match="another process or thread is writing"):
        _create(tmp_path / "out.zarr")
    go.set()
    first.join()
    with pytest.raises(StoreError, match="exists already; pass another out, or remove it"):
        _create(tmp_path / "out.zarr")


def test_a_task_of_an_earlier_store_cannot_write_into_this_one(store: Path) -> None:
    """Ctrl-C, remove, begin another analysis under the same name: a worker still computes the first one's block."""
    old = read_result_attrs(store)["store_id"]
    shutil.rmtree(store)
    _create(store)
    block = {name: array[:BLOCK] for name, array in _values().items()}
    with pytest.raises(StoreError, match="was replaced by another result"):
        write_block(store, 0, block, store_id=old)
    assert not blocks_done(store).any()
    _write(store, 0)
    shutil.rmtree(store)
    with pytest.raises(StoreError, match="cannot read .*No such file"):
        write_block(store, 0, block, store_id=old)
    assert not store.exists()


@pytest.fixture
def strangers(tmp_path: Path) -> Iterator[dict[str, Path]]:
    bold = np.zeros((2, 3, 4, 5), np.float32)
    zarr.create_group(tmp_path / "group.zarr", attributes={"a": 1})
    (tmp_path / "empty").mkdir()
    (tmp_path / "file.zarr").write_text("text")
    newer = _create(tmp_path / "newer.zarr")
    about = json.loads((newer / "zarr.json").read_text())
    about["attributes"]["schema_version"] = 99
    (newer / "zarr.json").write_text(json.dumps(about))
    return {
        "subject": write_array_store(slc.subject_dataset(bold, affine=OBLIQUE), tmp_path / "subject.zarr"),
        "group": tmp_path / "group.zarr",
        "empty": tmp_path / "empty",
        "file": tmp_path / "file.zarr",
        "missing": tmp_path / "missing.zarr",
        "newer": newer,
    }


@pytest.mark.parametrize("read", [slc.open_result, slc.status, resume])
@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("subject", r"is a subject store, not a result; open it with slcluster\.open_store"),
        ("group", r"is not a result store; expected what was given as out to slcluster\.searchlight"),
        ("empty", r"is not a result store; expected"),
        ("file", r"is not a result store; expected"),
        ("missing", r"no result at .*missing\.zarr; compute one with slcluster\.searchlight"),
        ("newer", r"has schema version 99, this slcluster knows 1; upgrade slcluster"),
    ],
)
def test_what_is_no_result(strangers: dict[str, Path], read: Any, kind: str, message: str) -> None:
    with pytest.raises(StoreError, match=message) as caught:
        read(strangers[kind])
    assert "\n" not in str(caught.value)
    assert str(strangers[kind]) in str(caught.value)
