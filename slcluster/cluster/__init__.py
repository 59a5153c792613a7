"""From a profile to a Dask cluster, and to a client that is sure to find workers that can do the work."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from slcluster.cluster.addresses import host_of, is_loopback
from slcluster.cluster.batch import job_script, start_batch
from slcluster.cluster.gateway import start_gateway
from slcluster.cluster.kinds import BatchProfile, GatewayProfile, KubernetesProfile, LocalProfile, Profile
from slcluster.cluster.kubernetes import start_kubernetes
from slcluster.cluster.listening import refuse_plain
from slcluster.cluster.processes import start_processes
from slcluster.cluster.profiles import is_address, load_profile
from slcluster.cluster.security import load_credentials
from slcluster.cluster.settings import DASHBOARD, NETWORK, dask_settings, teaching
from slcluster.cluster.waiting import await_workers
from slcluster.cluster.watching import Watch
from slcluster.errors import InputError, SlclusterError

__all__ = ["check_sees", "connect", "connect_processes", "job_script", "make_cluster"]

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
        ``"local"`` (this machine, one process a core, loopback alone), a batch system (``"slurm"``, ``"pbs"``,
        ``"sge"``, ``"lsf"``, ``"oar"``, ``"htcondor"``, through dask-jobqueue), or a YAML profile of one of them,
        of ``kubernetes`` or of ``gateway`` (``deploy/`` has commented ones to copy).
    workers : int, optional
        Worker processes in all.
    threads : int, optional
        Threads of each worker. The scikit-learn engine uses one.
    memory : str, optional
        Memory of each worker, such as ``"2GB"``.

    Returns
    -------
    distributed.LocalCluster, a cluster of dask_jobqueue, KubeCluster or GatewayCluster
        Closes at the end of a ``with`` statement. Batch jobs that die are replaced.

    Raises
    ------
    InputError
        Unknown profile, a key or value in it that does not fit, a package that is missing, an interpreter that
        could not compute, or a job that the batch system refuses.

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
    credentials: str | Path | None = None,
) -> Iterator[Any]:
    """A client of a cluster that is started for it, or that runs already.

    Returns once a worker is there, and has been seen to have this version of slcluster.

    Parameters
    ----------
    cluster : str or path
        What :func:`make_cluster` takes, or the address of a scheduler: ``"tls://node7:8786"``.
    workers, threads, memory
        As for :func:`make_cluster`; not with an address.
    credentials : path, optional
        Folder with the certificates of the scheduler at a ``tls://`` address. Clusters that are started here have
        their own.

    Yields
    ------
    distributed.Client

    Raises
    ------
    InputError
        As :func:`make_cluster`; or nothing answers at the address, or its certificates are missing, expired,
        or those of another cluster.
    SlclusterError
        No worker came in time, or workers lack slcluster or have another version.

    Examples
    --------
    >>> with connect("local", workers=1) as client:
    ...     client.submit(sum, [1, 2]).result()
    3
    """
    if is_address(cluster):
        if workers or threads or memory:
            raise InputError(
                f"{cluster} is a cluster that runs already; workers, threads and memory are its own"
            )
        with _client_at(str(cluster), credentials) as client:
            await_workers(client, "60s", f"{cluster} has no worker")
            yield client
        return
    if credentials is not None:
        raise InputError(
            f"credentials are of a cluster that runs already, at tls://host:port, not of {cluster}"
        )
    chosen = load_profile(cluster, workers=workers, threads=threads, memory=memory)
    with _quiet_end() as hush, _start(chosen) as started, started.get_client() as client:
        watch = None
        if isinstance(chosen, BatchProfile):
            log.info("waiting for a worker: %d batch jobs are in the queue", chosen.n_jobs)
            watch = Watch(started, chosen)
        try:
            await_workers(client, chosen.start_timeout, "no worker started", watch)
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
            await_workers(client, timeout, "no worker started")
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
    if isinstance(profile, LocalProfile):
        return _start_local(profile)
    if isinstance(profile, KubernetesProfile):
        return start_kubernetes(profile)
    return start_gateway(profile) if isinstance(profile, GatewayProfile) else start_batch(profile)


def _start_local(profile: LocalProfile) -> Any:
    import dask
    from dask.system import CPU_COUNT
    from distributed import LocalCluster

    options = {
        "n_workers": profile.workers or max(1, CPU_COUNT // profile.threads),
        "threads_per_worker": profile.threads,
        "memory_limit": profile.memory or "auto",
        "local_directory": profile.local_directory,
        "host": "127.0.0.1",
        "dashboard_address": DASHBOARD,
        "preload": [_DEAF_TO_CTRL_C],
        "env": profile.environment,
        **profile.extra,
    }
    with dask.config.set(dask_settings(profile.start_timeout)), teaching(profile):
        cluster = LocalCluster(**options)
    try:
        refuse_plain(cluster.scheduler_address)
    except InputError:
        cluster.close()
        raise
    return cluster


@contextmanager
def _client_at(address: str, credentials: str | Path | None) -> Iterator[Any]:
    import dask
    from distributed import Client
    from distributed.comm import resolve_address

    security = _security_at(address, credentials)
    with dask.config.set(NETWORK if security else {}):
        try:
            resolve_address(
                address
            )  # a Client that fails on a misspelt scheme stays behind as the active one
            client = Client(address, timeout=ANSWER_TIMEOUT, security=security)
        except (OSError, ValueError) as error:
            hint = "" if security is None else "; are the credentials those of this cluster?"
            said = " ".join(str(error).split())
            raise InputError(f"no Dask scheduler answers at {address}: {said}{hint}") from error
        with client:
            yield client


def _security_at(address: str, credentials: str | Path | None) -> Any:
    """What a client needs to be let in at an address."""
    if address.startswith("tls://"):
        if credentials is None:
            raise InputError(
                f"{address} asks for a certificate; name the folder of its credentials (--credentials FOLDER)"
            )
        return load_credentials(credentials).security()
    if credentials is not None:
        raise InputError(f"credentials are for tls:// addresses, and {address} is not one")
    if not is_loopback(host_of(address)):
        log.warning(
            "%s is not encrypted and asks nobody who they are: whoever reaches it, or answers in its place, can "
            "run code as you",
            address,
        )
    return None


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
