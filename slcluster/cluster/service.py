"""Clusters that stay, found by name: started once, then used by every command and notebook of their user.

A folder for each of them, below the user's own folder, holds what others need to reach it: a record, credentials,
the log, and the lease of the process that is the cluster. Nobody else can read them, and without them nobody gets
in, not even on the same machine.
"""

from __future__ import annotations

import difflib
import logging
import os
import re
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, ValidationError

from slcluster.cluster.home import home_folder, private_folder
from slcluster.cluster.kinds import KINDS
from slcluster.cluster.queues import State, queue_of
from slcluster.cluster.security import load_credentials
from slcluster.errors import InputError, SlclusterError, cannot_write, one_line

__all__ = [
    "Service",
    "check_name",
    "client_of",
    "describe_service",
    "end_jobs",
    "find_service",
    "is_service",
    "list_services",
    "scale_service",
    "service_folder",
    "stop_service",
    "unknown_service",
    "was_removed",
    "write_record",
]

log = logging.getLogger("slcluster")

#: What a name looks like: nothing that could be an address, a path or a file.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}")

_RECORD = "record.json"

#: How long a cluster may take to answer.
ANSWER_S = 10.0

#: How long it may take to stop.
STOP_S = 60.0

#: Lines of its log that tell why a cluster has gone.
_LAST_LINES = 3


