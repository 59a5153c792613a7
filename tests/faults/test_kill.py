"""Processes killed in mid-run at random moments: the same bytes, and hardly anything computed twice.

Ten moments of each kind. SLCLUSTER_FAULT_TRIALS=100 tries more.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import xarray as xr

import slcluster as slc
from slcluster.store.lease import read_lease
from tests.faults.driving import (
    FITS_PER_BLOCK,
    N_BLOCKS,
    N_FITS,
    analyse,
    count_done,
    in_threads,
    kill_group,
    on_workers,
    same,
    started,
    wait_for,
)
from tests.faults.slow import fits

TRIALS = range(int(os.environ.get("SLCLUSTER_FAULT_TRIALS", "10")))


def _disturb(
    how: Callable[..., None], trial: int, store: Path, folder: Path, disturb: Callable[[Any, Path, Path], int]
) -> tuple[Path, Path]:
    """Start an analysis and disturb it at a random moment between the first block and the last but some.

    ``disturb`` says how many blocks were done by then. Where a busy machine let the run end first, it is done
    again: the moment must lie inside.
    """
    for attempt in range(10):
        out, log = folder / f"{attempt}.zarr", folder / f"{attempt}.log"
        moment = random.Random(f"{trial} {attempt}")
        with started(how, store, out, log) as driver:
            k = moment.randrange(1, N_BLOCKS - 7)
            wait_for(lambda out=out, k=k: count_done(out) >= k)
            time.sleep(moment.random() * 0.05)
            n_done = disturb(driver, out, log)
        if n_done < N_BLOCKS:
            return out, log
    raise AssertionError("every run ended before it could be disturbed")


@pytest.mark.parametrize("trial", TRIALS)
@pytest.mark.parametrize(("how", "n_threads"), [(in_threads, 2), (on_workers, 2)])
def test_everything_killed(
    how: Callable[..., None], n_threads: int, trial: int, store: Path, undisturbed: xr.Dataset, tmp_path: Path
) -> None:
    """Driver, scheduler and workers at once, as a power cut or the end of a batch job does."""

    def kill_all(driver: Any, out: Path, log: Path) -> int:
        kill_group(driver)
        return count_done(out)

    out, log = _disturb(how, trial, store, tmp_path, kill_all)
    left = slc.status(out)
    assert 0 < left.n_done < N_BLOCKS
    assert left.holder is None
    n_before = fits(log).total()

    resumed = analyse(store, out, log)
    assert same(resumed, undisturbed)
    counted = fits(log)
    assert len(counted) == N_FITS
    assert counted.total() <= N_FITS + n_threads * FITS_PER_BLOCK
    # What was done stayed done: this process computed the other blocks and nothing else.
    assert counted.total() - n_before <= (N_BLOCKS - left.n_done) * FITS_PER_BLOCK
    assert not list(out.rglob("*.partial"))


@pytest.mark.parametrize("trial", TRIALS)
def test_a_worker_killed(trial: int, store: Path, undisturbed: xr.Dataset, tmp_path: Path) -> None:
    """The analysis goes on with the worker that is left, and nobody has to do anything."""

    def kill_one(driver: Any, out: Path, log: Path) -> int:
        n_done = count_done(out)
        os.kill(int(Path(f"{log}.workers").read_text().split()[trial % 2]), signal.SIGKILL)
        driver.join(60)
        assert driver.exitcode == 0
        return n_done

    out, log = _disturb(on_workers, trial, store, tmp_path, kill_one)
    assert same(slc.open_result(out), undisturbed)
    counted = fits(log)
    assert len(counted) == N_FITS
    assert counted.total() <= N_FITS + FITS_PER_BLOCK
    assert read_lease(out) is None
    assert not list(out.rglob("*.partial"))
