"""A worker that is frozen while it computes, declared dead, and wakes up: what it computes twice does no harm."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import dask
import psutil
import xarray as xr

import slcluster as slc
from tests.faults.driving import FITS_PER_BLOCK, N_FITS, count_done, on_workers, same, started, wait_for
from tests.faults.slow import fits


def _impatient(store: Path, out: Path, log: Path) -> None:
    """A scheduler that gives silent workers up after two seconds; Dask's default is five minutes."""
    with dask.config.set({"distributed.scheduler.worker-ttl": "2s"}):
        on_workers(store, out, log)


def _is_computing(out: Path, frozen: psutil.Process) -> Callable[[], bool]:
    """Freezes the worker as soon as blocks are being computed; lets it go on where it was not at one itself."""

    def is_caught() -> bool:
        frozen.suspend()
        # Two workers of one thread: with two marks both are at a block.
        if len(list((out / "attempts").glob("*"))) == 2:
            return True
        frozen.resume()
        return False

    return is_caught


def test_a_frozen_worker(store: Path, undisturbed: xr.Dataset, tmp_path: Path) -> None:
    out, log = tmp_path / "out.zarr", tmp_path / "log"
    with started(_impatient, store, out, log) as driver:
        wait_for(lambda: count_done(out) >= 3)
        frozen = psutil.Process(int(Path(f"{log}.workers").read_text().split()[0]))
        wait_for(_is_computing(out, frozen))
        try:
            driver.join(300)
            assert driver.exitcode == 0, "the other worker does all that is left"
            assert slc.status(out).is_finished
            assert same(slc.open_result(out), undisturbed)
            before = fits(log).total()
        finally:
            os.kill(frozen.pid, signal.SIGCONT)
        # It finishes its block, writes it once more, and finds that nobody waits for it.
        wait_for(lambda: not psutil.pid_exists(frozen.pid) or frozen.status() == psutil.STATUS_ZOMBIE)
    counted = fits(log)
    assert len(counted) == N_FITS
    assert before <= counted.total() <= N_FITS + FITS_PER_BLOCK
    assert counted.total() > N_FITS, "one block was computed twice"
    assert same(slc.open_result(out), undisturbed)
    assert slc.fsck(out).is_sound
