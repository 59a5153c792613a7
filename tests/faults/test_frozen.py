"""A worker that is frozen while it computes, declared dead, and wakes up: what it computes twice does no harm."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import dask
import psutil
import xarray as xr

import slcluster as slc
from slcluster.store.attempts import ATTEMPTS_NAME
from tests.faults.driving import FITS_PER_BLOCK, N_FITS, count_done, on_workers, same, started, wait_for
from tests.faults.slow import fits

#: Of each of the six fits of a block.
PAUSE_S = 0.03


def _impatient(store: Path, out: Path, log: Path) -> None:
    """A scheduler that gives silent workers up after two seconds; Dask's default is five minutes."""
    with dask.config.set({"distributed.scheduler.worker-ttl": "2s"}):
        on_workers(store, out, log, pause_s=PAUSE_S)


def _is_caught(out: Path, worker: psutil.Process) -> bool:
    """Freeze a worker where it is in the middle of a block; let it go on where it may not be."""
    before = _marks(out)
    time.sleep(PAUSE_S)
    worker.suspend()
    # Two workers of one thread: with the same two marks as a fit ago, both have fitted and are at their blocks.
    if len(before) == 2 and _marks(out) == before:
        return True
    worker.resume()
    return False


def _marks(out: Path) -> set[str]:
    return {mark.name for mark in (out / ATTEMPTS_NAME).glob("*")}


def test_a_frozen_worker(store: Path, undisturbed: xr.Dataset, tmp_path: Path) -> None:
    out, log = tmp_path / "out.zarr", tmp_path / "log"
    with started(_impatient, store, out, log) as driver:
        wait_for(lambda: count_done(out) >= 3)
        frozen = psutil.Process(int(Path(f"{log}.workers").read_text().split()[0]))
        wait_for(lambda: _is_caught(out, frozen))
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
    assert before > N_FITS, "one block was begun twice"
    assert same(slc.open_result(out), undisturbed)
    assert slc.fsck(out).is_sound
