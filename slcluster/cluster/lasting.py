"""Local workers that come back as often as they die. Imports distributed: import it late."""

from __future__ import annotations

from distributed import LocalCluster
from distributed.deploy import Cluster

__all__ = ["LastingCluster"]


class LastingCluster(LocalCluster):
    """``distributed.LocalCluster`` that gives no worker up for good.

    Nannies start lost workers again. Dask's class looks 15 s after a worker was lost whether it is back, and where it
    has just died once more ends its nanny too: a block that takes workers along would make the cluster smaller and
    smaller.
    """

    def _update_worker_status(self, op: str, msg: object) -> None:
        if op == "remove":
            Cluster._update_worker_status(self, op, msg)
        else:
            super()._update_worker_status(op, msg)
