"""What the queue and the logs say of our jobs, while we wait for the first worker."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

from slcluster.cluster.kinds import BatchProfile
from slcluster.cluster.queues import State, queue_of
from slcluster.cluster.systems import SYSTEMS
from slcluster.errors import SlclusterError

__all__ = ["Watch", "last_words"]


class Watch:
    """Our jobs in the queue, before the first worker is there.

    Parameters
    ----------
    cluster : Replacing
    profile : BatchProfile
    """

    def __init__(self, cluster: Any, profile: BatchProfile) -> None:
        self._cluster = cluster
        self._logs = profile.log_directory
        self._system = SYSTEMS[profile.kind]
        self._queue = queue_of(profile.kind)
        self._were_gone = False

    @property
    def _jobs(self) -> list[str]:
        return [str(job.job_id) for job in self._cluster.workers.values() if job.job_id]

    def look(self) -> None:
        """See whether there is still something to wait for.

        Raises
        ------
        SlclusterError
            All jobs have ended, or none will ever start.
        """
        jobs, stuck = self._jobs, None
        for job in jobs:
            found = self._queue.state(job)
            if found.state is State.GONE:
                continue
            if not re.search(self._system.stuck, found.said):
                self._were_gone = False
                return
            stuck = f"job {job} is {found}"
        if stuck:
            raise SlclusterError(
                f"{self._queue.title} will not start the jobs as they are: {stuck}; change what it names (walltime, "
                f"queue, account); {last_words(self._logs, jobs)}"
            )
        if self._were_gone:  # twice: a worker may just be connecting, and a job just be listed
            raise SlclusterError(
                f"batch jobs ended before a worker came ({', '.join(jobs)}): {last_words(self._logs, jobs)}; "
                "nodes must see the interpreter and reach this machine (see python, prologue and interface)"
            )
        self._were_gone = True

    def report(self) -> str:
        """What the queue says of the first jobs in it, on one line."""
        said = []
        for job in self._jobs:
            found = self._queue.state(job)
            if found.state is not State.GONE:
                said.append(f"job {job} {found}{self._why(job)}")
            if len(said) == 3:
                break
        return f"{self._queue.title} says: {', '.join(said)}" if said else "no job is left in the queue"

    def _why(self, job: str) -> str:
        """The reason for waiting, where it has to be asked for."""
        if not self._system.why:
            return ""
        *words, pattern = self._system.why
        try:
            answer = subprocess.run(
                [word.format(job=job) for word in words],
                capture_output=True,
                text=True,
                check=False,
                timeout=30,
            )
        except (OSError, subprocess.TimeoutExpired):
            return ""
        found = re.search(pattern, answer.stdout, re.MULTILINE)
        return f": {' '.join(found[1].split())}" if found else ""


def last_words(folder: str | None, jobs: list[str]) -> str:
    """The last line that one of the jobs left in a log, and where; or how to get one.

    Parameters
    ----------
    folder : str, optional
        Where logs are.
    jobs : list of str
        Their numbers, which are in the names of the logs.
    """
    if folder is None:
        return "give log_directory to keep what jobs print"
    numbers = "|".join(job.partition(".")[0] for job in jobs)
    logs = [
        path
        for path in Path(folder).expanduser().glob("*")
        if re.search(rf"(?<!\d)({numbers})(?!\d)", path.name)
    ]
    for path in sorted(logs, key=lambda path: path.stat().st_mtime, reverse=True):
        said = [line.strip() for line in path.read_text(errors="replace").split("\n") if line.strip()]
        if said:
            return f"{path} ends with: {said[-1]}"
    return f"nothing of theirs is in {folder}"
