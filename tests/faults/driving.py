"""Analyses in processes of their own, which tests may kill. Forked from a server that has everything imported."""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import dask
import numpy as np
import sklearn.svm  # noqa: F401  (imported once, for all that are forked)
import xarray as xr
from distributed import Client, LocalCluster, Scheduler, Worker

from slcluster.errors import BlockError
from slcluster.searchlight import searchlight
from slcluster.store import open_store
from tests.faults.slow import Slow, note

#: 47 centers in 24 blocks, three folds.
OPTIONS: dict[str, Any] = {"radius_mm": 5.5, "scoring": None, "block_centers": 2}
N_BLOCKS, N_FITS, FITS_PER_BLOCK = 24, 141, 6

#: Exit code of a driver whose cluster dropped its work.
LOST = 3

FORKING = multiprocessing.get_context("forkserver")
FORKING.set_forkserver_preload(["tests.faults.driving"])


def analyse(store: Path, out: Path, log: Path, pause_s: float = 0.003, **options: Any) -> xr.Dataset:
    """The analysis of these tests, begun or gone on with."""
    return searchlight(
        open_store(store), out=out, estimator=Slow(str(log), pause_s), **{**OPTIONS, **options}
    )


def in_threads(store: Path, out: Path, log: Path) -> None:
    """Two threads of one process."""
    with dask.config.set(scheduler="threads", num_workers=2):
        analyse(store, out, log)


def on_workers(store: Path, out: Path, log: Path, **options: Any) -> None:
    """A scheduler in this process and two worker processes of one thread in its group, noted beside the log."""
    tell = _fork_workers(log)
    with (
        LocalCluster(
            n_workers=0, processes=False, protocol="tcp://", host="127.0.0.1", dashboard_address=None
        ) as cluster,
        Client(cluster) as client,
    ):
        tell(cluster.scheduler_address)
        client.wait_for_workers(2)
        analyse(store, out, log, client=client, **options)


def on_scheduler(store: Path, out: Path, log: Path) -> None:
    """A scheduler and two workers, each a process of its own in this one's group, noted beside the log."""
    tell = _fork_workers(log)
    read, write = os.pipe()
    _fork(f"{log}.scheduler", lambda: asyncio.run(_schedule(write)))
    address = os.read(read, 1000).decode()
    tell(address)
    with (
        dask.config.set({"distributed.comm.timeouts.connect": "1s"}),  # how long a client looks for it
        Client(address) as client,
    ):
        client.wait_for_workers(2)
        try:
            analyse(store, out, log, client=client)
        except BlockError:
            os._exit(LOST)


def _fork_workers(log: Path) -> Callable[[str], None]:
    """Two workers that wait for the address of their scheduler."""
    ends = [os.pipe() for _ in range(2)]
    for read, _ in ends:
        _fork(f"{log}.workers", lambda read=read: asyncio.run(_serve(os.read(read, 1000).decode())))

    def tell(address: str) -> None:
        for _, write in ends:
            os.write(write, address.encode())

    return tell


def _fork(log: str, body: Callable[[], None]) -> None:
    pid = os.fork()
    if pid == 0:
        try:
            body()
        finally:
            os._exit(0)
    note(log, f"{pid}\n")


async def _schedule(tell: int) -> None:
    async with Scheduler(host="127.0.0.1", port=0, dashboard=False) as scheduler:
        os.write(tell, scheduler.address.encode())
        await scheduler.finished()


async def _serve(scheduler: str) -> None:
    async with Worker(scheduler, nthreads=1, dashboard_address=None) as worker:
        await worker.finished()


@contextmanager
def started(how: Callable[..., None], *args: Any) -> Iterator[Any]:
    """A driver in a process group of its own, whose number is its own. What still runs of it is killed afterwards."""
    process = FORKING.Process(target=_lead, args=(how, *args))
    process.start()
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            kill_group(process)
        process.join()


def _lead(how: Callable[..., None], *args: Any) -> None:
    os.setpgid(0, 0)
    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    how(*args)


def kill_group(process: Any) -> None:
    """SIGKILL to a driver and all its workers, at once."""
    os.killpg(process.pid, signal.SIGKILL)
    process.join()


def count_done(out: Path) -> int:
    """Blocks whose last chunk is there, counted as cheaply as can be."""
    return sum(1 for _ in (out / "n_unconverged" / "c").glob("*/0"))


def wait_for(what: Callable[[], bool], timeout_s: float = 300.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not what():
        assert time.monotonic() < deadline, "nothing happened"
        time.sleep(0.001)


def same(found: xr.Dataset, expected: xr.Dataset) -> bool:
    """Whether two results hold the same bytes."""
    return all(
        np.asarray(found[name].values).tobytes() == np.asarray(expected[name].values).tobytes()
        for name in ("score", "score_fold", "sphere_size")
    )
