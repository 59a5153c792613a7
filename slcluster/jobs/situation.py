"""How a submitted run stands: what its queue says of its jobs, and what its coordinator says of itself."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from slcluster.archive import results_in
from slcluster.cluster.documents import read_yaml
from slcluster.cluster.queues import JobState, State, queue_of
from slcluster.jobs.folder import RunFolder

__all__ = ["Situation", "situation"]


@dataclass(frozen=True)
class Situation:
    """A submitted run. Printable.

    The queue is not the truth: a job that it has dropped may still compute, one that it calls running may hang. The
    result's own status says what is done and who gave the last sign of life.

    Attributes
    ----------
    out : str
        Where the result is, or the folder of results.
    queue : str
        Name of the queue's kind, for people.
    is_cancelled : bool
    jobs : dict of str to JobState
        The last coordinators that were handed in, at most two, and what the queue says of them.
    coordinator : dict
        What the last coordinator to run said of itself.
    tunnel : str or None
        Command that brings the dashboard to the machine it is typed on.
    last_line : str or None
        How the logs end, where a coordinator has left the queue without a word, or before it began.
    n_waiting : int
        Subjects of several of which no result has been begun.
    """

    out: str
    queue: str
    is_cancelled: bool
    jobs: dict[str, JobState]
    coordinator: dict[str, Any]
    tunnel: str | None
    last_line: str | None = None
    n_waiting: int = 0

    @property
    def is_going_on(self) -> bool:
        """Whether a coordinator is in the queue, or may be: the queue cannot always be asked from here."""
        states = {found.state for found in self.jobs.values()}
        is_over = self.outcome in ("finished", "failed", "cancelled")
        return bool(states & {State.WAITING, State.RUNNING}) or (State.UNKNOWN in states and not is_over)

    @property
    def error(self) -> str | None:
        """What the run failed with."""
        return self.coordinator.get("error")

    @property
    def outcome(self) -> str | None:
        """How the last coordinator ended: finished, failed, stopped or cancelled; None while it goes on."""
        return self.coordinator.get("outcome")

    def __str__(self) -> str:
        lines = [f"  submitted to {self.queue}{', then cancelled' if self.is_cancelled else ''}"]
        in_queue = {job: found for job, found in self.jobs.items() if found.state is not State.GONE}
        lines += [f"    job {job}: {found}" for job, found in in_queue.items()]
        lines += self._of_coordinator()
        if self.n_waiting:
            lines.append(f"    {self.n_waiting} more to come, of which nothing has been computed")
        if not in_queue and self.last_line:
            fate = "was killed" if self.coordinator else "never began"
            lines.append(f"    its coordinator {fate}; the log ends: {self.last_line}")
        if not in_queue and self.outcome != "finished":
            lines.append(
                f"    none of its jobs is in the queue; to go on: slcluster resume {self.out} --submit"
            )
        if self.tunnel and in_queue:
            lines.append(
                f"    dashboard: {self.tunnel}\n      then open http://127.0.0.1:8787/status or /slcluster/"
            )
        return "\n".join(lines)

    def _of_coordinator(self) -> list[str]:
        about = self.coordinator
        if not about:
            return []
        name = f"    coordinator {about['job']} on {about['host']}"
        if "ended" in about:
            since = time.time() - about["ended"]
            return [f"{name}: {self.outcome} {since:.0f} s ago{f'; {self.error}' if self.error else ''}"]
        if self.last_line:
            return [name]
        n_jobs = len(about.get("workers", ()))
        return [f"{name}: {about.get('n_workers', 0)} workers{f' in {n_jobs} jobs' if n_jobs else ''}"]


def situation(run: RunFolder) -> Situation:
    """Ask the queue and the run's folder how a submitted run stands.

    Raises
    ------
    StorePathError
        No run was submitted there.
    """
    record, about = run.record(), run.coordinator()
    queue = queue_of(record["kind"])
    jobs = {made["job"]: queue.state(made["job"]) for made in run.jobs()[-2:]}
    is_silent = "ended" not in about and all(found.state is State.GONE for found in jobs.values())
    return Situation(
        out=str(run.out),
        queue=queue.title,
        is_cancelled=run.is_cancelled,
        jobs=jobs,
        coordinator=about,
        tunnel=_tunnel(record, about),
        n_waiting=_n_waiting(run),
        last_line=run.last_line() if is_silent else None,
    )


def _n_waiting(run: RunFolder) -> int:
    """Of one subject the result's own status says enough."""
    job = read_yaml(run.job_file, "job file").data if run.job_file.exists() else {}
    stores = job.get("store")
    return max(0, len(stores) - len(results_in(run.out))) if isinstance(stores, list) and stores[1:] else 0


def _tunnel(record: dict[str, Any], about: dict[str, Any]) -> str | None:
    """The dashboard listens on loopback of the coordinator's node, which the submitting machine leads to."""
    if "ended" in about or not about.get("dashboard"):
        return None
    port = urlsplit(about["dashboard"]).port
    user, gate, node = record["user"], record["host"], about["host"]
    through = "" if node == gate else f"-J {user}@{gate} "
    return f"ssh -N -L 8787:127.0.0.1:{port} {through}{user}@{node}"
