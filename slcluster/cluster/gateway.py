"""Clusters that a dask-gateway server starts for us."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from dask.utils import parse_bytes

from slcluster.cluster.kinds import GatewayProfile
from slcluster.errors import InputError, SlclusterError, one_line

__all__ = ["cluster_options", "start_gateway"]


def cluster_options(profile: GatewayProfile) -> dict[str, Any]:
    """What the server is asked for, by the names that its documentation gives to its options.

    Examples
    --------
    >>> cluster_options(GatewayProfile(cores=2, memory="4GiB"))
    {'worker_cores': 2, 'worker_memory': 4.0}
    """
    options: dict[str, Any] = {}
    if profile.cores is not None:
        options["worker_cores"] = profile.cores
    if profile.memory is not None:
        options["worker_memory"] = round(parse_bytes(profile.memory) / 2**30, 3)
    if profile.environment:
        options["environment"] = dict(profile.environment)
    return {**options, **profile.extra}


def start_gateway(profile: GatewayProfile) -> Any:
    """A new cluster of the gateway, with its workers asked for.

    Raises
    ------
    InputError
        dask-gateway is not installed, nobody answers at the address, or the server takes no such options.
    SlclusterError
        The server does not let us in, or cannot start a cluster.
    """
    try:
        from dask_gateway import Gateway
    except ImportError:
        raise InputError(
            "kind: gateway needs dask-gateway; install it with: pip install 'slcluster[gateway]'"
        ) from None
    # The cluster has a connection of its own; one that is left open complains when the process ends.
    with _told(profile), Gateway(address=profile.address, auth=profile.auth) as gateway:
        known = set(gateway.cluster_options())
        wanted = cluster_options(profile)
        unknown = sorted(set(wanted) - known)
        if unknown:
            offers = ", ".join(sorted(known)) or "none"
            raise InputError(f"the gateway has no option {unknown[0]!r}; its options: {offers}")
        cluster = gateway.new_cluster(**wanted)
    try:
        with _told(profile):
            if profile.adapt:
                cluster.adapt(minimum=profile.adapt.minimum, maximum=profile.adapt.maximum)
            else:
                cluster.scale(profile.workers or 1)
    except BaseException:
        cluster.close()
        raise
    return cluster


@contextmanager
def _told(profile: GatewayProfile) -> Iterator[None]:
    try:
        yield
    except InputError:
        raise
    except (OSError, ValueError) as error:
        where = profile.address or "the address that Dask's configuration gives"
        raise InputError(f"no dask-gateway at {where}: {one_line(error)}") from error
    except Exception as error:
        raise SlclusterError(
            f"the gateway gives no cluster: {type(error).__name__}: {one_line(error)}"
        ) from error
