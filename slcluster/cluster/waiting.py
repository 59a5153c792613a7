"""From a cluster that starts to workers that can do the work."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from importlib import metadata
from importlib.util import find_spec
from typing import Any

from slcluster.cluster.watching import Watch
from slcluster.errors import SlclusterError

__all__ = ["await_workers"]

log = logging.getLogger("slcluster")

#: Seconds between two looks at the queue, at first and at last.
_SOON, _SELDOM = 2.0, 30.0


def await_workers(client: Any, timeout: str, problem: str, watch: Watch | None = None) -> None:
    """Wait for one worker, then hold every worker's slcluster against ours.

    A task whose module a worker cannot import takes the worker down, and its batch job with it.

    Parameters
    ----------
    client : distributed.Client
    timeout : str
        Such as ``"1h"``.
    problem : str
        What it is when none comes.
    watch : Watch, optional
        Knows of jobs in a queue.

    Raises
    ------
    SlclusterError
        No worker came, or none will, or one ended at once, lacks slcluster or a part of it, or has another version.
    """
    from distributed.comm import CommClosedError

    _await_first(client, timeout, problem, watch)
    ours = metadata.version("slcluster")
    found = _answers(client, OSError, metadata.version, "slcluster")
    for worker, theirs in found.items():
        if theirs != ours:
            has = f"slcluster {theirs}" if isinstance(theirs, str) else "no slcluster"
            raise SlclusterError(
                f"worker {worker} has {has}, this process {ours}; install the same on all nodes"
            )
    # Only what every interpreter has can be sent to a worker that may lack the rest.
    for worker, failed in _answers(client, CommClosedError, exec, "import slcluster.compute").items():
        if failed is not None:
            raise SlclusterError(
                f"worker {worker} cannot import slcluster: {type(failed).__name__}: {failed}; "
                "install the same on all nodes"
            )
    _log_ready(client, list(found))


def _answers(client: Any, gone: type[Exception], function: Any, *args: Any) -> dict[str, Any]:
    """What a function returns or raises on each worker but those that left meanwhile; there must be others."""
    found: dict[str, Any] = client.run(function, *args, on_error="return")
    there = {worker: answer for worker, answer in found.items() if not isinstance(answer, gone)}
    if not there:
        raise SlclusterError(
            f"worker {next(iter(found), 'of the cluster')} ended while it imported slcluster, most likely out of "
            "memory; give workers more memory"
        )
    return there


def _await_first(client: Any, timeout: str, problem: str, watch: Watch | None) -> None:
    from dask.utils import parse_timedelta

    end = time.monotonic() + parse_timedelta(timeout)
    pause, has_told = _SOON, False
    while True:
        left = end - time.monotonic()
        try:
            client.wait_for_workers(1, timeout=max(0.1, left if watch is None else min(pause, left)))
            return
        except TimeoutError:
            if time.monotonic() >= end:
                says = f"; {watch.report()}" if watch else ""
                raise SlclusterError(f"{problem} (waited {timeout}){says}") from None
        if watch is not None:
            watch.look()
            if pause == _SELDOM and not has_told:
                log.info("still waiting for a worker; %s", watch.report())
                has_told = True
        pause = min(1.5 * pause, _SELDOM)


def _log_ready(client: Any, workers: Sequence[str]) -> None:
    has_pages = find_spec("bokeh") is not None
    dashboard = client.dashboard_link if has_pages else "needs bokeh: pip install 'slcluster[notebook]'"
    log.info("%d worker%s ready; dashboard %s", len(workers), "" if len(workers) == 1 else "s", dashboard)
