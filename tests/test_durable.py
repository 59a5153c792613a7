"""What a result store lets one go on with, and what it refuses."""

from __future__ import annotations

import errno
import json
import logging
import os
import re
import shutil
import subprocess
import sys
import threading
import time
import warnings
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pytest
import xarray as xr
import zarr
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.feature_selection import SelectKBest, f_classif
from sklearn.linear_model import Ridge
from sklearn.model_selection import GroupShuffleSplit, KFold
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

import slcluster as slc
from slcluster import compute, durable, estimators, quarantine, task
from slcluster.durable import resume
from slcluster.errors import FailedBlocksError, InputError, PlanError, StoreError
from slcluster.progress import Step
from slcluster.quarantine import HOPELESS
from slcluster.store import lease, open_store, result, write_array_store
from slcluster.store.attempts import ATTEMPTS_NAME
from slcluster.store.failures import FAILURES_NAME
from slcluster.store.lease import LEASE_NAME
from slcluster.store.result import BLOCK_ARRAYS, FINISHED_NAME
from slcluster.task import Work, store_block
from tests.conftest import OBLIQUE
from tests.faults.driving import FORKING, analyse, count_done, in_threads, same, started, wait_for
from tests.faults.slow import Slow, fits, note
from tests.witness import Total, noise_dataset

QUICK: dict[str, Any] = {"radius_mm": 5.5, "estimator": GaussianNB(), "block_centers": 5}


def stop_at(n_done: int) -> Callable[[Step], None]:
    """A progress listener that stops the analysis, as Ctrl-C does."""

    def stop(step: Step) -> None:
        if step.done >= n_done:
            raise KeyboardInterrupt

    return stop


def begin(ds: xr.Dataset, out: Path, **options: Any) -> int:
    """Begin an analysis and leave it. How many blocks it has done."""
    with dask.config.set(scheduler="sync"), pytest.raises(KeyboardInterrupt):  # no thread goes on
        slc.searchlight(ds, out=out, progress=stop_at(3), **{**QUICK, **options})
    assert slc.status(out).n_done == 3
    return 3


@pytest.fixture
def store(tmp_path: Path) -> Path:
    ds = noise_dataset(affine=OBLIQUE)
    ds = ds.assign_coords(age=("sample", np.linspace(0, 3, 24) ** 2))
    return write_array_store(ds, tmp_path / "subject.zarr")


@pytest.fixture
def ds(store: Path) -> xr.Dataset:
    return open_store(store)


# --- from the store alone


ANALYSES: dict[str, dict[str, Any]] = {
    "plain": {},
    "pipeline": {
        "estimator": make_pipeline(
            StandardScaler(), SelectKBest(f_classif, k=2), LinearDiscriminantAnalysis()
        )
    },
    "search": {"estimator": "ridge_classifier"},
    "several scorers": {"scoring": ["roc_auc", "accuracy", "neg_log_loss"]},
    "named scorers": {"scoring": {"mine": "balanced_accuracy", "other": "f1_macro"}, "target": "condition"},
    "own score": {"scoring": None},
    "prepared": {"standardize": "run", "detrend": True, "min_voxels": 8},
    "shuffled folds": {"cv": GroupShuffleSplit(4, train_size=1, random_state=3)},
    "half of the centers": {"process_mask": np.random.default_rng(2).random((4, 5, 3)) > 0.5},
    "number of voxels": {"n_voxels": 7, "radius_mm": None},
    "number of voxels within": {"n_voxels": 7, "block_centers": 2},
    "every second": {
        "center_spacing": (2, 1, 2),
        "block_centers": 2,
        "process_mask": np.indices((4, 5, 3))[1] > 0,
    },
    "numbers": {"estimator": Ridge(), "target": "age", "scoring": "r2", "cv": KFold(3)},
    "runs as classes": {"target": "run", "groups": None, "cv": KFold(4, shuffle=True, random_state=0)},
    "samples left out": {"select": {"where": np.arange(24) % 5 != 1}, "detrend": True},
}


