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
from slcluster.cluster.security import Credentials, issue_for_run, load_credentials
from slcluster.cluster.service import client_of, find_service, is_service
from slcluster.cluster.settings import DASHBOARD, NETWORK, WORKERS, dask_settings, teaching
from slcluster.cluster.waiting import await_workers
from slcluster.cluster.watching import Watch
from slcluster.errors import InputError, SlclusterError

__all__ = [
    "attach",
    "check_sees",
    "connect",
    "connect_processes",
    "job_script",
    "live_map_link",
    "make_cluster",
    "quiet_end",
    "start_cluster",
]

log = logging.getLogger("slcluster")

#: How long a running scheduler may take to answer.
ANSWER_TIMEOUT = "10s"

#: What workers in the driver's terminal do first. Ctrl-C reaches them too: they leave it to the driver, which stops
#: them in good order. And the driver tells of blocks that fail, in one line each: Dask would print tracebacks.
_PRELOAD = """
import logging, signal
signal.signal(signal.SIGINT, signal.SIG_IGN)
logging.getLogger("distributed.worker").addFilter(lambda record: not str(record.msg).startswith("Compute Failed"))
"""


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
    if is_address(profile) or is_service(profile):
        raise InputError(f"{profile} is a cluster that runs already; use slcluster.attach({str(profile)!r})")
    return start_cluster(load_profile(profile, workers=workers, threads=threads, memory=memory))


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
        What :func:`make_cluster` takes, or what :func:`attach` does.
    workers, threads, memory
        As for :func:`make_cluster`; not with a cluster that runs.
    credentials : path, optional
        As for :func:`attach`. Clusters that are started here have their own.

    Yields
    ------
    distributed.Client

    Raises
    ------
    InputError
        As :func:`make_cluster` or :func:`attach`.
    SlclusterError
        No worker came in time, or workers lack slcluster or have another version.

    Examples
    --------
    >>> with connect("local", workers=1) as client:
    ...     client.submit(sum, [1, 2]).result()
    3
    """
    if is_address(cluster) or is_service(cluster):
        if workers or threads or memory:
            raise InputError(
                f"{cluster} is a cluster that runs already; workers, threads and memory are its own"
            )
        with attach(cluster, credentials=credentials) as client:
            yield client
        return
    if credentials is not None:
        raise InputError(
            f"credentials are of a cluster that runs already, at tls://host:port, not of {cluster}"
        )
    chosen = load_profile(cluster, workers=workers, threads=threads, memory=memory)
    with quiet_end() as hush, start_cluster(chosen) as started, started.get_client() as client:
        watch = None
        if isinstance(chosen, BatchProfile):
            log.info("waiting for a worker: %d batch jobs are in the queue", chosen.n_jobs)
            watch = Watch(started, chosen)
        try:
            await_workers(client, chosen.start_timeout, "no worker started", watch)
            if isinstance(chosen, LocalProfile | BatchProfile):  # the others' schedulers know nothing of it
                log.info("live map %s", live_map_link(client))
            yield client
        finally:
            hush(client)


def attach(cluster: str | Path, *, credentials: str | Path | None = None) -> Any:
    """A client of a cluster that runs already: one that you started by name, or one at an address.

    It becomes the active client, which :func:`slcluster.searchlight` uses. Closing it does not stop the cluster.

    Parameters
    ----------
    cluster : str
        A name that ``slcluster cluster start PROFILE --name NAME`` gave, or the address of a scheduler:
        ``"tls://node7:8786"``.
    credentials : path, optional
        Folder with the certificates of the scheduler at a ``tls://`` address. A name knows its own; without a
        folder, those of Dask's configuration (``distributed.comm.tls``) are shown.

    Returns
    -------
    distributed.Client
        With a worker at least, all of which have this version of slcluster.

    Raises
    ------
    InputError
        No cluster has this name (the nearest is offered); or nothing answers at the address, or its certificates
        are missing, expired, or those of another cluster.
    SlclusterError
        The cluster has gone, or has no workers, or other ones.

    Examples
    --------
    >>> from slcluster.cluster import attach, make_cluster
    >>> with make_cluster("local", workers=1) as cluster, attach(cluster.scheduler_address) as client:
    ...     client.submit(sum, [1, 2]).result()
    3
    """
    if is_address(cluster):
        client, timeout = _client_at(str(cluster), credentials), "60s"
        problem = f"{cluster} has no worker"
    elif credentials is not None:
        raise InputError(f"cluster {cluster} has credentials of its own; leave them out")
    else:
        service = find_service(str(cluster))
        client, timeout = client_of(service), service.start_timeout
        problem = f"cluster {cluster} has no worker; ask for some: slcluster cluster scale {cluster} N"
    try:
        if not is_address(cluster):
            _refuse_without_workers(client, problem)
        await_workers(client, timeout, problem)
    except BaseException:
        client.close()
        raise
    return client


def _refuse_without_workers(client: Any, problem: str) -> None:
    """Nobody waits for workers that nobody asked for."""
    about = client.sync(client.scheduler.slcluster_describe)
    if about["wanted"] == 0:
        raise SlclusterError(problem)
    if about["workers"] == 0:
        log.info("waiting for a worker: %d are asked for", about["wanted"])


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
    with quiet_end() as hush, start_processes(n_workers, timeout) as started, Client(started) as client:
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


def start_cluster(profile: Profile, credentials: Credentials | None = None) -> Any:
    """The cluster of a profile.

    Parameters
    ----------
    profile : Profile
    credentials : Credentials, optional
        For TLS. Where not given, batch clusters make their own, and local ones do without.
    """
    if isinstance(profile, LocalProfile):
        return _start_local(profile, credentials)
    if isinstance(profile, KubernetesProfile):
        return start_kubernetes(profile)
    return (
        start_gateway(profile) if isinstance(profile, GatewayProfile) else start_batch(profile, credentials)
    )


def _start_local(profile: LocalProfile, credentials: Credentials | None) -> Any:
    import dask
    from dask.system import CPU_COUNT

    from slcluster.cluster.lasting import LastingCluster

    own = issue_for_run() if profile.tls and credentials is None else None
    credentials = credentials or own
    options = {
        "n_workers": profile.workers or max(1, CPU_COUNT // profile.threads),
        "threads_per_worker": profile.threads,
        "memory_limit": profile.memory or "auto",
        "local_directory": profile.local_directory,
        "host": "127.0.0.1",
        "dashboard_address": DASHBOARD,
        "preload": [_PRELOAD],
        "env": profile.environment,
        "config": WORKERS,  # also for nannies that come later, when Dask's own settings are back
        **({"security": credentials.security(), "protocol": "tls://"} if credentials else {}),
        **profile.extra,
    }
    try:
        with dask.config.set(dask_settings(profile.start_timeout)), teaching(profile):
            cluster = LastingCluster(**options)
    except BaseException:
        if own is not None:
            own.remove()
        raise
    cluster.credentials = own
    try:
        refuse_plain(cluster.scheduler_address)
    except InputError:
        cluster.close()
        raise
    return cluster


def _client_at(address: str, credentials: str | Path | None) -> Any:
    import dask
    from distributed import Client
    from distributed.comm import resolve_address

    security = _security_at(address, credentials)
    with dask.config.set(NETWORK if security else {}):
        try:
            # A Client that fails on a misspelt scheme stays behind as the active one.
            resolve_address(address)
            return Client(address, timeout=ANSWER_TIMEOUT, security=security)
        except (OSError, ValueError) as error:
            hint = "" if security is None else "; are the credentials those of this cluster?"
            said = " ".join(str(error).split())
            raise InputError(f"no Dask scheduler answers at {address}: {said}{hint}") from error


def _configured_security(address: str) -> Any:
    """The certificate that Dask's own configuration names, as in a container with a mounted secret."""
    from distributed import Security

    found = Security()
    try:
        has_certificate = found.get_connection_args("client").get("ssl_context") is not None
    except OSError as error:
        raise InputError(
            f"{address} asks for a certificate, and that of Dask's configuration (distributed.comm.tls) cannot be "
            f"read: {error}"
        ) from error
    if not has_certificate:
        raise InputError(
            f"{address} asks for a certificate; name the folder of its credentials (--credentials FOLDER)"
        )
    return found


def _security_at(address: str, credentials: str | Path | None) -> Any:
    """What a client needs to be let in at an address."""
    if address.startswith("tls://"):
        return (
            _configured_security(address) if credentials is None else load_credentials(credentials).security()
        )
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
def quiet_end() -> Iterator[Callable[[Any], None]]:
    """Keep a cluster that is being stopped from logging, with tracebacks, that its parts are going away.

    What it gives is to be called with the client when the end begins.
    """
    ours = logging.getLogger("distributed")
    level = ours.level

    def hush(client: Any) -> None:
        with suppress(Exception):
            # Not for longer: a worker may be frozen.
            client.sync(
                client._run, logging.disable, logging.CRITICAL, on_error="ignore", callback_timeout="5s"
            )
        ours.setLevel(logging.CRITICAL)

    try:
        yield hush
    finally:
        ours.setLevel(level)


def live_map_link(client: Any) -> str:
    """Where the live map is on the dashboard of a cluster of ours; through the same proxy, if there is one."""
    return f"{client.dashboard_link.removesuffix('/status')}/slcluster/"
