"""Batch jobs that are submitted again when their workers are lost. Imports dask-jobqueue: import it late.

``scale`` never does that, and ``adapt`` does not notice a lost job of several processes: it looks the names of
workers up among the names of jobs.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from importlib import import_module
from typing import Any

from distributed import Status

from slcluster.cluster.systems import SYSTEMS

__all__ = ["Replacing", "replacing_cluster"]

log = logging.getLogger("slcluster")


class Replacing:
    """To be mixed into a cluster of dask-jobqueue. A job is replaced when all of its workers have gone."""

    #: Seconds that a worker gets to come back: its nanny starts it again when it ran out of memory.
    patience_s = 15.0

    def _update_worker_status(self: Any, op: str, msg: Any) -> None:
        if op == "remove":
            job = self._job_of(self.scheduler_info["workers"][msg]["name"])
            asyncio.get_running_loop().call_later(self.patience_s, self._replace, job)
        super()._update_worker_status(op, msg)  # type: ignore[misc]

    def _names(self: Any, job: Any) -> set[str]:
        """Names of the workers of a job."""
        return {f"{job}{suffix}" for suffix in self.worker_spec[job].get("group", [""])}

    def _job_of(self: Any, worker: Any) -> Any:
        return next((job for job in self.worker_spec if str(worker) in self._names(job)), None)

    def _replace(self: Any, job: Any) -> None:
        if self.status != Status.running or job not in self.workers or job not in self.worker_spec:
            return
        alive = {str(about["name"]) for about in self.scheduler_info["workers"].values()}
        if self._names(job) & alive:
            return
        log.warning(
            "batch job %s ended before its work was done; another is submitted", self.workers[job].job_id
        )
        lost = self.workers.pop(job)
        self._futures.add(asyncio.ensure_future(self._resubmit(lost)))

    async def _resubmit(self: Any, lost: Any) -> None:
        with suppress(Exception):  # it has gone already, as a rule
            await lost.close()
        lost.status = Status.closed
        await self._correct_state()


def replacing_cluster(kind: str) -> type:
    """dask-jobqueue's cluster class for a batch system, whose lost jobs are replaced."""
    system = SYSTEMS[kind]
    base = getattr(import_module(f"dask_jobqueue.{system.module}"), system.cluster)
    return type(
        f"Replacing{base.__name__}",
        (Replacing, base),
        {"__doc__": f"{base.__name__} whose lost jobs are replaced."},
    )
