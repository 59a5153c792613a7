"""From a profile to a Dask cluster, and to a client that is sure to find workers that can do the work."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from slcluster.cluster.processes import start_processes
from slcluster.cluster.profiles import LocalProfile, Profile, SlurmProfile, is_address, load_profile
from slcluster.cluster.settings import DASHBOARD, dask_settings, teaching
from slcluster.cluster.slurm import job_script, start_slurm
from slcluster.errors import InputError, SlclusterError

__all__ = ["check_sees", "connect", "connect_processes", "job_script", "live_map_link", "make_cluster"]

log = logging.getLogger("slcluster")

#: How long a running scheduler may take to answer.
ANSWER_TIMEOUT = "10s"

#: Ctrl-C in a terminal reaches workers too. They leave it to the driver, which stops them in good order.
_DEAF_TO_CTRL_C = "import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\n"


def make_cluster(
    profile: str | Path = "local",
    *,
    workers: int | None = None,
    threads: int | None = None,
    memory: str | None = None,
) -> Any:
    """Start a Dask cluster.

    Parameters
    ----------
    profile : str or path
        ``"local"`` (this machine, one process a core, loopback alone), ``"slurm"`` (batch jobs through
        dask-jobqueue), or a YAML profile (``deploy/`` has commented ones to copy).
    workers : int, optional
        Worker processes in all.
    threads : int, optional
        Threads of each worker. The scikit-learn engine uses one.
    memory : str, optional
        Memory of each worker, such as ``"2GB"``.

    Returns
    -------
    distributed.LocalCluster or dask_jobqueue.SLURMCluster
        Closes at the end of a ``with`` statement. Batch jobs that die are replaced.

    Raises
    ------
    InputError
        Unknown profile, a key or value in it that does not fit, or Slurm refuses the job.

    Examples
    --------
    >>> from distributed import Client
    >>> with make_cluster("local", workers=1) as cluster, Client(cluster) as client:
    ...     client.submit(sum, [1, 2]).result()
    3
    """
    if is_address(profile):
        raise InputError(
            f"{profile} is a cluster that runs already; use distributed.Client({str(profile)!r}), "
            f"or slcluster.cluster.connect({str(profile)!r})"
        )
    return _start(load_profile(profile, workers=workers, threads=threads, memory=memory))


@contextmanager
def connect(
    cluster: str | Path = "local",
    *,
    workers: int | None = None,
    threads: int | None = None,
    memory: str | None = None,
) -> Iterator[Any]:
    """A client of a cluster that is started for it, or that runs already.

    Returns once a worker is there, and has been seen to have this version of slcluster.

    Parameters
    ----------
    cluster : str or path
        What :func:`make_cluster` takes, or the address of a scheduler: ``"tcp://node7:8786"``.
    workers, threads, memory
        As for :func:`make_cluster`; not with an address.

    Yields
    ------
    distributed.Client

    Raises
    ------
    InputError
        As :func:`make_cluster`; or nothing answers at the address.
    SlclusterError
        No worker came in time, or workers lack slcluster or have another version.

    Examples
    --------
    >>> with connect("local", workers=1) as client:
    ...     client.submit(sum, [1, 2]).result()
    3
    """
    from distributed import Client

    if is_address(cluster):
        if workers or threads or memory:
            raise InputError(
                f"{cluster} is a cluster that runs already; workers, threads and memory are its own"
            )
        with _client_at(str(cluster)) as client:
            _await_workers(client, "60s", f"{cluster} has no worker")
            yield client
        return
    chosen = load_profile(cluster, workers=workers, threads=threads, memory=memory)
    with _quiet_end() as hush, _start(chosen) as started, Client(started) as client:
        if isinstance(chosen, SlurmProfile):
            log.info(
                "waiting for the first of %d workers; squeue --me shows the jobs",
                chosen.n_jobs * chosen.processes,
            )
        try:
            _await_workers(client, chosen.start_timeout, "no worker started")
            log.info("live map %s", live_map_link(client))
            yield client
        finally:
            hush(client)


@contextmanager
def connect_processes(n_workers: int) -> Iterator[Any]:
    """A client of worker processes on this machine, for scripts without ``if __name__ == "__main__":``.

    Parameters
    ----------
    n_workers : int

    Yields
    ------
    distributed.Client

    Raises
    ------
    SlclusterError
        No worker came in time.
    """
    from distributed import Client

    timeout = LocalProfile().start_timeout
    with _quiet_end() as hush, start_processes(n_workers, timeout) as started, Client(started) as client:
        try:
            _await_workers(client, timeout, "no worker started")
            yield client
        finally:
            hush(client)


def check_sees(client: Any, path: str | Path) -> None:
    """Make sure that every worker sees a file or folder of this machine.

    Raises
    ------
    SlclusterError
        Names the first worker that does not.
    """
    from os.path import exists

    for worker, sees in client.run(exists, str(path)).items():
        if not sees:
            raise SlclusterError(
                f"worker {worker} does not see {path}; put it on a file system that all nodes share"
            )


def _start(profile: Profile) -> Any:
    return _start_local(profile) if isinstance(profile, LocalProfile) else start_slurm(profile)


def _start_local(profile: LocalProfile) -> Any:
    import dask
    from dask.system import CPU_COUNT

    from slcluster.cluster.lasting import LastingCluster

    options = {
        "n_workers": profile.workers or max(1, CPU_COUNT // profile.threads),
        "threads_per_worker": profile.threads,
        "memory_limit": profile.memory or "auto",
        "local_directory": profile.local_directory,
        "host": "127.0.0.1",
        "dashboard_address": DASHBOARD,
        "preload": [_DEAF_TO_CTRL_C],
        **profile.extra,
    }
    with dask.config.set(dask_settings(profile.start_timeout)), teaching(profile):
        return LastingCluster(**options)


@contextmanager
def _client_at(address: str) -> Iterator[Any]:
    from distributed import Client
    from distributed.comm import resolve_address

    try:
        resolve_address(address)  # a Client that fails on a misspelt scheme stays behind as the active one
        client = Client(address, timeout=ANSWER_TIMEOUT)
    except (OSError, ValueError) as error:
        raise InputError(f"no Dask scheduler answers at {address}: {' '.join(str(error).split())}") from error
    with client:
        yield client


def _await_workers(client: Any, timeout: str, problem: str) -> None:
    """Wait for one worker, then hold every worker's slcluster against ours.

    A task whose module a worker cannot import takes the worker down, and its batch job with it.
    """
    from dask.utils import parse_timedelta

    try:
        client.wait_for_workers(1, timeout=parse_timedelta(timeout))
    except TimeoutError:
        raise SlclusterError(f"{problem} (waited {timeout})") from None
    ours = metadata.version("slcluster")
    found: dict[str, Any] = client.run(metadata.version, "slcluster", on_error="return")
    for worker, theirs in found.items():
        if theirs != ours:
            has = f"slcluster {theirs}" if isinstance(theirs, str) else "no slcluster"
            raise SlclusterError(
                f"worker {worker} has {has}, this process {ours}; install the same on all nodes"
            )
    _log_ready(client, list(found))


@contextmanager
def _quiet_end() -> Iterator[Callable[[Any], None]]:
    """Keep a cluster that is being stopped from logging, with tracebacks, that its parts are going away.

    What it gives is to be called with the client when the end begins.
    """
    ours = logging.getLogger("distributed")
    level = ours.level

    def hush(client: Any) -> None:
        with suppress(Exception):
            client.run(logging.disable, logging.CRITICAL, on_error="ignore")
        ours.setLevel(logging.CRITICAL)

    try:
        yield hush
    finally:
        ours.setLevel(level)


def live_map_link(client: Any) -> str:
    """Where the live map is on the dashboard of a cluster of ours; through the same proxy, if there is one."""
    return f"{client.dashboard_link.removesuffix('/status')}/slcluster/"


def _log_ready(client: Any, workers: Sequence[str]) -> None:
    has_pages = find_spec("bokeh") is not None
    dashboard = client.dashboard_link if has_pages else "needs bokeh: pip install 'slcluster[notebook]'"
    log.info("%d worker%s ready; dashboard %s", len(workers), "" if len(workers) == 1 else "s", dashboard)