@pytest.mark.filterwarnings("ignore:.*centers lie outside the mask")
@pytest.mark.parametrize("name", list(ANALYSES))
def test_gone_on_with_from_the_store_alone(name: str, ds: xr.Dataset, tmp_path: Path) -> None:
    options = {**ANALYSES[name]}
    ds = slc.select(ds, **options.pop("select", {"runs": [0, 1, 2]}))
    if name == "pipeline":  # its scorer is a function, which a store cannot name
        begin(ds, tmp_path / "out.zarr", **options)
        with pytest.raises(
            InputError, match=r"holds functions or arrays; resume it by calling slc\.searchlight"
        ):
            resume(tmp_path / "out.zarr")
        options["estimator"] = make_pipeline(StandardScaler(), LinearDiscriminantAnalysis())
        shutil.rmtree(tmp_path / "out.zarr")
    begin(ds, tmp_path / "out.zarr", **options)
    found = resume(tmp_path / "out.zarr")
    expected = slc.searchlight(ds, **{**QUICK, **options, "block_centers": 11})
    assert same(found, expected.compute(scheduler="sync"))
    assert found["score"].dims == expected["score"].dims
    assert list(found.data_vars) == list(expected.data_vars)
    for mark in {"is_center", "fill_mask"} & set(expected):
        np.testing.assert_array_equal(found[mark], expected[mark])
    for attr in ("radius_mm", "n_voxels", "center_spacing"):
        assert found.attrs.get(attr) == expected.attrs.get(attr)
    np.testing.assert_array_equal(found["metric"], expected["metric"])


def test_gone_on_with_in_a_fresh_process(ds: xr.Dataset, tmp_path: Path) -> None:
    """An interpreter that has imported nothing yet, started elsewhere."""
    out = tmp_path / "out.zarr"
    begin(ds, out)
    code = f"from slcluster.searchlight import resume; resume({str(out)!r})"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert same(slc.open_result(out), slc.searchlight(ds, **QUICK).compute())


def test_an_estimator_of_ones_own(ds: xr.Dataset, tmp_path: Path) -> None:
    out = tmp_path / "out.zarr"
    own = {"estimator": Total(), "scoring": None}
    begin(ds, out, **own)
    with pytest.raises(
        InputError, match=r"tests\.witness\.Total is not scikit-learn's; resume it by calling"
    ):
        resume(out)
    slc.searchlight(ds, out=out, **{**QUICK, **own})
    assert same(resume(out), slc.open_result(out))  # finished: there is nothing to name


