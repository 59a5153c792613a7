"""What every cluster of ours is told, whatever starts it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from slcluster.cluster.profiles import Profile
from slcluster.errors import InputError

__all__ = ["DASHBOARD", "LIVE_MAP", "ONE_THREAD", "dask_settings", "teaching"]

#: One thread for every library that would start its own: the engines count on it, and cores are for workers.
ONE_THREAD = dict.fromkeys(
    ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"), "1"
)

#: Loopback and any free port. Dask's usual ":8787" listens on every interface, and asks nobody who they are.
DASHBOARD = "127.0.0.1:0"


#: Module with the live map's pages, which the scheduler imports. For one of your own:
#: DASK_DISTRIBUTED__SCHEDULER__HTTP__ROUTES.
LIVE_MAP = "slcluster.watch.routes"


def dask_settings(start_timeout: str) -> dict[str, Any]:
    import distributed  # noqa: F401  its defaults are not there before
    from dask import config

    routes = config.get("distributed.scheduler.http.routes")
    return {
        "distributed.scheduler.http.routes": [*(name for name in routes if name != LIVE_MAP), LIVE_MAP],
        # Tasks that no worker can take would otherwise wait for ever.
        "distributed.scheduler.no-workers-timeout": start_timeout,
        "distributed.nanny.pre-spawn-environ": {**ONE_THREAD, "MALLOC_TRIM_THRESHOLD_": "65536"},
    }


@contextmanager
def teaching(profile: Profile) -> Iterator[None]:
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
