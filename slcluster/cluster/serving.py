"""The process that is a cluster with a name: how it starts, what it listens to, when it ends."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from slcluster.cluster.home import private_folder
from slcluster.cluster.kinds import KINDS, BatchProfile, LocalProfile, Profile
from slcluster.cluster.listening import issue_for
from slcluster.cluster.profiles import load_profile
from slcluster.cluster.security import Credentials, issue_for_run
from slcluster.cluster.service import (
    Service,
    check_name,
    end_jobs,
    is_service,
    read_record,
    remove_record,
    service_folder,
    was_removed,
    write_record,
)
from slcluster.errors import InputError, SlclusterError, StoreError

__all__ = ["clear", "launch", "serve"]

log = logging.getLogger("slcluster")

#: A cluster may stay for long, and its certificates go with it.
_HOURS = 10 * 365 * 24.0

#: How often it looks whether something ended it.
_LOOK_S = 0.5

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def serve(
    name: str,
    profile: str | Path = "local",
    *,
    idle_timeout: str | None = None,
    log_file: Path | None = None,
    **asked: Any,
) -> None:
    """Be a cluster, until somebody stops it or it has had no work for the idle timeout.

    Parameters
    ----------
    name : str
        What commands and notebooks attach to.
    profile : str or path
        ``"local"``, a kind of batch system, or a YAML file of one.
    idle_timeout : str, optional
        Such as ``"2h"``. Clients that are connected and compute nothing do not count as work.
    log_file : path, optional
        Where this process writes; only told to others.
    **asked
        ``workers``, ``threads`` and ``memory`` as for :func:`slcluster.make_cluster`.

    Raises
    ------
    InputError
        The name is taken or no name, the profile is not one that a process holds, or the batch system refuses.
    SlclusterError
        Another process took the name over while this one gave no sign of life.
    """
    import psutil

    check_name(name)
    chosen = held_profile(profile, **asked)
    folder = private_folder(service_folder(name))
    with _lease(name, folder) as lease:
        if log_file is not None:
            os.truncate(log_file, 0)  # what an earlier one of this name wrote
        if (earlier := read_record(name)) is not None:
            end_jobs(earlier)
        clear(name)
        credentials = _issue(name, chosen)
        service = Service(
            name=name,
            kind=chosen.kind,
            profile=str(profile),
            host=socket.gethostname(),
            pid=os.getpid(),
            process_start=psutil.Process().create_time(),
            started=time.time(),
            start_timeout=chosen.start_timeout,
            idle_timeout=idle_timeout,
            credentials=credentials.folder,
            log=log_file,
        )
        try:
            write_record(service)
            _say(f"cluster {name} stopped: {_run(service, chosen, credentials, lease)}")
        finally:
            if _is_ours(service):
                clear(name)


def held_profile(profile: str | Path, **asked: Any) -> Profile:
    """The profile of a cluster whose scheduler is a process of ours.

    Raises
    ------
    InputError
        It is of another kind, or as :func:`load_profile`.
    """
    if is_service(profile):
        raise InputError(
            f"{profile} is a cluster that runs already; start one of a profile, under another name"
        )
    chosen = load_profile(profile, **asked)
    if not isinstance(chosen, LocalProfile | BatchProfile):
        raise InputError(
            f"kind {chosen.kind} keeps its own scheduler running, and needs no process here that does; attach to it "
            "by its address"
        )
    # Also where it would do without: nobody waits beside a cluster that stays.
    return chosen.model_copy(update={"tls": True}) if isinstance(chosen, BatchProfile) else chosen


def _issue(name: str, profile: Profile) -> Credentials:
    """Keys of a cluster, where its workers see them."""
    issued = None
    if isinstance(profile, BatchProfile):
        issued = issue_for(profile, hours=_HOURS)
    return issued or issue_for_run(service_folder(name) / "tls", hours=_HOURS)


def clear(name: str) -> None:
    """Remove what a cluster of this name has left: its record, and the keys to it. The log stays."""
    service = read_record(name)
    if service is not None:
        shutil.rmtree(service.credentials, ignore_errors=True)
    shutil.rmtree(service_folder(name) / "tls", ignore_errors=True)
    remove_record(name)


def _is_ours(service: Service) -> bool:
    record = read_record(service.name)
    return record is None or (record.pid, record.started) == (service.pid, service.started)


@contextmanager
def _lease(name: str, folder: Path) -> Iterator[Any]:
    """Hold a name, or say who does."""
    from slcluster.store.lease import Lease

    _refuse_taken(name)
    lease = Lease(folder)
    try:
        lease.__enter__()
    except StoreError as error:
        _refuse_taken(name)
        raise InputError(f"the name {name} is taken: {error}") from error
    try:
        yield lease
    finally:
        lease.__exit__(None, None, None)


def _refuse_taken(name: str) -> None:
    service = read_record(name)
    if service is not None and service.state != "gone":
        raise InputError(
            f"a cluster called {name} is {service.state} on {service.host} (process {service.pid}); use it with "
            f"--cluster {name}, stop it with: slcluster cluster stop {name}, or choose another name"
        )


def _run(service: Service, profile: Profile, credentials: Credentials, lease: Any) -> str:
    """Start the cluster, write down where it is, and wait. Why it ended."""
    from slcluster.cluster import quiet_end, start_cluster

    with quiet_end() as hush, start_cluster(profile, credentials) as cluster, _Stop() as stop:
        if not cluster.scheduler_address.startswith("tls://"):
            raise InputError(
                "a cluster that stays speaks TLS alone; remove from extra what makes it do otherwise"
            )
        _listen(cluster, stop)
        # Its own timeout would close it alone, and its workers would look for it for half a minute.
        cluster.scheduler.idle_timeout = None
        cluster.scheduler.idle_since = time.time()  # workers have had time to start
        now = {"address": cluster.scheduler_address, "dashboard": cluster.dashboard_link}
        service = service.model_copy(update={**now, "jobs": _jobs(cluster)})
        write_record(service)
        _say(f"cluster {service.name} runs at {cluster.scheduler_address}, process {service.pid}")
        while not stop.wait(_LOOK_S):
            lease.check()
            if cluster.scheduler.status.name in ("closing", "closed"):
                return "a client shut its scheduler down"
            if was_removed(service):
                return "somebody stopped it while it gave no sign of life"
            if (jobs := _jobs(cluster)) != service.jobs:
                service = service.model_copy(update={"jobs": jobs})
                with suppress(StoreError):  # a full disk may be emptied again
                    write_record(service)
            if _is_idle(cluster.scheduler, service.idle_timeout):
                stop(f"no work for {service.idle_timeout}")
        with cluster.get_client() as client:
            hush(client)
        return stop.reason


def _jobs(cluster: Any) -> tuple[str, ...]:
    """Numbers of the batch jobs of a cluster that has some."""
    jobs = list(getattr(cluster, "workers", {}).values())
    return tuple(str(job.job_id) for job in jobs if getattr(job, "job_id", None))


def _is_idle(scheduler: Any, timeout: str | None) -> bool:
    """Whether no task was there to compute for so long. Clients and results in memory do not count."""
    from dask.utils import parse_timedelta

    since = scheduler.idle_since  # None while there is work
    return bool(timeout and since and time.time() > since + parse_timedelta(timeout))


class _Stop:
    """The wish that the cluster ends, from a signal or from a client. Signals are handled within ``with``."""

    def __init__(self) -> None:
        self.reason = ""
        self._event = threading.Event()
        self._before: dict[int, Any] = {}

    def __call__(self, reason: str) -> None:
        self.reason = self.reason or reason
        self._event.set()

    def wait(self, seconds: float) -> bool:
        return self._event.wait(seconds)

    def __enter__(self) -> _Stop:
        for number in _SIGNALS:
            self._before[number] = signal.signal(
                number, lambda got, _: self(f"signal {signal.Signals(got).name}")
            )
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)


def _listen(cluster: Any, stop: _Stop) -> None:
    """Add to the scheduler what clients of ours call: it listens already, and to nobody without a certificate."""
    scheduler = cluster.scheduler

    def scale(workers: int) -> None:
        if getattr(cluster, "_adaptive", None) is not None:
            cluster._adaptive.stop()  # or it would undo this
        cluster.scale(workers)
        _say(f"workers: {workers} from now on")

    def describe() -> dict[str, Any]:
        from slcluster.dispatch import runs_on

        return {
            "workers": len(scheduler.workers),
            "wanted": len(cluster.plan),
            "runs": runs_on(scheduler),
        }

    def greet() -> None:
        scheduler.idle_since = time.time()

    scheduler.handlers |= {
        "slcluster_greet": greet,
        "slcluster_scale": scale,
        "slcluster_describe": describe,
        "slcluster_stop": lambda: stop("somebody asked for it"),
    }


def launch(
    name: str, profile: str | Path = "local", *, idle_timeout: str | None = None, **asked: Any
) -> Service:
    """Start a cluster as a process of its own, which stays when this one and its terminal have gone.

    Parameters
    ----------
    name, profile, idle_timeout, **asked
        As for :func:`serve`.

    Returns
    -------
    Service
        Its scheduler has answered. Batch jobs may still wait in their queue.

    Raises
    ------
    InputError, SlclusterError
        As :func:`serve`; or it ended before it ran: with the end of its log.
    """
    check_name(name)
    held_profile(profile, **asked)
    folder = private_folder(service_folder(name))
    _refuse_taken(name)
    log_file = folder / "log"
    where = str(profile) if str(profile) in KINDS else str(Path(profile).expanduser().absolute())
    options = {**asked, "idle-timeout": idle_timeout}
    flags = [f"--{flag}={value}" for flag, value in options.items() if value is not None]
    # -P: the current folder is no place for modules, as it is for the command itself.
    command = [sys.executable, "-P", "-m", "slcluster", "cluster", "start", where, f"--name={name}", *flags]
    handle = os.open(log_file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        # It keeps the current folder: a profile may name others from there.
        process = subprocess.Popen(
            [*command, "--foreground", f"--log={log_file}"],
            stdin=subprocess.DEVNULL,
            stdout=handle,
            stderr=handle,
            start_new_session=True,
        )
    finally:
        os.close(handle)
    try:
        return _await_start(name, process, log_file)
    except BaseException:
        process.terminate()
        process.wait()
        raise


def _await_start(name: str, process: Any, log_file: Path) -> Service:
    from slcluster.cluster.service import client_of

    while True:
        ended = process.poll()
        service = read_record(name)
        if service is not None and service.pid == process.pid and service.state == "running":
            client_of(service, as_default=False).close()
            return service
        if ended is not None:
            said = log_file.read_text(errors="replace").strip().splitlines()
            last = said[-1].removeprefix("slcluster: error: ") if said else f"it ended with code {ended}"
            error = InputError if ended == 2 else SlclusterError
            raise error(f"cluster {name} did not start: {last}; its log: {log_file}")
        time.sleep(0.1)


def _say(text: str) -> None:
    log.info("%s %s", f"{datetime.now():%Y-%m-%d %H:%M:%S}", text)