def test_another_version_is_refused(ds: xr.Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a map of one version must not be filled up with the numbers of another."""
    out = tmp_path / "out.zarr"
    begin(ds, out)
    text = r"was begun with another version of slcluster or scikit-learn, or is damaged: {} differ; finish it with"
    with monkeypatch.context() as patch:
        newer = replace(estimators.ENGINES["gnb"], version=2)
        patch.setitem(estimators.ENGINES, "gnb", newer)
        with pytest.raises(StoreError, match=text.format("engine_version")):
            resume(out)
        with pytest.raises(PlanError, match="it differs in: engine_version;"):
            slc.searchlight(ds, out=out, **QUICK)
    with monkeypatch.context() as patch:
        patch.setattr(sys.modules["slcluster.plan"], "RIM_TOLERANCE", 0.5)
        with pytest.raises(StoreError, match=text.format("rim_tolerance")):
            resume(out)
    with monkeypatch.context() as patch:
        patch.delattr("sklearn.naive_bayes.GaussianNB")
        with pytest.raises(
            StoreError, match="does not exist in this scikit-learn .*GaussianNB.*; finish it with"
        ):
            resume(out)
    assert slc.status(resume(out).attrs.get("path", out)).is_finished


# --- another analysis


def _other_labels(ds: xr.Dataset) -> xr.Dataset:
    return ds.assign_coords(condition=("sample", np.roll(ds["condition"].values, 1)))


CHANGES: dict[str, tuple[Callable[[xr.Dataset], xr.Dataset], dict[str, Any], str]] = {
    "labels": (_other_labels, {}, "targets"),
    "runs": (lambda ds: ds.assign_coords(run=("sample", np.arange(24) % 3)), {}, "folds, groups, runs"),
    "samples": (
        lambda ds: slc.select(ds, where=np.arange(24) % 8 > 1),
        {},
        "chosen, folds, groups, sample_index",
    ),
    "mask": (lambda ds: ds.assign(mask=ds["mask"] & (ds["x"] != 2)), {}, "centers, mask"),
    "values": (lambda ds: ds.assign(bold=ds["bold"] * 2), {}, "store"),
    "crop": (lambda ds: ds.isel(z=[0, 1]), {}, "affine, centers, mask, store|centers, mask, store"),
    "process mask": (lambda ds: ds, {"process_mask": np.arange(60).reshape(4, 5, 3) % 2 == 0}, "centers"),
    "parameter": (lambda ds: ds, {"estimator": GaussianNB(var_smoothing=1e-3)}, "estimator"),
    "folds": (lambda ds: ds, {"cv": KFold(3, shuffle=True, random_state=1)}, "folds"),
    "scorer": (lambda ds: ds, {"scoring": "roc_auc"}, "metrics, scoring"),
    "radius": (lambda ds: ds, {"radius_mm": 5.5001}, "radius_mm"),
    "number of voxels": (lambda ds: ds, {"n_voxels": 7}, "n_voxels"),
    "spacing": (lambda ds: ds, {"center_spacing": 2}, "center_spacing"),
    "standardize": (lambda ds: ds, {"standardize": "run"}, "standardize"),
    "detrend": (lambda ds: ds, {"detrend": True}, "detrend"),
    "min_voxels": (lambda ds: ds, {"min_voxels": 2}, "min_voxels"),
    "nonfinite": (lambda ds: ds, {"nonfinite": "zero"}, "nonfinite"),
}


@pytest.mark.filterwarnings("ignore:.*centers lie outside the mask")
@pytest.mark.parametrize("name", list(CHANGES))
def test_a_changed_analysis_is_refused(name: str, ds: xr.Dataset, tmp_path: Path) -> None:
    change, options, fields = CHANGES[name]
    out = tmp_path / "out.zarr"
    n_done = begin(ds, out)
    with pytest.raises(
        PlanError, match=rf"{out} holds another analysis; it differs in: .*({fields}).*; pass"
    ) as caught:
        slc.searchlight(change(ds), out=out, **{**QUICK, **options})
    assert "\n" not in str(caught.value)
    assert slc.status(out).n_done == n_done
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.zarr", "subject.zarr"], (
        "nothing left behind"
    )


@pytest.mark.parametrize("options", [{"block_centers": 2}, {"block_centers": None}, {"memory_limit": "5GB"}])
def test_what_does_not_change_a_map_may_change(
    options: dict[str, Any], ds: xr.Dataset, tmp_path: Path
) -> None:
    out = tmp_path / "out.zarr"
    begin(ds, out)
    n_blocks = slc.status(out).n_blocks
    found = slc.searchlight(ds, out=out, **{**QUICK, **options})
    assert same(found, slc.searchlight(ds, **QUICK).compute())
    assert found.attrs["n_blocks"] == n_blocks


# --- the subject store meanwhile


def test_a_subject_store_that_has_gone(ds: xr.Dataset, store: Path, tmp_path: Path) -> None:
    out, away = tmp_path / "out.zarr", tmp_path / "moved" / "subject.zarr"
    begin(ds, out)
    away.parent.mkdir()
    store.rename(away)
    with pytest.raises(StoreError) as caught:
        resume(out)
    assert str(caught.value) == (
        f"{store}, whose samples {out} is computed from, is gone; bring it back, or open it where it is now and "
        f"call slcluster.searchlight(ds, out='{out}', ...) with the same arguments"
    )
    found = slc.searchlight(open_store(away), out=out, **QUICK)  # as the message says
    assert same(found, slc.searchlight(open_store(away), **QUICK).compute())
    shutil.rmtree(away)
    assert same(resume(out), found)  # a finished result needs nobody


def test_a_subject_store_that_was_written_again(ds: xr.Dataset, store: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.zarr"
    begin(ds, out)
    write_array_store(noise_dataset(affine=OBLIQUE, seed=1), store, overwrite=True)
    with pytest.raises(
        StoreError, match="is not the store this analysis began with .*; bring that one back and resume"
    ):
        resume(out)


def test_a_subject_store_that_is_written_again_in_mid_run(store: Path, tmp_path: Path) -> None:
    """No block of the other samples gets into the map."""
    out, aside = tmp_path / "out.zarr", tmp_path / "aside.zarr"

    def swap(step: Step) -> None:
        if step.done == 3:
            shutil.copytree(store, aside)
            write_array_store(noise_dataset(affine=OBLIQUE, seed=1), store, overwrite=True)

    with pytest.raises(StoreError, match="is not the store this analysis began with"):
        slc.searchlight(open_store(store), out=out, progress=swap, **QUICK)
    left = slc.status(out)
    assert 3 <= left.n_done < left.n_blocks
    shutil.rmtree(store)
    aside.rename(store)
    assert same(resume(out), slc.searchlight(open_store(store), **QUICK).compute())


def test_lazy_maps_of_a_subject_store_that_was_written_again(store: Path) -> None:
    maps = slc.searchlight(open_store(store), **QUICK)
    write_array_store(noise_dataset(affine=OBLIQUE, seed=1), store, overwrite=True)
    with pytest.raises(StoreError, match="is not the store this analysis began with .* it was written again"):
        maps.compute()


def test_a_store_that_others_cannot_see(
    ds: xr.Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Workers that wrote to a disk of their own: the result must not call itself finished."""
    monkeypatch.setattr(durable, "_VISIBLE_S", 0.1)
    out = tmp_path / "out.zarr"

    def lose(step: Step) -> None:
        if step.done == step.total:
            (out / "score" / "c" / "1" / "0" / "0").rename(tmp_path / "elsewhere")

    with pytest.raises(StoreError, match=f"^1 blocks were computed but are not in {out}: do all workers see"):
        slc.searchlight(ds, out=out, progress=lose, **QUICK)
    assert not (out / FINISHED_NAME).exists()
    assert np.isnan(slc.open_result(out)["score"]).sum() > 0


def test_a_file_that_shows_late(ds: xr.Dataset, tmp_path: Path) -> None:
    """As on network file systems: wait for it, and compute nothing again."""
    out, log = tmp_path / "out.zarr", tmp_path / "log"
    chunk = out / "score" / "c" / "1" / "0" / "0"

    def hide(step: Step) -> None:
        if step.done == step.total:
            chunk.rename(tmp_path / "hidden")
            threading.Timer(0.3, (tmp_path / "hidden").rename, args=(chunk,)).start()

    own = {"estimator": Slow(str(log), pause_s=0.0), "scoring": None}
    found = slc.searchlight(ds, out=out, progress=hide, **{**QUICK, **own})
    assert slc.status(out).is_finished
    assert fits(log).most_common(1)[0][1] == 1
    assert not found["score"].where(ds["mask"], 0).isnull().any()


# --- blocks


def _count_elsewhere(out: Path, answer: Any) -> None:
    answer.put(slc.status(out).n_done)


def test_blocks_of_small_spheres_are_done(ds: xr.Dataset, tmp_path: Path) -> None:
    """Some blocks are NaN throughout, some in part; seen from another process, and not computed again."""
    out, log = tmp_path / "out.zarr", tmp_path / "log"
    options = {**QUICK, "estimator": Slow(str(log), pause_s=0.0), "scoring": None, "min_voxels": 10}
    options["block_centers"] = 1
    found = slc.searchlight(ds, out=out, **options)
    small = found["sphere_size"].values < 10
    assert 20 < np.count_nonzero(small & ds["mask"].values) < 40
    np.testing.assert_array_equal(found["score"].isnull().values, small | ~ds["mask"].values)
    n_fits = fits(log).total()
    answer = FORKING.SimpleQueue()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        other = FORKING.Process(target=_count_elsewhere, args=(out, answer))
        other.start()
    assert answer.get() == 47
    other.join()
    (out / FINISHED_NAME).unlink()
    assert same(slc.searchlight(ds, out=out, **options), found)
    assert fits(log).total() == n_fits


def test_a_task_that_is_repeated_computes_nothing(ds: xr.Dataset, tmp_path: Path) -> None:
    """A scheduler repeats what a dead worker had done and not yet reported."""
    out, log = tmp_path / "out.zarr", tmp_path / "log"
    options = {**QUICK, "estimator": Slow(str(log), pause_s=0.0), "scoring": None}
    begin(ds, out, **options)
    plan = slc.plan(ds, **options)
    work = Work(plan, str(out), durable.read_result_attrs(out)["store_id"])
    for number in range(plan.n_blocks):
        store_block(work, number)
    assert fits(log).most_common(1)[0][1] == 1
    assert slc.status(out).n_done == plan.n_blocks


def _flip(chunk: Path) -> None:
    raw = bytearray(chunk.read_bytes())
    raw[7] ^= 16
    chunk.write_bytes(raw)


DAMAGES: dict[str, Callable[[Path], Any]] = {
    "flipped": _flip,
    "cut": lambda chunk: chunk.write_bytes(chunk.read_bytes()[:-1]),
    "emptied": lambda chunk: chunk.write_bytes(b""),
    "lost": Path.unlink,
}


@pytest.mark.parametrize("array", list(BLOCK_ARRAYS))
@pytest.mark.parametrize("is_finished", [True, False])
def test_damaged_blocks_are_mended_from_the_store_alone(
    is_finished: bool, array: str, ds: xr.Dataset, tmp_path: Path
) -> None:
    """One block damaged in each way: no score of theirs is shown, and they alone are computed again."""
    out = tmp_path / "out.zarr"
    expected = slc.searchlight(ds, out=out, **QUICK)
    chunks = sorted(file for file in (out / array / "c").rglob("*") if file.is_file())
    for damage, chunk in zip(DAMAGES.values(), chunks[2:], strict=False):
        damage(chunk)
    if is_finished:
        message = (
            rf"{out} was finished, but 4 of its 10 blocks are damaged or gone; .*: slcluster resume {out}$"
        )
        with pytest.raises(StoreError, match=message):
            slc.open_result(out)
    else:
        (out / FINISHED_NAME).unlink()
        shown = slc.open_result(out)
        assert shown.attrs["n_blocks_done"] == 6
        is_shown = shown["score"].notnull()
        assert is_shown.sum() == 47 - 4 * 5
        np.testing.assert_array_equal(shown["score"].values[is_shown], expected["score"].values[is_shown])
    left = slc.status(out)
    assert (left.is_finished, left.n_done) == (False, 6)

    files = [file for name in BLOCK_ARRAYS for file in (out / name / "c").rglob("*") if file.is_file()]
    before = {file: file.stat().st_ino for file in files}
    assert same(resume(out), expected)
    rewritten = {file for file, inode in before.items() if file.stat().st_ino != inode}
    assert {int(file.relative_to(out).parts[2]) for file in rewritten} <= {2, 3, 4, 5}
    assert slc.status(out).is_finished


class Unlucky(Total):
    """Fails in small spheres for as long as a file is there, as where a licence or a mount is missing."""

    def __init__(self, trouble: str = "", log: str = "") -> None:
        self.trouble, self.log = trouble, log

    def fit(self, X: np.ndarray, y: np.ndarray) -> Unlucky:
        if X.shape[1] < 5 and Path(self.trouble).exists():
            raise ConnectionError("no licence")
        super().fit(X, y)
        note(self.log, f"{zlib.crc32(X.tobytes()):08x}\n")
        return self


def test_a_driver_elsewhere_that_fell_silent_is_told(ds: xr.Dataset, tmp_path: Path) -> None:
    out = tmp_path / "out.zarr"
    slc.searchlight(ds, out=out, **QUICK)
    (out / FINISHED_NAME).unlink()
    held = {"host": "node7", "place": "node7", "pid": 77, "n_done_at_start": 0, "token": "x"}
    for silent_s, words in (
        (3, "running, .* computed by process 77 on node7 for 300 s"),
        (200, "interrupted, .* no sign of life from process 77 on node7 for 200 s .* resume"),
    ):
        times = {"started": time.time() - 300, "heartbeat": time.time() - silent_s}
        (out / LEASE_NAME).write_text(json.dumps({**held, **times}))
        assert re.search(words, " ".join(str(slc.status(out)).split()))


@pytest.mark.parametrize("scheduler", ["sync", "threads"])
def test_blocks_that_fail_are_set_aside_while_the_others_finish(
    scheduler: str, ds: xr.Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quarantine, "PAUSES_S", (0.01, 0.01, 0.01))
    out, log, trouble = tmp_path / "out.zarr", tmp_path / "log", tmp_path / "trouble"
    trouble.touch()
    options = {**QUICK, "estimator": Unlucky(str(trouble), str(log)), "scoring": None, "block_centers": 1}
    expected = slc.searchlight(ds, **{**options, "estimator": Total()}).compute()
    small = np.count_nonzero(ds["mask"].values & (expected["sphere_size"].values < 5))
    with (
        dask.config.set(scheduler=scheduler, num_workers=2),
        pytest.raises(FailedBlocksError) as caught,
    ):
        slc.searchlight(ds, out=out, **options)
    one = r"array, block \d+, center at voxel \(\d, \d, \d\), fold 0: ConnectionError: no licence"
    assert small == 2
    assert re.fullmatch(
        rf"array: 2 of 47 blocks failed, the others are done: {one}; {one}; "
        rf"to try them again: slcluster resume {out}",
        str(caught.value),
    )
    left = slc.status(out)
    assert (left.n_done, left.n_blocks, left.is_finished, left.holder) == (45, 47, False, None)
    # The first try and three more: a lost connection may come back.
    assert [failure.n_tries for failure in left.failures] == [4] * small
    assert re.search(rf"45 of 47 blocks done\n  2 failed:\n(    {one}\n){{2}}  to go on: ", str(left))
    shown = slc.open_result(out)
    assert (shown.attrs["n_blocks_done"], shown.attrs["n_blocks_failed"]) == (45, 2)
    assert re.fullmatch("; ".join([one] * 2), shown.attrs["failures"])
    is_shown = shown["score"].notnull().values
    np.testing.assert_array_equal(shown["score"].values[is_shown], expected["score"].values[is_shown])

    trouble.unlink()
    found = slc.searchlight(ds, out=out, **options)
    assert same(found, expected)
    assert fits(log).most_common(1)[0][1] == 1, "nothing was computed twice"
    assert slc.status(out).failures == ()
    assert (found.attrs["n_blocks_failed"], "failures" in found.attrs) == (0, False)
    assert not {FAILURES_NAME, ATTEMPTS_NAME} & set(os.listdir(out))


def test_what_passes_is_not_seen(ds: xr.Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that fails for a moment, while a block is read and while another is written."""
    monkeypatch.setattr(quarantine, "PAUSES_S", (0.01, 0.01, 0.01))
    failures = {"read_slab": 3, "write": 2}
    read, write = compute.read_slab, result.BlockReader.read

    def unsteady(name: str) -> None:
        if failures[name]:
            failures[name] -= 1
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    def read_slab(*args: Any) -> Any:
        unsteady("read_slab")
        return read(*args)

    def read_block(*args: Any) -> Any:
        unsteady("write")
        return write(*args)

    monkeypatch.setattr(compute, "read_slab", read_slab)
    monkeypatch.setattr(task, "is_block_done", lambda *args: read_block(result.BlockReader(args[0]), args[1]))
    found = slc.searchlight(ds, out=tmp_path / "out.zarr", **QUICK)
    assert failures == {"read_slab": 0, "write": 0}
    assert same(found, slc.searchlight(ds, **QUICK).compute())


class Hopeless(Total):
    """An estimator with a mistake in it."""

    def fit(self, X: np.ndarray, y: np.ndarray) -> Hopeless:
        raise TypeError("takes no array")


def test_an_estimator_that_never_works_ends_the_run_early(ds: xr.Dataset, tmp_path: Path) -> None:
    out = tmp_path / "out.zarr"
    options = {**QUICK, "estimator": Hopeless(), "scoring": None, "block_centers": 1}
    with pytest.raises(FailedBlocksError, match="^array: all of the first blocks failed: .*; and 17 more; "):
        slc.searchlight(ds, out=out, **options)
    left = slc.status(out)
    assert (left.n_done, len(left.failures), left.holder) == (0, HOPELESS, None)
    assert "    and 10 more" in str(left)
    assert [failure.n_tries for failure in left.failures] == [1] * HOPELESS, "its own error is final at once"


def test_a_damaged_brick_costs_its_own_blocks_only(ds: xr.Dataset, store: Path, tmp_path: Path) -> None:
    """The blocks whose slabs have it in them are named, the others are done."""
    wide = write_array_store(noise_dataset((20, 5, 3), affine=OBLIQUE), tmp_path / "wide.zarr")
    expected = slc.searchlight(open_store(wide), **QUICK).compute()
    (shard,) = [file for file in (wide / "bold" / "c").rglob("*") if file.is_file()]
    raw = shard.read_bytes()
    shard.write_bytes(bytes([raw[0] ^ 1]) + raw[1:])  # the first brick lies at the beginning
    out = tmp_path / "out.zarr"
    with pytest.raises(FailedBlocksError, match=r"array, block \d+: cannot read voxels .*[Cc]hecksum"):
        slc.searchlight(open_store(wide), out=out, **QUICK)
    left = slc.status(out)
    assert 0 < len(left.failures) == left.n_blocks - left.n_done < left.n_blocks
    assert left.failures[0].block == 0
    shard.write_bytes(raw)
    assert same(resume(out), expected)


def test_a_lost_shard_is_no_shard_of_zeros(ds: xr.Dataset, store: Path, tmp_path: Path) -> None:
    """Nothing of it gets into the map, also where it is lost in mid-run."""
    out = tmp_path / "out.zarr"
    (shard,) = [file for file in (store / "bold" / "c").rglob("*") if file.is_file()]

    def lose(step: Step) -> None:
        if step.done == 3:
            shard.rename(tmp_path / "elsewhere")

    with (
        dask.config.set(scheduler="sync"),
        pytest.raises(StoreError, match="subject.zarr lacks the file 'bold/c/0/0/0/0' that its digest"),
    ):
        slc.searchlight(ds, out=out, progress=lose, **QUICK)
    assert slc.status(out).n_done == 3
    (tmp_path / "elsewhere").rename(shard)
    assert same(resume(out), slc.searchlight(ds, **QUICK).compute())


def test_memory_that_does_not_suffice_is_needed_in_parts(
    ds: xr.Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Slabs of more than two centers do not fit: blocks of five are computed in four parts, one at a time."""
    inside, most, lock = [0], [0], threading.Lock()
    score = compute.score_centers

    def tight(plan: Any, centers: np.ndarray, *args: Any, **kwargs: Any) -> Any:
        if len(centers) > 2:
            raise MemoryError("Unable to allocate")
        with lock:
            inside[0] += 1
            most[0] = max(most[0], inside[0])
        time.sleep(0.005)
        try:
            return score(plan, centers, *args, **kwargs)
        finally:
            with lock:
                inside[0] -= 1

    monkeypatch.setattr(compute, "score_centers", tight)
    with dask.config.set(scheduler="threads", num_workers=4):
        found = slc.searchlight(ds, out=tmp_path / "out.zarr", **QUICK)
    monkeypatch.undo()
    assert most == [1]
    assert same(found, slc.searchlight(ds, **QUICK).compute())


def test_memory_that_does_not_suffice_to_read(
    ds: xr.Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The slab is the largest thing that a block needs: where reading it meets the limit, parts read less."""
    read, has_failed = zarr.Array.__getitem__, []

    def tight(array: Any, key: Any) -> Any:
        if array.path == "" and array.ndim == 4 and not has_failed:
            has_failed.append(key)
            raise MemoryError("Unable to allocate")
        return read(array, key)

    monkeypatch.setattr(zarr.Array, "__getitem__", tight)
    with dask.config.set(scheduler="sync"):
        found = slc.searchlight(ds, out=tmp_path / "out.zarr", **QUICK)
    assert has_failed
    assert "out of memory; trying again in 4 parts" in caplog.text
    assert same(found, slc.searchlight(ds, **QUICK).compute())


def test_memory_that_does_not_suffice_for_one_center(
    ds: xr.Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def too_large(*_: Any, **__: Any) -> None:
        raise MemoryError("Unable to allocate\n 9. GiB")

    monkeypatch.setattr(compute, "score_centers", too_large)
    with pytest.raises(
        FailedBlocksError, match=r"array, block \d+: MemoryError: Unable to allocate 9\. GiB;"
    ):
        slc.searchlight(ds, out=tmp_path / "out.zarr", **QUICK)


def test_a_driver_elsewhere_holds_the_store(
    ds: xr.Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another host on a shared file system: refused while it gives signs of life, taken over when it does not."""
    monkeypatch.setattr(lease, "SILENCE_S", 0.3)
    monkeypatch.setattr(lease, "_POLL_S", 0.01)
    out = tmp_path / "out.zarr"
    n_done = begin(ds, out)
    held = {"host": "node7", "place": "node7 pid:[1]", "pid": 77, "n_done_at_start": 0, "token": "x"}
    stop = threading.Event()

    def live() -> None:
        while not stop.wait(0.02):
            (tmp_path / "fresh").write_text(json.dumps({**held, "started": 0.0, "heartbeat": time.time()}))
            (tmp_path / "fresh").rename(out / LEASE_NAME)

    elsewhere = threading.Thread(target=live)
    elsewhere.start()
    try:
        wait_for((out / LEASE_NAME).exists)
        with pytest.raises(StoreError, match=f"^{out} is being computed by process 77 on node7; wait for it"):
            slc.searchlight(ds, out=out, **QUICK)
    finally:
        stop.set()
        elsewhere.join()
    assert slc.status(out).n_done == n_done
    assert same(slc.searchlight(ds, out=out, **QUICK), slc.searchlight(ds, **QUICK).compute())


def test_a_second_driver_is_refused(ds: xr.Dataset, tmp_path: Path) -> None:
    out, refused = tmp_path / "out.zarr", []

    def try_too(step: Step) -> None:
        if step.done == 2:
            with pytest.raises(StoreError, match="is being computed by process") as caught:
                slc.searchlight(ds, out=out, **QUICK)
            refused.append(caught)

    found = slc.searchlight(ds, out=out, progress=try_too, **QUICK)
    assert refused
    assert same(found, slc.searchlight(ds, **QUICK).compute())


def test_a_second_driver_in_another_process_is_refused(store: Path, tmp_path: Path) -> None:
    out, log = tmp_path / "out.zarr", tmp_path / "log"
    with started(in_threads, store, out, log) as first:
        wait_for(lambda: count_done(out) >= 2)
        with pytest.raises(StoreError, match=rf"{out} is being computed by process {first.pid} on \S+; wait"):
            analyse(store, out, log)
        first.join(60)
        assert first.exitcode == 0
    assert slc.status(out).is_finished
    assert fits(log).most_common(1)[0][1] == 1


def test_fits_that_stop_early_are_counted_over_all_processes(
    ds: xr.Dataset, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    options = {**QUICK, "estimator": LinearSVC(max_iter=1), "engine": "sklearn"}
    begin(ds, tmp_path / "out.zarr", **options)
    with caplog.at_level(logging.WARNING, "slcluster"):
        found = resume(tmp_path / "out.zarr")
    n_early = found.attrs["n_unconverged"]
    assert 100 < n_early <= 141
    assert f"stopped before it converged in {n_early} of 141 fits" in caplog.text
    caplog.clear()
    resume(tmp_path / "out.zarr")
    assert "converged" not in caplog.text


def test_progress_counts_up_to_the_end(ds: xr.Dataset, tmp_path: Path) -> None:
    steps: list[Step] = []
    n_done = begin(ds, tmp_path / "out.zarr")
    resume(tmp_path / "out.zarr", progress=steps.append)
    assert [step.done for step in steps] == list(range(n_done, 11))
    assert {(step.stage, step.total, step.unit) for step in steps} == {("searchlight array", 10, "block")}


# --- Datasets that no store holds


def test_a_dataset_in_memory_is_kept_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    out, ds = tmp_path / "out.zarr", noise_dataset(affine=OBLIQUE)
    begin(ds, out)
    (kept,) = tmp_path.glob("out.source-*.zarr")
    assert f"its samples are kept in {kept}" in caplog.text
    before = {file: file.stat().st_ino for file in kept.rglob("*")}
    found = slc.searchlight(ds, out=out, **QUICK)
    assert {file: file.stat().st_ino for file in kept.rglob("*")} == before
    assert same(found, slc.searchlight(ds, **QUICK).compute())
    assert sorted(path.name for path in tmp_path.iterdir()) == [kept.name, "out.zarr"]


def test_a_store_beside_the_result_is_left_alone(tmp_path: Path) -> None:
    ds = noise_dataset(affine=OBLIQUE)
    theirs = write_array_store(ds, tmp_path / "out.source.zarr")
    before = {file: file.stat().st_ino for file in theirs.rglob("*")}
    slc.searchlight(ds, out=tmp_path / "out.zarr", **QUICK)
    assert {file: file.stat().st_ino for file in theirs.rglob("*")} == before
    assert not list(tmp_path.glob(".*"))
