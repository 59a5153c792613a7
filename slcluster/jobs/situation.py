"""How a submitted run stands: what its queue says of its jobs, and what its coordinator says of itself."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

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
    folder : str
    queue : str
        Name of the queue's kind, for people.
    is_cancelled : bool
    jobs : dict of str to JobState
        The last coordinators that were handed in, at most two, and what the queue says of them.
    coordinator : dict
        What the last coordinator to run said of itself.
    tunnel : str or None
        Command that brings the dashboard to the machine it is typed on.
    """

    folder: str
    queue: str
    is_cancelled: bool
    jobs: dict[str, JobState]
    coordinator: dict[str, Any]
    tunnel: str | None

    @property
    def is_going_on(self) -> bool:
        """Whether a coordinator is in the queue, or may be: the queue cannot always be asked from here."""
        states = {found.state for found in self.jobs.values()}
        is_over = self.coordinator.get("outcome") in ("finished", "failed", "cancelled")
        return bool(states & {State.WAITING, State.RUNNING}) or (State.UNKNOWN in states and not is_over)

    @property
    def error(self) -> str | None:
        """What the run failed with."""
        return self.coordinator.get("error")

    def __str__(self) -> str:
        lines = [f"  submitted to {self.queue}{', then cancelled' if self.is_cancelled else ''}"]
        lines += [f"    job {job}: {found}" for job, found in self.jobs.items()]
        about = self.coordinator
        if "ended" in about:
            since = time.time() - about["ended"]
            lines.append(
                f"    coordinator {about['job']} {about['outcome']} {since:.0f} s ago on {about['host']}"
            )
        elif about:
            n_jobs = len(about.get("workers", ()))
            in_jobs = f" in {n_jobs} worker jobs" if n_jobs else ""
            lines.append(
                f"    coordinator {about['job']} on {about['host']}: {about.get('n_workers', 0)} workers{in_jobs}"
            )
        if self.error:
            lines.append(f"    failed: {self.error}")
        if self.tunnel:
            lines.append(f"    dashboard: {self.tunnel}\n      then open http://127.0.0.1:8787/status")
        return "\n".join(lines)


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
    return Situation(
        folder=str(run.path),
        queue=queue.title,
        is_cancelled=run.is_cancelled,
        jobs=jobs,
        coordinator=about,
        tunnel=_tunnel(record, about),
    )


def _tunnel(record: dict[str, Any], about: dict[str, Any]) -> str | None:
    """The dashboard listens on loopback of the coordinator's node, which the submitting machine leads to."""
    if "ended" in about or not about.get("dashboard"):
        return None
    port = urlsplit(about["dashboard"]).port
    user, gate, node = record["user"], record["host"], about["host"]
    through = "" if node in (gate, gate.partition(".")[0]) else f"-J {user}@{gate} "
    return f"ssh -N -L 8787:127.0.0.1:{port} {through}{user}@{node}"
