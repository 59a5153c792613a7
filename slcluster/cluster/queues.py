"""What a batch system and its job logs say of our jobs, while we wait for them."""

from __future__ import annotations

import getpass
import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

from slcluster.cluster.kinds import BatchProfile
from slcluster.cluster.systems import SYSTEMS, System
from slcluster.errors import SlclusterError

__all__ = ["Watch", "last_words", "listed_jobs"]


def listed_jobs(system: System) -> dict[str, str] | None:
    """The user's unfinished jobs.

    Parameters
    ----------
    system : System

    Returns
    -------
    dict of str to str, or None
        Number of a job → its line in the listing. None where the system does not answer.
    """
    command = system.listing.format(user=shlex.quote(getpass.getuser()))
    try:
        answer = subprocess.run(command, shell=True, capture_output=True, text=True, check=False, timeout=30)
    except subprocess.TimeoutExpired:
        return None
    lines = [" ".join(line.split()) for line in answer.stdout.splitlines()]
    if answer.returncode and not lines:
        # Several systems call an empty queue an error, and say so in words of their own.
        return {} if re.search(r"no (\w+ )?jobs?|unfinished job", answer.stderr, re.IGNORECASE) else None
    return {found[0]: line for line in lines if (found := re.match(r"\d+", line))}


def last_words(folder: str | None, jobs: list[str]) -> str:
    """The last line that one of the jobs left in a log, and where; or how to get one."""
    if folder is None:
        return "give log_directory to keep what jobs print"
    logs = [
        path
        for path in Path(folder).expanduser().glob("*")
        if any(re.search(rf"(?<!\d){job}(?!\d)", path.name) for job in jobs)
    ]
    for path in sorted(logs, key=lambda path: path.stat().st_mtime, reverse=True):
        lines = path.read_text(errors="replace").split("\n")
        said = [line.strip() for line in lines if line.strip()]
        if said:
            return f"{path} ends with: {said[-1]}"
    return f"nothing of theirs is in {folder}"


class Watch:
    """Our jobs in the queue, before the first worker is there.

    Parameters
    ----------
    cluster : Replacing
    profile : BatchProfile
    """

    def __init__(self, cluster: Any, profile: BatchProfile) -> None:
        self._cluster = cluster
        self._profile = profile
        self._system = SYSTEMS[profile.kind]
        self._was_gone = False

    @property
    def _jobs(self) -> list[str]:
        """Numbers of the jobs, without what some systems append to them."""
        return [str(job.job_id).partition(".")[0] for job in self._cluster.workers.values() if job.job_id]

    def look(self) -> None:
        """See whether there is still something to wait for.

        Raises
        ------
        SlclusterError
            All jobs have ended, or none will ever start.
        """
        listed = listed_jobs(self._system)
        if listed is None:
            return
        ours = [listed[job] for job in self._jobs if job in listed]
        if ours and all(re.search(self._system.stuck, line) for line in ours):
            raise SlclusterError(
                f"{self._system.title} holds the jobs back for an error: {ours[0]}; "
                + last_words(self._profile.log_directory, self._jobs)
            )
        if not ours and self._was_gone:  # twice: a worker may just be connecting, and a job just be listed
            raise SlclusterError(
                f"batch jobs ended before a worker came ({', '.join(self._jobs)}): "
                f"{last_words(self._profile.log_directory, self._jobs)}; nodes must see the interpreter and "
                "reach this machine (see python, prologue and interface)"
            )
        self._was_gone = not ours

    def report(self) -> str:
        """What the queue says, on one line."""
        listed = listed_jobs(self._system)
        if listed is None:
            return f"{self._system.title} does not answer"
        ours = [listed[job] for job in self._jobs if job in listed]
        more = f" (and {len(ours) - 3} more)" if len(ours) > 3 else ""
        return (
            f"{self._system.title} lists: {'; '.join(ours[:3])}{more}"
            if ours
            else "no job is left in the queue"
        )
