"""Dask's own ``KillWorker`` against analyses, one after the other: none may hang, and every map is the same."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import dask
import xarray as xr
from distributed import Client
from distributed.chaos import KillWorker
from distributed.diagnostics.plugin import SchedulerPlugin

import slcluster as slc
from slcluster.cluster.lasting import LastingCluster
from slcluster.errors import SlclusterError
from slcluster.progress import Step
from tests.faults.driving import analyse, same

__all__ = ["Soak", "soak"]

#: Without any block done for this long a run hangs.
HANG_S = 300.0
#: How long a worker lives on average. Starting one takes two or three seconds of CPU.
LIFE_S = 4.0


class Soak(NamedTuple):
    """Analyses finished, workers that died meanwhile, the longest time without a block, and broken rules."""

    n_runs: int
    n_deaths: int
    longest_pause_s: float
    broken: tuple[str, ...]


def soak(seconds: float, store: Path, undisturbed: xr.Dataset, folder: Path) -> Soak:
    """Compute for so long, on two workers that Dask kills in all its ways at random moments."""
    broken: list[str] = []
    n_runs, pulse = 0, _Pulse()
    with (
        dask.config.set({"distributed.comm.timeouts.connect": "10s"}),
        LastingCluster(n_workers=2, threads_per_worker=1, dashboard_address=None, silence_logs=60) as cluster,
        Client(cluster) as client,
    ):
        client.register_plugin(_Deaths())
        for mode in ("sys.exit", "graceful", "segfault"):
            client.register_plugin(KillWorker(delay=3 * LIFE_S, mode=mode), name=f"kill-{mode}")
        began = time.monotonic()
        while time.monotonic() - began < seconds and not broken:
            out = folder / f"{n_runs}.zarr"
            # On a cluster that hangs even an interrupt may not come through, so that it is waited for from outside.
            run = _Run(lambda out=out: analyse(store, out, folder / "log", client=client, progress=pulse))
            while run.is_alive() and pulse.silent_s() < HANG_S:
                run.join(0.2)
            broken += _judge(run, out, undisturbed)
            n_runs += 1
        n_deaths: int = client.run_on_scheduler(lambda dask_scheduler: dask_scheduler.plugins["deaths"].n)
    return Soak(n_runs, n_deaths, pulse.longest_s, tuple(broken))


def _judge(run: _Run, out: Path, undisturbed: xr.Dataset) -> list[str]:
    if run.is_alive():
        return [f"no hang: {slc.status(out)}"]
    if isinstance(run.error, SlclusterError):
        return [f"no error: {run.error}"]
    if run.error is not None:
        raise run.error
    return [] if same(slc.open_result(out), undisturbed) else ["the map is the same"]


class _Deaths(SchedulerPlugin):
    """Counts workers that go."""

    name = "deaths"

    def __init__(self) -> None:
        self.n = 0

    def remove_worker(self, *_: Any, **__: Any) -> None:
        self.n += 1


class _Pulse:
    """A progress listener that knows how long nothing has been heard."""

    def __init__(self) -> None:
        self._last = time.monotonic()
        self.longest_s = 0.0

    def __call__(self, step: Step) -> None:
        self.longest_s = max(self.longest_s, self.silent_s())
        self._last = time.monotonic()

    def silent_s(self) -> float:
        return time.monotonic() - self._last


class _Run(threading.Thread):
    """Work in a thread, with what it ended with."""

    def __init__(self, work: Callable[[], object]) -> None:
        super().__init__(daemon=True)
        self._work = work
        self.error: Exception | None = None
        self.start()

    def run(self) -> None:
        try:
            self._work()
        except Exception as error:
            self.error = error