class Service(BaseModel):
    """What is written down of a cluster that stays.

    Attributes
    ----------
    name, kind, profile : str
    address : str, optional
        Of its scheduler; None while it starts.
    dashboard : str, optional
    host : str
    pid : int
    process_start : float
        When the process began, by its host's clock: numbers of processes come again.
    started : float
        Seconds since 1970.
    start_timeout : str
        How long its workers may take to come.
    idle_timeout : str, optional
    credentials : Path
    log : Path, optional
        Not known where somebody else keeps it, as systemd does.
    jobs : tuple of str
        Batch jobs of its workers.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    kind: str
    profile: str
    address: str | None = None
    dashboard: str | None = None
    host: str
    pid: int
    process_start: float
    started: float
    start_timeout: str
    idle_timeout: str | None = None
    credentials: Path
    log: Path | None = None
    jobs: tuple[str, ...] = ()

    @property
    def state(self) -> str:
        """ "starting", "running" or "gone"."""
        from slcluster.store.lease import SILENCE_S, is_dead, read_lease, silence_s

        lease = read_lease(service_folder(self.name))
        if not lease or lease["pid"] != self.pid or is_dead(lease):
            return "gone"
        if silence_s(lease) > SILENCE_S and not self.is_seen:
            return "gone"
        return "starting" if self.address is None else "running"

    @property
    def is_seen(self) -> bool:
        """Whether its process lives on this machine, however long it has said nothing: frozen, or its disk full."""
        from slcluster.store.lease import is_seen, read_lease

        lease = read_lease(service_folder(self.name))
        return lease is not None and is_seen(lease)

    @property
    def tunnel(self) -> str | None:
        """A command that brings the dashboard to another machine."""
        if self.dashboard is None:
            return None
        port = urlsplit(self.dashboard).port
        return f"ssh -N -L {port}:127.0.0.1:{port} {self.host}"

    def last_lines(self) -> str:
        """The end of its log, on one line."""
        return _last_lines(self.log)


def check_name(name: str) -> None:
    """Refuse what could not be told from a profile, a file or an address.

    Raises
    ------
    InputError
    """
    if name in KINDS:
        raise InputError(f"a cluster cannot be called {name}: that is a kind of profile")
    if not _NAME.fullmatch(name):
        raise InputError(
            f"a cluster cannot be called {name!r}; a name has letters, digits, - and _, and at most 63 of them"
        )


def service_folder(name: str) -> Path:
    """Where a cluster of this name keeps its files; it may not be there."""
    return home_folder() / "clusters" / name


def write_record(service: Service) -> None:
    """Replace the record of a cluster, whole, readable for its owner alone."""
    folder = private_folder(service_folder(service.name))
    fresh = folder / f"{_RECORD}.partial"
    try:
        fresh.unlink(missing_ok=True)
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(service.model_dump_json(indent=1))
        os.replace(fresh, folder / _RECORD)
    except OSError as error:
        raise cannot_write(folder, error) from error


def remove_record(name: str) -> None:
    (service_folder(name) / _RECORD).unlink(missing_ok=True)


def end_jobs(service: Service) -> None:
    """Call off the batch jobs of a cluster that has gone without doing so, and say where that fails."""
    for job in service.jobs:
        queue = queue_of(service.kind)
        found = queue.state(job)
        try:
            if found.state in (State.WAITING, State.RUNNING):
                queue.cancel(job)
        except SlclusterError as error:
            log.warning("%s", one_line(error))
        if found.state is State.UNKNOWN:
            log.warning(
                "%s cannot be asked for job %s of cluster %s: %s", queue.title, job, service.name, found
            )


def was_removed(service: Service) -> bool:
    """Whether a cluster has no record any more. A disk that does not answer is no sign of it."""
    try:
        (service_folder(service.name) / _RECORD).stat()
    except FileNotFoundError:
        return True
    except (OSError, SlclusterError):
        pass
    return False


def read_record(name: str) -> Service | None:
    """The record of a cluster, or None where there is none that can be read."""
    try:
        return Service.model_validate_json((service_folder(name) / _RECORD).read_bytes())
    except (OSError, ValidationError):
        return None


def list_services() -> list[Service]:
    """Every cluster with a record, by name: those that run, and those that have gone without being stopped."""
    folders = sorted((home_folder() / "clusters").glob("*/"))
    return [service for folder in folders if (service := read_record(folder.name)) is not None]


def is_service(name: str | Path) -> bool:
    """Whether a word is the name of a cluster that has been started."""
    return bool(_NAME.fullmatch(str(name))) and str(name) not in KINDS and read_record(str(name)) is not None


def unknown_service(name: str) -> str:
    """What to say of a name that no cluster has."""
    known = [service.name for service in list_services()]
    close = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {close[0]}?" if close else f"known: {', '.join(known) or 'none'}"
    ended = _last_lines(service_folder(name) / "log", 1) if _NAME.fullmatch(name) else ""
    before = f"; the log of an earlier one ends: {ended}" if ended else ""
    return f"no cluster is called {name!r}; {hint}{before}"


def find_service(name: str) -> Service:
    """A cluster that runs.

    Raises
    ------
    InputError
        No cluster has this name; the nearest is offered.
    SlclusterError
        It is still starting, or its process has gone: says where it was, and the end of its log.
    """
    service = read_record(name) if _NAME.fullmatch(name) else None
    if service is None:
        raise InputError(unknown_service(name))
    state = service.state
    if state == "starting":
        raise SlclusterError(f"cluster {name} is still starting on {service.host}; try again in a moment")
    if state == "gone":
        raise SlclusterError(_has_gone(service))
    return service


def _has_gone(service: Service) -> str:
    end = service.last_lines()
    says = f"; its log ends: {end}" if end else ""
    return (
        f"cluster {service.name} has gone: it was process {service.pid} on {service.host}{says}; "
        f"start it again: slcluster cluster start {service.profile} --name {service.name}"
    )


def client_of(service: Service, *, as_default: bool = True) -> Any:
    """A client of a cluster that runs. Closing it does not stop the cluster.

    Raises
    ------
    SlclusterError
        It does not answer, or listens on the loopback of another machine.
    """
    from distributed import Client

    assert service.address is not None
    if (urlsplit(service.address).hostname or "").startswith("127.") and service.host != socket.gethostname():
        raise SlclusterError(
            f"cluster {service.name} listens on {service.host} alone, and this is {socket.gethostname()}; use it "
            "there, or start one with a profile whose workers are elsewhere"
        )
    security = load_credentials(service.credentials).security()
    client: Any = None
    try:
        client = Client(service.address, security=security, timeout=ANSWER_S, set_as_default=as_default)
        if as_default:  # somebody has come to work, and finds the whole idle timeout before them
            client.sync(client.scheduler.slcluster_greet)
        return client
    except (OSError, ValueError) as error:
        if client is not None:
            client.close()  # or it would stay the active one
        raise SlclusterError(
            f"cluster {service.name} does not answer at {service.address} on {service.host} "
            f"({one_line(error)}); its log: {service.log or 'where it was started'}"
        ) from error


@contextmanager
def _asking(service: Service) -> Iterator[Any]:
    """A client that calls what :mod:`slcluster.cluster.serving` adds to the scheduler."""
    with client_of(service, as_default=False) as client:
        yield lambda what, **values: client.sync(getattr(client.scheduler, f"slcluster_{what}"), **values)


def describe_service(service: Service) -> dict[str, Any]:
    """What a running cluster says of itself.

    Returns
    -------
    dict
        ``workers`` that are there, ``wanted`` workers, and ``runs``: for each its name, and how many of its blocks
        were handed over and are not done.

    Raises
    ------
    SlclusterError
        It does not answer.
    """
    with _asking(service) as ask:
        answer: dict[str, Any] = ask("describe")
    return {**answer, "runs": [tuple(run) for run in answer["runs"]]}


def scale_service(name: str, workers: int) -> None:
    """Ask a cluster for another number of workers. It does not wait for them.

    Parameters
    ----------
    name : str
    workers : int
        0 keeps the cluster, and no workers.

    Raises
    ------
    InputError, SlclusterError
        As :func:`find_service`; or a number below 0.
    """
    if workers < 0:
        raise InputError(f"the number of workers must be 0 or more, got {workers}")
    with _asking(find_service(name)) as ask:
        ask("scale", workers=workers)


def stop_service(name: str) -> None:
    """Stop a cluster, and return when it has gone. Of one that is gone already, remove what it left.

    Raises
    ------
    InputError
        No cluster has this name.
    SlclusterError
        It does not answer, or does not end.
    """
    from slcluster.cluster.serving import clear

    service = read_record(name) if _NAME.fullmatch(name) else None
    if service is None:
        raise InputError(unknown_service(name))
    if service.state == "gone":
        end_jobs(service)
        clear(name)
        if service.host != socket.gethostname():
            log.warning(
                "cluster %s gave no sign of life and was not asked; if process %d on %s still is, it ends by itself",
                *(name, service.pid, service.host),
            )
        return
    try:
        with _asking(find_service(name)) as ask:
            ask("stop")
    except SlclusterError:
        if not service.is_seen:
            raise
        os.kill(service.pid, signal.SIGTERM)
    end = time.monotonic() + STOP_S
    while service.state != "gone":
        if time.monotonic() > end:
            raise SlclusterError(
                f"cluster {name} was asked to stop and has not ended within {STOP_S:g} s; it is process "
                f"{service.pid} on {service.host}"
            )
        time.sleep(0.1)


def _last_lines(path: Path | None, n_lines: int = _LAST_LINES) -> str:
    if path is None:
        return ""
    with suppress(OSError), path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 4000))
        lines = file.read().decode(errors="replace").splitlines()
        return " | ".join([" ".join(line.split()) for line in lines if line.strip()][-n_lines:])
    return ""
