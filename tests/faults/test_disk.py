"""Disks that are full, read-only or somebody else's: one clear line, a sound store, and it goes on afterwards."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import xarray as xr

import slcluster as slc
from slcluster.errors import StoreError
from slcluster.progress import Step
from slcluster.searchlight import resume
from slcluster.store.result import FINISHED_NAME, finish_result
from tests.faults.driving import N_BLOCKS, analyse, same
from tests.faults.slow import fits

#: A user who owns nothing.
NOBODY = 65534


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own with room for a result's plan and some blocks."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=600k", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("this user may not mount a small disk")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def _one_line(error: pytest.ExceptionInfo[Exception]) -> str:
    text = str(error.value)
    assert "\n" not in text
    return text


@pytest.mark.parametrize("n_blocks", [4, N_BLOCKS], ids=["with blocks to go", "with the mark to go"])
def test_full_in_mid_run(
    n_blocks: int, small_disk: Path, store: Path, undisturbed: xr.Dataset, tmp_path: Path
) -> None:
    out, log = small_disk / "out.zarr", tmp_path / "log"
    filler = small_disk / "filler"

    def fill(step: Step) -> None:
        if step.done == n_blocks:
            free = os.statvfs(small_disk)
            filler.write_bytes(bytes(free.f_bavail * free.f_bsize))

    with pytest.raises(StoreError) as caught:
        analyse(store, out, log, progress=fill)
    assert _one_line(caught) == (f"cannot write {out}: No space left on device; free some space; then resume")
    left = slc.status(out)
    assert n_blocks <= left.n_done <= max(n_blocks, N_BLOCKS - 1)
    assert (left.is_finished, left.holder) == (False, None)
    assert not (out / FINISHED_NAME).exists()
    assert slc.open_result(out).attrs["n_blocks_done"] == left.n_done
    with pytest.raises(StoreError, match="cannot write .*: No space left on device"):
        analyse(store, out, log)  # still full
    filler.unlink()
    n_before = fits(log).total()
    assert same(analyse(store, out, log), undisturbed)
    assert fits(log).total() - n_before <= (N_BLOCKS - left.n_done) * 6
    assert slc.status(out).is_finished


def test_full_from_the_start(small_disk: Path, store: Path, tmp_path: Path) -> None:
    (small_disk / "filler").write_bytes(bytes(590_000))
    with pytest.raises(StoreError) as caught:
        analyse(store, small_disk / "out.zarr", tmp_path / "log")
    assert "No space left on device; free some space" in _one_line(caught)
    assert os.listdir(small_disk) == ["filler"]


def test_full_when_it_finishes(
    store: Path, undisturbed: xr.Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The mark is smaller than anything else; what is left behind must still be a result to go on with."""
    out, log = tmp_path / "out.zarr", tmp_path / "log"

    def full(path: Path) -> None:
        limit = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (5, limit[1]))  # bytes of a file
        try:
            finish_result(path)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limit)

    with monkeypatch.context() as patch:
        patch.setattr("slcluster.durable.finish_result", full)
        with pytest.raises(StoreError, match=f"^cannot write {out}: File too large; free some space"):
            analyse(store, out, log)
    assert sorted(file.name for file in out.glob("*.json")) == ["digest.json", "zarr.json"]
    assert not list(out.rglob("*.partial"))
    left = slc.status(out)
    assert (left.n_done, left.is_finished, left.holder) == (N_BLOCKS, False, None)
    n_before = fits(log).total()
    assert same(analyse(store, out, log), undisturbed)
    assert (out / FINISHED_NAME).exists()
    assert fits(log).total() == n_before


def test_files_that_may_not_grow(store: Path, undisturbed: xr.Dataset, tmp_path: Path) -> None:
    """A quota, as everybody can set it: the chunks of a block are larger than it allows."""
    out = tmp_path / "out.zarr"
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)

    def tighten(step: Step) -> None:
        if step.done == 3:
            resource.setrlimit(resource.RLIMIT_FSIZE, (40, limit[1]))

    try:
        # The log of fits would grow past the limit; it is not wanted here.
        with pytest.raises(StoreError, match="File too large"):
            analyse(store, out, Path(os.devnull), progress=tighten)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert 3 <= slc.status(out).n_done < N_BLOCKS
    assert not list(out.rglob("*.partial"))
    assert same(analyse(store, out, Path(os.devnull)), undisturbed)


