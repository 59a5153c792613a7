"""The coordinator: the batch job that computes a submitted run, and sees to it that the run outlives it.

A coordinator ends for three reasons. Its walltime comes: it stops a while before, which keeps finished blocks and
frees the store. It is killed without notice, by a node that fails or the system's own timer: it can do nothing
then. Or the run is over. So the first thing that it does is to hand in its follow-up, which the batch system holds
back until this job has ended, *however* it ended; when the run is over it calls the follow-up off. One that starts
in spite of that finds nothing to do. Starting after any end is what every batch system with dependencies knows
(Grid Engine and OAR know nothing else), and a lease of the run's folder keeps two coordinators apart whatever the
queue believes. HTCondor has no dependencies between jobs: there the leaving coordinator hands in its follow-up,
and a run that was killed without notice waits for ``slcluster resume OUT --submit``.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from slcluster.archive import results_in, status
from slcluster.cluster.queues import Queue, State, queue_of
from slcluster.dispatch import active_client
from slcluster.errors import SlclusterError, StoreError, one_line
from slcluster.jobs.folder import RunFolder
from slcluster.store.lease import SILENCE_S, Lease

__all__ = ["lead", "n_blocks_done"]

log = logging.getLogger("slcluster")

#: Coordinators in a row that may end without a new block. One more follow-up would end as they did.
_FRUITLESS = 3

_REPORT_S = 2.0
_HELD_S = 5.0

#: Seconds that the queue gets to tell a cancelled coordinator. Who cancels may be on a machine that cannot ask it.
_SIGNAL_S = 10.0


def lead(run: RunFolder, work: Callable[[], None], *, stop_after_s: float | None = None) -> None:
    """Do a run's work as its coordinator.

    Parameters
    ----------
    run : RunFolder
    work : callable
        Computes what is missing.
    stop_after_s : float, optional
        Seconds after which to stop and leave the rest to the follow-up.

    Raises
    ------
    SlclusterError
        What the work raised; the run has failed then, and no follow-up goes on.
    KeyboardInterrupt
        This job is being stopped by somebody else than its own clock; a follow-up goes on unless the run was
        cancelled.
    """
    leader = _Leader(run)
    if run.is_cancelled:
        log.warning("this run was cancelled; to go on: slcluster resume %s --submit", run.out)
        return
    alarm = _Alarm(stop_after_s)
    outcome: dict[str, Any] = {"outcome": "finished"}
    try:
        leader.begin()
        work()
    except KeyboardInterrupt:
        outcome["outcome"] = "cancelled" if run.is_cancelled else "stopped"
        leader.leave(alarm.has_rung)
        if not alarm.has_rung:
            raise
    except Exception as error:
        outcome = {"outcome": "failed", "error": f"{one_line(error)}"}
        leader.call_off()
        raise
    else:
        leader.call_off()
    finally:
        alarm.stop()
        leader.end(outcome)


def n_blocks_done(run: RunFolder) -> int:
    """Blocks done of all results of a run."""
    return sum(status(path).n_done for path in results_in(run.out))


class _Alarm:
    """Stops this process in good order after a while, as Ctrl-C would."""

    def __init__(self, after_s: float | None) -> None:
        self.has_rung = False
        self._timer = None if after_s is None else threading.Timer(after_s, self._ring)
        if self._timer is not None:
            self._timer.daemon = True
            self._timer.start()

    def _ring(self) -> None:
        self.has_rung = True
        os.kill(
            os.getpid(), signal.SIGTERM
        )  # a lock that the main thread waits for is left for a signal alone

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()


class _Leader:
    """A coordinator's place in the chain of coordinators."""

    def __init__(self, run: RunFolder) -> None:
        self._run = run
        self._queue: Queue = queue_of(run.record()["kind"])
        self._job = self._queue.own_job()
        self._follow_up: str | None = None
        self._lease: Lease | None = None
        self._about: dict[str, Any] = {
            "job": self._job,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "started": time.time(),
        }
        self._stop = threading.Event()
        self._reporter = threading.Thread(target=self._report, name="slcluster-report", daemon=True)

    def begin(self) -> None:
        """Take over from the coordinator before, if there was one."""
        n_done = n_blocks_done(self._run)
        log.info("coordinator %s on %s, %d blocks done", self._job, self._about["host"], n_done)
        if self._queue.has_dependencies and self._job is not None and self._is_fruitful(n_done):
            self._hand_in(n_done, after=self._job)
        self._take_over()
        self._await_store()
        self._end_workers(self._run.coordinator())
        self._run.write_coordinator(self._about)
        self._reporter.start()

    def _take_over(self) -> None:
        """Be the only coordinator: a queue may believe that the one before has gone while it goes on."""
        has_told = False
        while self._lease is None:
            lease = Lease(self._run.path)
            try:
                self._lease = lease.__enter__()
            except StoreError as error:
                if isinstance(error.__cause__, OSError):
                    raise
                if not has_told:
                    log.warning("another coordinator is at work (%s)", one_line(error))
                    has_told = True
                self._pause()

    def _pause(self) -> None:
        if self._run.is_cancelled:
            raise KeyboardInterrupt
        time.sleep(_HELD_S)

    def leave(self, out_of_time: bool) -> None:
        """Stop before the run is over."""
        if self._run.is_cancelled:
            self.call_off()
        elif out_of_time and not self._queue.has_dependencies:
            n_done = n_blocks_done(self._run)
            if self._is_fruitful(n_done):
                self._hand_in(n_done, after=None)
        if self._follow_up is not None and not self._run.is_cancelled:
            log.info("coordinator %s stops; job %s goes on", self._job, self._follow_up)

    def call_off(self) -> None:
        """Nobody has to go on."""
        if self._follow_up is not None:
            with suppress(SlclusterError):  # it would start, find nothing to do, and end
                self._queue.cancel(self._follow_up)

    def end(self, outcome: dict[str, Any]) -> None:
        self._stop.set()
        if self._reporter.is_alive():
            self._reporter.join()
        if self._lease is None:
            return  # what the folder says is another one's
        with suppress(OSError):  # a full disk has been told already
            self._run.write_coordinator({**self._about, **outcome, "ended": time.time()})
        self._lease.__exit__(None, None, None)

    def _is_fruitful(self, n_done: int) -> bool:
        """Whether coordinators since somebody submitted the run, of which the last is this one, got on."""
        chain = [made["n_done"] for made in self._run.jobs()]
        if len(chain) >= _FRUITLESS and chain[-_FRUITLESS:] == [n_done] * _FRUITLESS:
            log.warning(
                "%d coordinators ended without a new block; this one is the last: see the logs, then "
                "slcluster resume %s --submit",
                _FRUITLESS - 1,
                self._run.out,
            )
            return False
        return True

    def _hand_in(self, n_done: int, *, after: str | None) -> None:
        if self._job is not None and any(made["follows"] == self._job for made in self._run.jobs()):
            return  # the batch system started this very job again
        try:
            self._follow_up = self._queue.submit(self._run.script, after=after)
        except SlclusterError as error:
            log.warning(
                "nobody will go on when this job ends early (%s); then: slcluster resume %s --submit",
                one_line(error),
                self._run.out,
            )
            return
        self._run.add_job(self._follow_up, n_done=n_done, follows=self._job or "?")
        log.info("job %s goes on if this one ends early", self._follow_up)

    def _await_store(self) -> None:
        """Somebody may compute a result without being a coordinator."""
        has_told = False
        while held := [found for found in map(status, results_in(self._run.out)) if _is_held(found)]:
            if not has_told:
                log.warning("%s is still computed by %s; waiting for its end", held[0].path, held[0].holder)
                has_told = True
            self._pause()

    def _end_workers(self, before: dict[str, Any]) -> None:
        """Workers of a coordinator that was killed wait for it for a minute, in places that are needed now."""
        if "ended" in before:
            return
        for job in before.get("workers", []):
            with suppress(SlclusterError):
                if self._queue.state(job).state in (State.WAITING, State.RUNNING):
                    self._queue.cancel(job)

    def _report(self) -> None:
        told: dict[str, Any] = {}
        cancelled_since: float | None = None
        while not self._stop.wait(_REPORT_S):
            if cancelled_since is None and self._run.is_cancelled:
                cancelled_since = time.monotonic()
            # Once: a second interrupt would cut off what the first began to put in order.
            if cancelled_since is not None and time.monotonic() - cancelled_since > _SIGNAL_S:
                log.warning("this run was cancelled, and no signal came of it; stopping")
                cancelled_since = float("inf")
                os.kill(os.getpid(), signal.SIGTERM)
            with suppress(Exception):  # a cluster on its way up or down
                now = _cluster_now()
                if now != told:
                    self._about.update(now)
                    self._run.write_coordinator(self._about)
                    told = now


def _is_held(found: Any) -> bool:
    return found.holder is not None and found.seconds_silent <= SILENCE_S


def _cluster_now() -> dict[str, Any]:
    """The cluster of the client that is active: its dashboard, its batch jobs, and the workers that are there."""
    client = active_client()
    if client is None:
        return {"workers": [], "n_workers": 0}
    jobs = getattr(client.cluster, "workers", {}).values()
    return {
        "dashboard": client.dashboard_link,
        "workers": [str(job.job_id) for job in jobs if getattr(job, "job_id", None)],
        "n_workers": len(client.nthreads()),
    }
