"""Processes killed in mid-run at random moments: the same bytes, and hardly anything computed twice."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import xarray as xr

import slcluster as slc
from slcluster.store.lease import read_lease
from tests.faults.driving import (
    FITS_PER_BLOCK,
    LOST,
    N_BLOCKS,
    N_FITS,
    analyse,
    count_done,
    in_threads,
    kill_group,
    on_scheduler,
    on_workers,
    same,
    started,
    wait_for,
)
from tests.faults.slow import fits

#: Worker threads of every run here: as many blocks may be computed twice.
N_THREADS = 2


class Kill(NamedTuple):
    """What is killed: how the analysis is driven, and what is done to it. True where it is to be gone on with."""

    drivers: tuple[Callable[..., None], ...]
    strike: Callable[[Any, Path, int], bool]


class Outcome(NamedTuple):
    """One killing: blocks done at that moment, blocks computed twice, and the rules that were broken."""

    n_done: int
    n_twice: int
    broken: tuple[str, ...]


def _driver(driver: Any, log: Path, trial: int) -> bool:
    os.kill(driver.pid, signal.SIGKILL)
    driver.join()
    return True


def _group(driver: Any, log: Path, trial: int) -> bool:
    kill_group(driver)
    return True


def _worker(driver: Any, log: Path, trial: int) -> bool:
    os.kill(int(Path(f"{log}.workers").read_text().split()[trial % 2]), signal.SIGKILL)
    driver.join(300)
    return bool(driver.exitcode != 0)  # nobody has to do anything


def _scheduler(driver: Any, log: Path, trial: int) -> bool:
    os.kill(int(Path(f"{log}.scheduler").read_text()), signal.SIGKILL)
    driver.join(300)
    return bool(driver.exitcode == LOST)  # told to the user, who goes on


KILLS = {
    # Without a cluster, and beside a scheduler and workers that outlive it.
    "driver": Kill((in_threads, on_scheduler), _driver),
    "worker": Kill((on_workers,), _worker),
    "scheduler": Kill((on_scheduler,), _scheduler),
    # As a power cut or the end of a batch job does.
    "group": Kill((in_threads, on_workers), _group),
}


def kill(what: str, trial: int, store: Path, undisturbed: xr.Dataset, folder: Path) -> Outcome:
    """Start an analysis, kill at a random moment between the first block and the last but some, and go on.

    Where a busy machine let the run end first, it is done again: the moment must lie inside.
    """
    drivers, strike = KILLS[what]
    for attempt in range(10):
        out, log = folder / f"{attempt}.zarr", folder / f"{attempt}.log"
        moment = random.Random(f"{trial} {attempt}")
        with started(drivers[trial % len(drivers)], store, out, log) as driver:
            k = moment.randrange(1, N_BLOCKS - 7)
            wait_for(lambda out=out, k=k: count_done(out) >= k)
            time.sleep(moment.random() * 0.05)
            n_done = count_done(out)
            if n_done == N_BLOCKS:
                continue
            must_go_on = strike(driver, log, trial)
            left = slc.status(out)
            if must_go_on and left.n_done == N_BLOCKS:
                continue
            return _judge(what, must_go_on, n_done, store, undisturbed, out, log)
    raise AssertionError("every run ended before it could be disturbed")


def _judge(
    what: str, must_go_on: bool, n_done: int, store: Path, undisturbed: xr.Dataset, out: Path, log: Path
) -> Outcome:
    left = slc.status(out)
    found = analyse(store, out, log) if must_go_on else slc.open_result(out)
    counted = fits(log)
    n_twice = -(-(counted.total() - N_FITS) // FITS_PER_BLOCK)
    rules = {
        "the map is the same": same(found, undisturbed),
        "every sphere was computed": len(counted) == N_FITS,
        "at most one block of each worker thread was computed twice": n_twice <= N_THREADS,
        "what was done stayed done": left.n_done >= n_done,
        "a lost worker stops nobody": what != "worker" or not must_go_on,
        "a lost scheduler is told": what != "scheduler" or must_go_on,
        "the lease is free": read_lease(out) is None,
        "nothing is left behind": not [*out.rglob("*.partial"), *out.glob("attempts")],
    }
    return Outcome(n_done, n_twice, tuple(rule for rule, is_kept in rules.items() if not is_kept))