def test_a_finished_result_opens_from_where_nobody_may_write(
    small_disk: Path, store: Path, undisturbed: xr.Dataset, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    subprocess.run(["mount", "-o", "remount,size=4m", str(small_disk)], check=True)
    out, half = small_disk / "out.zarr", small_disk / "half.zarr"
    analyse(store, out, log)
    shutil.copytree(out, half)
    (half / FINISHED_NAME).unlink()
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    assert same(slc.open_result(out), undisturbed)
    assert same(resume(out), undisturbed)
    assert same(analyse(store, out, log), undisturbed)
    assert slc.status(out).is_finished
    assert slc.status(half).n_done == N_BLOCKS
    with pytest.raises(StoreError) as caught:
        analyse(store, half, log)
    assert _one_line(caught) == (
        f"cannot write {half}: Read-only file system; choose another place: this file system is read-only"
    )
    with pytest.raises(StoreError, match="cannot write .*new.zarr: Read-only file system"):
        analyse(store, small_disk / "new.zarr", log)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody who may not write")
def test_somebody_elses_folder(store: Path, undisturbed: xr.Dataset, tmp_path: Path) -> None:
    """A half-finished result of a colleague: to be looked at, not to be gone on with."""
    log = Path(os.devnull)
    with tempfile.TemporaryDirectory() as folder:  # pytest's own folders are root's alone
        shared = Path(folder)
        shared.chmod(0o755)
        subject, out = Path(shutil.copytree(store, shared / "subject.zarr")), shared / "out.zarr"
        analyse(subject, out, log)
        (out / FINISHED_NAME).unlink()
        (out / "score" / "c" / "3" / "0" / "0").unlink()
        os.seteuid(NOBODY)
        try:
            assert slc.status(out).n_done == slc.open_result(out).attrs["n_blocks_done"] == N_BLOCKS - 1
            with pytest.raises(StoreError) as caught:
                analyse(subject, out, log)
            assert _one_line(caught) == (
                f"cannot write {out}: Permission denied; make it writable for you, or choose another place"
            )
            with pytest.raises(StoreError, match=r"^cannot write .*new\.zarr: Permission denied; ") as caught:
                analyse(subject, shared / "new.zarr", log)
            _one_line(caught)
        finally:
            os.seteuid(0)
        assert sorted(os.listdir(shared)) == ["out.zarr", "subject.zarr"]
        assert same(analyse(subject, out, log), undisturbed)


def test_a_parent_that_is_missing_is_made(store: Path, undisturbed: xr.Dataset, tmp_path: Path) -> None:
    assert same(analyse(store, tmp_path / "a" / "b" / "out.zarr", tmp_path / "log"), undisturbed)


def test_a_parent_that_is_a_file(store: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(
        StoreError, match=r"cannot write .*out\.zarr: (Not a directory|File exists)"
    ) as caught:
        analyse(store, tmp_path / "file" / "out.zarr", tmp_path / "log")
    _one_line(caught)


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_something_else_in_the_way_is_left_alone(kind: str, store: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.zarr"
    if kind == "folder":
        out.mkdir()
        (out / "thesis.txt").write_text("years")
    else:
        out.write_text("years")
    with pytest.raises(StoreError) as caught:
        analyse(store, out, tmp_path / "log")
    assert "is not a result store" in _one_line(caught)
    assert ((out / "thesis.txt") if kind == "folder" else out).read_text() == "years"


def test_a_link_to_a_place_that_is_still_empty(store: Path, undisturbed: xr.Dataset, tmp_path: Path) -> None:
    (tmp_path / "out.zarr").symlink_to(tmp_path / "scratch" / "out.zarr")
    assert same(analyse(store, tmp_path / "out.zarr", tmp_path / "log"), undisturbed)
    assert (tmp_path / "scratch" / "out.zarr" / FINISHED_NAME).exists()
