"""Local workers that come back as often as they die. Imports distributed: import it late."""

from __future__ import annotations

import asyncio
from typing import Any

from distributed import LocalCluster, Status
from distributed.deploy import Cluster

from slcluster.cluster.security import Credentials

__all__ = ["LastingCluster"]

#: Between two looks at a nanny that closes.
_POLL_S = 1.0


class LastingCluster(LocalCluster):
    """``distributed.LocalCluster`` that keeps its number of workers.

    Nannies start lost workers again, and are left alone with it: Dask's class looks 15 s after a worker was lost, and
    where it has just died once more ends its nanny for good. A nanny also closes by itself, with a worker that lost
    its connection, and nobody starts another: here one is started.
    """

    #: The certificates of this cluster alone, deleted with it.
    credentials: Credentials | None = None

    async def _close(self) -> None:
        await super()._close()
        if self.credentials is not None:
            self.credentials.remove()

    def _update_worker_status(self, op: str, msg: Any) -> None:
        if op != "remove":
            super()._update_worker_status(op, msg)
            return
        worker = self.scheduler_info["workers"].get(msg)
        if worker is None:  # who waits for workers reads all of them anew, at times before we hear of one
            return
        asyncio.get_running_loop().call_later(_POLL_S, self._replace, worker["name"])
        Cluster._update_worker_status(self, op, msg)

    def _replace(self, name: Any) -> None:
        nanny = self.workers.get(name)
        if self.status != Status.running or name not in self.worker_spec or nanny is None:
            return
        if nanny.status in (Status.closing, Status.closing_gracefully):
            asyncio.get_running_loop().call_later(_POLL_S, self._replace, name)
        elif nanny.status in (Status.closed, Status.failed):
            del self.workers[name]
            self._futures.add(asyncio.ensure_future(self._correct_state()))
