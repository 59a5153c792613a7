"""Where the servers of a batch cluster listen, and with which certificates: what its profile says of both."""

from __future__ import annotations

import logging
import os
import shlex
import sys
from pathlib import Path
from typing import Any

from slcluster.cluster.addresses import host_of, interface_address, is_loopback, own_address
from slcluster.cluster.kinds import BatchProfile
from slcluster.cluster.security import Credentials, issue_for_run
from slcluster.cluster.settings import DASHBOARD
from slcluster.errors import InputError

__all__ = ["issue_for", "job_credentials", "job_flags", "listening_host", "refuse_plain"]

log = logging.getLogger("slcluster")

_PLAIN = "without TLS anybody who reaches this address can run code as you, on every node"


def listening_host(profile: BatchProfile) -> str:
    """The one address of this machine that the scheduler of a profile listens on.

    Raises
    ------
    InputError
        There is no such interface, or no address that nodes could reach, or others could and TLS is off.
    """
    wished = profile.extra.get("scheduler_options", {})
    interface = wished.get("interface") or profile.interface
    host = str(wished.get("host") or (interface_address(interface) if interface else own_address()))
    if not profile.tls:
        if not is_loopback(host):
            raise InputError(
                f"tls: false, and the scheduler would listen on {host}: {_PLAIN}; remove tls: false, or name a "
                "loopback interface (interface: lo) where all workers are on this machine"
            )
        log.warning("TLS is off: every user of this machine can run code as you while the cluster is there")
    return host


def refuse_plain(address: str) -> None:
    """Refuse a server of ours that others reach and that asks nobody who they are.

    Raises
    ------
    InputError
    """
    if not address.startswith("tls://") and not is_loopback(host_of(address)):
        raise InputError(
            f"the scheduler would listen on {address}: {_PLAIN}; remove from extra what makes it so (host, "
            "interface, protocol, security)"
        )


def issue_for(profile: BatchProfile) -> Credentials | None:
    """Credentials of a new run, where the profile's nodes see them.

    Raises
    ------
    InputError
        The folder has a name that a shell would take apart, or is open to others.
    StoreError
        It cannot be written.
    """
    if not profile.tls:
        return None
    credentials = issue_for_run(profile.credentials_directory)
    folder = str(credentials.folder)
    if shlex.quote(folder) != folder:  # dask-jobqueue writes it into job scripts as it is
        credentials.remove()
        raise InputError(
            f"certificates in {folder} cannot be named in a job script; name a folder without spaces and quotes "
            "that the nodes see: credentials_directory, or SLCLUSTER_HOME"
        )
    return credentials


def job_credentials(profile: BatchProfile, credentials: Credentials | None) -> dict[str, Any]:
    """Keywords of dask-jobqueue's job for TLS; of a run to come where there are no credentials yet."""
    if not profile.tls:
        return {}
    if credentials is None:
        home = os.environ.get("SLCLUSTER_HOME") or "~/.slcluster"
        credentials = Credentials(Path(profile.credentials_directory or f"{home}/tls") / "<run>")
    return {"protocol": "tls://", "security": credentials.security()}


def job_flags(profile: BatchProfile, host: str) -> list[str]:
    """Flags of workers: one address of their node, towards the scheduler's, and pages on loopback.

    Dask's workers listen on every interface where none is named. Backquotes, since HTCondor reads ``$(`` itself.
    """
    flags = ["--dashboard-address", DASHBOARD]
    if profile.interface is None:
        python = shlex.quote(profile.python or sys.executable)
        flags += ["--host", f"`{python} -m slcluster.cluster.towards {host}`"]
    return flags
