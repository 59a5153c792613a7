"""What every cluster of ours is told, whatever starts it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from slcluster.cluster.kinds import BaseProfile
from slcluster.errors import InputError

__all__ = [
    "DASHBOARD",
    "LIVE_MAP",
    "NETWORK",
    "ONE_THREAD",
    "WORKERS",
    "dask_settings",
    "job_environment",
    "network_settings",
    "teaching",
]

#: One thread for every library that would start its own: the engines count on it, and cores are for workers.
ONE_THREAD = dict.fromkeys(
    ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"), "1"
)

#: Loopback and any free port. Dask's usual ":8787" listens on every interface, and asks nobody who they are.
DASHBOARD = "127.0.0.1:0"

#: A cut link is noticed after 11 s, not 45 s: both ends must be told. Dask refuses less than 11 s.
NETWORK = {"distributed.comm.timeouts.tcp": "11s", "distributed.comm.timeouts.connect": "5s"}

#: How often Dask's processes look at themselves, which takes the cores' time from blocks: with Dask's own intervals 6 %
#: of two busy cores, with these 2 %. Dask warns of an event loop that has not ticked for 3 s; the monitor draws the
#: dashboard's curves, the profiler its flames.
LOOKS = {
    "distributed.admin.tick.interval": "500ms",
    "distributed.admin.system-monitor.interval": "2s",
    "distributed.worker.profile.interval": "500ms",
}

#: A worker that is short of memory is not paused, as Dask would: what fills it is Python itself or the block that it
#: computes, so that it would wait for ever. It goes on, to the limit; blocks that meet that are computed in parts.
WORKERS = {"distributed.worker.memory.pause": False, **LOOKS}

#: Module with the live map's pages, which the scheduler imports. For one of your own:
#: DASK_DISTRIBUTED__SCHEDULER__HTTP__ROUTES.
LIVE_MAP = "slcluster.watch.routes"


def dask_settings(start_timeout: str) -> dict[str, Any]:
    import distributed  # noqa: F401  its defaults are not there before
    from dask import config

    routes = config.get("distributed.scheduler.http.routes")
    return {
        **LOOKS,
        "distributed.scheduler.http.routes": [*(name for name in routes if name != LIVE_MAP), LIVE_MAP],
        # Tasks that no worker can take would otherwise wait for ever.
        "distributed.scheduler.no-workers-timeout": start_timeout,
        "distributed.nanny.pre-spawn-environ": {**ONE_THREAD, "MALLOC_TRIM_THRESHOLD_": "65536"},
    }


def network_settings(profile: BaseProfile) -> dict[str, str]:
    """Dask's settings of connections to workers elsewhere; variables of the profile come first.

    And where the dashboard is: Dask would name the scheduler's host, but it listens on loopback.
    """
    import dask

    link = dask.config.get("distributed.dashboard.link", "{scheme}://{host}:{port}/status")
    settings = {key: profile.environment.get(_variable(key), value) for key, value in NETWORK.items()}
    return {**settings, "distributed.dashboard.link": link.replace("{host}", "127.0.0.1")}


def job_environment(profile: BaseProfile) -> dict[str, str]:
    """Variables of workers that start elsewhere. The profile's own come last."""
    settings = {**NETWORK, **{key: str(value) for key, value in WORKERS.items()}}
    if getattr(profile, "tls", False):
        settings["distributed.comm.require-encryption"] = "True"
    return {**ONE_THREAD, **{_variable(key): value for key, value in settings.items()}, **profile.environment}


def _variable(key: str) -> str:
    """The variable that Dask reads a setting from."""
    return f"DASK_{key.upper().replace('.', '__').replace('-', '_')}"


@contextmanager
def teaching(profile: BaseProfile) -> Iterator[None]:
    """Make one line of what Dask says about keyword arguments under ``extra``."""
    try:
        yield
    except (TypeError, ValueError, RuntimeError) as error:
        if not profile.extra:
            raise
        cause: BaseException = error
        while cause.__cause__ is not None:  # a worker that fails to start wraps the reason
            cause = cause.__cause__
        reason = str(cause).splitlines()[0]
        raise InputError(f"extra ({', '.join(profile.extra)}) is not what Dask takes: {reason}") from error
