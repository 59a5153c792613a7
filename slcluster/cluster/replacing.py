"""Batch jobs that are submitted again when their workers are lost, and that tell why they are not taken.

Imports dask-jobqueue: import it late. Its ``scale`` replaces nothing, its ``adapt`` does not notice a lost job of
several processes (it looks the names of workers up among the names of jobs), and what the batch system answers
to a submission goes to a log that nobody reads.
"""

from __future__ import annotations

import asyncio
import logging
import random
import shlex
from contextlib import suppress
from importlib import import_module
from typing import Any

import dask
from dask_jobqueue.lsf import LSFJob
from distributed import Status
from distributed.deploy.cluster import Cluster

from slcluster.cluster.queues import Queue, State, queue_of
from slcluster.cluster.security import Credentials
from slcluster.cluster.systems import SYSTEMS

__all__ = ["Replacing", "job_of_worker", "refusal", "replacing_cluster"]

log = logging.getLogger("slcluster")


class Replacing:
    """To be mixed into a cluster of dask-jobqueue. A job is replaced when all of its workers have gone."""

    #: Seconds that a worker gets to come back: its nanny starts it again when it ran out of memory.
    patience_s = 15.0
    #: Seconds until a job that was refused is submitted again; limits on jobs of one user are a reason for it.
    retry_s = 60.0
    #: What the batch system said to the last job that it refused.
    refused: str | None = None
    #: Whether the first jobs have been taken; who submits those tells of a refusal.
    has_begun = False
    #: Seconds between two looks at jobs without a worker, and how many are asked for: a queue serves many people.
    look_s, n_asked = 60.0, 8
    #: What knows of the jobs.
    queue: Queue
    #: The certificates of this cluster, deleted with it.
    credentials: Credentials | None = None
    _settings: Any = None

    def hold(self: Any, settings: dict[str, Any]) -> None:
        """Keep Dask settings that are read again and again in force for as long as the cluster lives."""
        self._settings = dask.config.set(settings)

    async def _close(self: Any) -> None:
        for (
            job
        ) in self._created:  # dask-jobqueue cancels jobs without noting it, and Dask would stumble over that
            job.status = Status.closing
        await super()._close()  # type: ignore[misc]
        if self._settings is not None:
            self._settings.__exit__(None, None, None)
            self._settings = None
        if self.credentials is not None:
            self.credentials.remove()

    def _update_worker_status(self: Any, op: str, msg: Any) -> None:
        if op == "remove":
            worker = self.scheduler_info["workers"].get(msg)
            if worker is None:  # who waits for workers reads all of them anew, at times before we hear of one
                return
            job = self._job_of(worker["name"])
            asyncio.get_running_loop().call_later(self.patience_s, self._replace, job)
        # Not SpecCluster's: it would close the job, without submitting another.
        Cluster._update_worker_status(self, op, msg)

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

    def look(self: Any, known: frozenset[str] = frozenset()) -> None:
        """Replace jobs that end before a worker of theirs comes, from now on: the scheduler hears nothing of those.

        A node that is broken ends every job that it gets at once, and is always free for the next.
        """

        def soon() -> None:
            self._futures.add(asyncio.ensure_future(self._look(known)))

        asyncio.get_running_loop().call_later(self.look_s, soon)

    async def _look(self: Any, known: frozenset[str]) -> None:
        alive = {str(about["name"]) for about in self.scheduler_info["workers"].values()}
        silent = {
            str(made.job_id): job
            for job, made in self.workers.items()
            if made.status == Status.running and job in self.worker_spec and not self._names(job) & alive
        }
        old = sorted(known & set(silent))  # a queue need not know yet of what was just handed in
        for number in random.sample(old, min(self.n_asked, len(old))):
            if self.status != Status.running:
                return
            if (await asyncio.to_thread(self.queue.state, number)).state is State.GONE:
                self._replace(silent[number])
        self.look(frozenset(silent))

    async def _resubmit(self: Any, lost: Any) -> None:
        with suppress(Exception):  # it has gone already, as a rule
            await lost.close()
        lost.status = Status.closed
        await self._correct_state()

    async def scale_down(self: Any, workers: Any) -> None:
        """Give up jobs, each with all of its workers: one of them may idle while the others do not."""
        leaving = {str(worker) for worker in workers}
        for job in [job for job in self.worker_spec if self._names(job) <= leaving]:
            del self.worker_spec[job]
        await self

    async def _correct_state_internal(self: Any) -> None:
        """As Dask's, but a job that is not taken is remembered, told of, and tried again later."""
        try:
            await super()._correct_state_internal()  # type: ignore[misc]
        except (RuntimeError, ValueError, OSError) as error:
            failed = [name for name, job in self.workers.items() if job.status == Status.created]
            if not failed:
                raise
            for name in failed:
                self.workers[name].status = Status.failed
            self.refused = refusal(error)
            asyncio.get_running_loop().call_later(self.retry_s, self._try_again, failed)
            if self.has_begun or len(failed) < len(self.workers):
                log.warning(
                    "%d of %d batch jobs were not taken: %s; they are submitted again in %.0f s",
                    *(len(failed), len(self.workers), self.refused, self.retry_s),
                )

    def _try_again(self: Any, names: list[Any]) -> None:
        if self.status != Status.running:
            return
        for name in names:
            job = self.workers.get(name)
            if job is not None and job.status == Status.failed:
                del self.workers[name]
        self._futures.add(asyncio.ensure_future(self._correct_state()))


class _LsfJob(LSFJob):
    """dask-jobqueue throws away what bsub says."""

    async def _submit_job(self, script_filename: str) -> Any:
        if not self.use_stdin:
            return await super()._submit_job(script_filename)
        return await self._call([f"{self.submit_command} < {shlex.quote(script_filename)}"], shell=True)


def replacing_cluster(kind: str) -> type:
    """dask-jobqueue's cluster class for a batch system, whose lost jobs are replaced."""
    system = SYSTEMS[kind]
    base = getattr(import_module(f"dask_jobqueue.{system.module}"), system.cluster)
    body: dict[str, Any] = {
        "__doc__": f"{base.__name__} whose lost jobs are replaced.",
        "queue": queue_of(kind),
    }
    if kind == "lsf":
        body["job_cls"] = _LsfJob
    return type(f"Replacing{base.__name__}", (Replacing, base), body)


def job_of_worker(worker: Any) -> str:
    """Name of the job of one of several workers, for ``adapt``: they go together."""
    return str(worker.name).rpartition("-")[0]


def refusal(error: BaseException) -> str:
    """What a batch system said to a submission, on one line, from dask-jobqueue's report of it."""
    _, _, output = str(error).partition("stdout:\n")
    printed, _, complaint = output.partition("stderr:\n")
    return " ".join((complaint.strip() or printed.strip() or str(error)).split())
